//! Times as Go's `time.Time` writes them.

use std::fmt;
use std::str::FromStr;

use jiff::tz::Offset;
use jiff::{Timestamp, ZonedDateTime, civil};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant and the offset it was written with, as Go's `time.Time` in JSON: RFC 3339 with up to nine digits
/// of a second, trailing zeros trimmed. The default is Go's zero time, `0001-01-01T00:00:00Z`, which means "none".
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GoTime {
    timestamp: Timestamp,
    offset: Offset,
}

/// A text that is not an RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a time such as 2026-08-21T10:12:13.5+02:00")]
pub struct ParseTimeError;

/// Seconds from the Unix epoch to Go's zero time.
const ZERO_SECOND: i64 = -62_135_596_800;

/// `time` as Go writes it: RFC 3339 with nanoseconds, trailing zeros trimmed, `Z` or `±hh:mm`.
pub fn rfc3339_nano(time: &ZonedDateTime) -> String {
    GoTime::from(time).to_string()
}

impl GoTime {
    /// Whether this is Go's zero time, which stands for "none".
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The instant.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The instant in a zone with the offset that it was written with.
    pub fn to_zoned(&self) -> ZonedDateTime {
        self.timestamp.to_zoned_datetime(self.offset.to_time_zone())
    }
}

impl Default for GoTime {
    fn default() -> Self {
        Self {
            timestamp: Timestamp::from_second(ZERO_SECOND).unwrap_or(Timestamp::MIN),
            offset: Offset::UTC,
        }
    }
}

impl From<&ZonedDateTime> for GoTime {
    fn from(time: &ZonedDateTime) -> Self {
        Self {
            timestamp: time.timestamp(),
            offset: time.offset(),
        }
    }
}

impl From<Timestamp> for GoTime {
    fn from(timestamp: Timestamp) -> Self {
        Self {
            timestamp,
            offset: Offset::UTC,
        }
    }
}

impl fmt::Display for GoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.offset.to_datetime(self.timestamp);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            local.year(),
            local.month(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second()
        )?;
        if local.subsec_nanosecond() != 0 {
            let digits = format!("{:09}", local.subsec_nanosecond());
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        let minutes = self.offset.seconds() / 60;
        if minutes == 0 {
            return f.write_str("Z");
        }
        let sign = if minutes < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
    }
}

impl fmt::Debug for GoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GoTime {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        parse(text).ok_or(ParseTimeError)
    }
}

fn parse(text: &str) -> Option<GoTime> {
    let (date, rest) = text.split_once('T')?;
    let (year, month_day) = date.split_once('-')?;
    let (month, day) = month_day.split_once('-')?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (clock, None),
    };
    let (hour, minute_second) = clock.split_once(':')?;
    let (minute, second) = minute_second.split_once(':')?;
    let two = |text: &str| i8::try_from(digits(text, 2)?).ok();
    let local = civil::DateTime::new(
        i16::try_from(digits(year, 4)?).ok()?,
        two(month)?,
        two(day)?,
        two(hour)?,
        two(minute)?,
        two(second)?,
        fraction.map_or(Some(0), nanoseconds)?,
    )
    .ok()?;
    let offset = parse_offset(zone)?;
    Some(GoTime {
        timestamp: offset.to_timestamp(local).ok()?,
        offset,
    })
}

fn parse_offset(zone: &str) -> Option<Offset> {
    if zone == "Z" {
        return Some(Offset::UTC);
    }
    let (sign, zone) = match zone.split_at_checked(1)? {
        ("+", zone) => (1, zone),
        ("-", zone) => (-1, zone),
        _ => return None,
    };
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

fn digits(text: &str, count: usize) -> Option<i32> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Digits beyond the ninth are cut off, as Go does it.
fn nanoseconds(fraction: &str) -> Option<i32> {
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    nine.parse().ok()
}

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        for text in [
            "0001-01-01T00:00:00Z",
            "2026-08-21T10:12:13.123456789+02:00",
            "2026-08-21T10:12:19.5+02:00",
            "2026-08-21T10:12:19-09:30",
            "1969-12-31T23:59:59.000000001Z",
        ] {
            assert_eq!(text.parse::<GoTime>().unwrap().to_string(), text);
        }
        assert!("0001-01-01T00:00:00Z".parse::<GoTime>().unwrap().is_zero());
        assert_eq!(
            "2026-08-21T10:12:19.500+00:00"
                .parse::<GoTime>()
                .unwrap()
                .to_string(),
            "2026-08-21T10:12:19.5Z"
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-08-21",
            "2026-08-21T10:12:13",
            "2026-13-21T10:12:13Z",
            "2026-08-21T10:12:13.Z",
            "2026-08-21T10:12:13+2:00",
            "2026-08-21T10:12:13+99:00",
            "2026-08-21T10:12:13é",
            "+026-08-21T10:12:13Z",
        ] {
            assert!(text.parse::<GoTime>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_zone_is_written_by_its_offset() {
        let time: GoTime = "2026-08-21T10:12:13.1+02:00".parse().unwrap();
        assert_eq!(rfc3339_nano(&time.to_zoned()), "2026-08-21T10:12:13.1+02:00");
    }
}
