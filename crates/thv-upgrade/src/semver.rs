//! Versions by the rules of Go's `golang.org/x/mod/semver`: `v1` and `v1.2` are versions too, numbers have any length, and
//! build metadata does not count.

use std::cmp::Ordering;

/// A version; parts of the text that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version<'a> {
    numbers: [&'a str; 3],
    /// Without its hyphen; empty for a release.
    prerelease: &'a str,
}

impl<'a> Version<'a> {
    /// Reads a version with or without its `v`; a `V` counts as one. `None` for what is no version.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let text = match text.as_bytes().first()? {
            b'v' | b'V' => &text[1..],
            b'0'..=b'9' => text,
            _ => return None,
        };
        let mut numbers = ["0"; 3];
        let (major, mut rest) = number(text)?;
        numbers[0] = major;
        for part in &mut numbers[1..] {
            if rest.is_empty() {
                return Some(Self {
                    numbers,
                    prerelease: "",
                });
            }
            let (digits, after) = number(rest.strip_prefix('.')?)?;
            *part = digits;
            rest = after;
        }
        let (rest, build) = match rest.split_once('+') {
            Some((before, build)) => (before, Some(build)),
            None => (rest, None),
        };
        if build.is_some_and(|build| !build.split('.').all(is_identifier)) {
            return None;
        }
        let prerelease = match rest {
            "" => "",
            rest => rest.strip_prefix('-').filter(|text| {
                text.split('.')
                    .all(|part| is_identifier(part) && !has_leading_zero(part))
            })?,
        };
        Some(Self { numbers, prerelease })
    }

    /// Which one is later.
    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        let mut order = Ordering::Equal;
        for (mine, theirs) in self.numbers.iter().zip(other.numbers) {
            order = order.then_with(|| compare_numbers(mine, theirs));
        }
        order.then_with(|| compare_prereleases(self.prerelease, other.prerelease))
    }
}

/// The number at the beginning, and what follows it. More than one digit must not begin with a zero.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (!digits.is_empty() && (digits == "0" || !digits.starts_with('0'))).then_some((digits, rest))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && is_number(text)
}

/// Numbers without leading zeros: the longer one is larger, whatever its size.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// A release is later than its prereleases; numbers come before words.
fn compare_prereleases(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (is_number(a), is_number(b)) {
                (true, true) => compare_numbers(a, b),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_their_order() {
        let ascending = [
            "v0",
            "0.0.1",
            "0.1",
            "1.0.0-0",
            "1.0.0-2",
            "1.0.0-10",
            "1.0.0--",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "V1",
            "1.0.1",
            "1.2",
            "1.10",
            "20260101",
            "18446744073709551616",
            "100000000000000000000",
        ];
        for (at, one) in ascending.iter().enumerate() {
            for (other_at, other) in ascending.iter().enumerate() {
                let (a, b) = (Version::parse(one).unwrap(), Version::parse(other).unwrap());
                assert_eq!(a.cmp(&b), at.cmp(&other_at), "{one} and {other}");
            }
        }
    }

    #[test]
    fn the_short_forms_and_build_metadata_are_the_same_version() {
        for (one, other) in [
            ("v1", "1.0.0"),
            ("1.2", "V1.2.0"),
            ("1.0.0+a.01", "1"),
            ("1.0.0-rc.1+b", "1.0.0-rc.1"),
        ] {
            let (a, b) = (Version::parse(one).unwrap(), Version::parse(other).unwrap());
            assert_eq!(a.cmp(&b), Ordering::Equal, "{one} and {other}");
        }
    }

    #[test]
    fn what_is_no_version() {
        for text in [
            "",
            "v",
            "latest",
            "v1.",
            "01",
            "1.02",
            "2026.01.02",
            "1.2.3.4",
            "1-rc",
            "1.2-rc",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3-a..b",
            "1.2.3+",
            "1.2.3_a",
            "vv1",
            "1.2.3-é",
            "1+a",
        ] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }
}
