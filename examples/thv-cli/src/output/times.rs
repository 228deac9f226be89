//! Points in time as Go's default text shows them.

use jiff::{Timestamp, ZonedDateTime, tz::TimeZone};
use thv::core::gojson::GoTime;

/// `2006-01-02 15:04:05.999999999 -0700 MST`.
pub(crate) fn go_text(time: &GoTime) -> String {
    if time.is_zero() {
        return "0001-01-01 00:00:00 +0000 UTC".to_owned();
    }
    let zoned = local_where_it_agrees(time.to_zoned());
    let fraction = match zoned.subsec_nanosecond() {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    let offset = zoned.strftime("%z").to_string();
    let name = zoned.strftime("%Z").to_string();
    // A zone that is only an offset has no name: Go shows the offset twice.
    let name = if name.starts_with(['+', '-']) {
        &offset
    } else {
        &name
    };
    format!(
        "{}{fraction} {offset} {name}",
        zoned.strftime("%Y-%m-%d %H:%M:%S")
    )
}

/// `2006-01-02 15:04:05`.
pub(crate) fn short(time: &GoTime) -> String {
    if time.is_zero() {
        return "0001-01-01 00:00:00".to_owned();
    }
    time.to_zoned().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `1d 2h 3m` since `start`.
pub(crate) fn uptime(start: &GoTime, now: Timestamp) -> String {
    let minutes = (now.as_second() - start.timestamp().as_second()).max(0) / 60;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m"),
        (0, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h {minutes}m"),
    }
}

fn local_where_it_agrees(time: ZonedDateTime) -> ZonedDateTime {
    let local = time.with_time_zone(TimeZone::system());
    if local.offset() == time.offset() {
        local
    } else {
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_gos_form() {
        let time = |text: &str| text.parse::<GoTime>().unwrap();
        assert_eq!(go_text(&GoTime::default()), "0001-01-01 00:00:00 +0000 UTC");
        assert_eq!(
            go_text(&time("2026-08-21T10:12:19.5+05:45")),
            "2026-08-21 10:12:19.5 +0545 +0545"
        );
        assert_eq!(short(&time("2026-08-21T10:12:19.5+05:45")), "2026-08-21 10:12:19");
    }

    #[test]
    fn uptime_has_days_hours_and_minutes() {
        let start: GoTime = "2026-08-21T10:00:00Z".parse().unwrap();
        for (now, text) in [
            ("2026-08-21T10:00:59Z", "0m"),
            ("2026-08-21T12:03:00Z", "2h 3m"),
            ("2026-08-22T12:03:00Z", "1d 2h 3m"),
            ("2026-08-20T00:00:00Z", "0m"),
        ] {
            assert_eq!(uptime(&start, now.parse().unwrap()), text);
        }
    }
}
