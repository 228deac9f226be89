//! What keys and values may look like: the rules of Kubernetes.

use crate::error::{LabelError, shown};

const MAX_KEY: usize = 253;
const MAX_NAME: usize = 63;
const NAME_RULE: &str = "it has only letters, digits, '-', '_' and '.', with a letter or digit at both ends";

/// Reads a label of a user, `key=value`. The value may be empty, and may not contain `=`.
pub fn parse_user_label(text: &str) -> Result<(String, String), LabelError> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| LabelError::NoValue { label: shown(text) })?;
    validate_key(key)?;
    validate_value(key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Whether `key` is a label's key: at most 253 characters, an optional prefix (a DNS subdomain and `/`), and a name of
/// at most 63 characters.
pub fn validate_key(key: &str) -> Result<(), LabelError> {
    broken_key_rule(key).map_or(Ok(()), |rule| {
        Err(LabelError::Key {
            key: shown(key),
            rule,
        })
    })
}

/// Whether `value` is a label's value: empty, or at most 63 characters with a letter or digit at both ends. `key` is for
/// the message.
pub fn validate_value(key: &str, value: &str) -> Result<(), LabelError> {
    let rule = if value.is_empty() {
        None
    } else if value.len() > MAX_NAME {
        Some("it has at most 63 characters")
    } else if is_name(value) {
        None
    } else {
        Some(NAME_RULE)
    };
    rule.map_or(Ok(()), |rule| {
        Err(LabelError::Value {
            key: shown(key),
            value: shown(value),
            rule,
        })
    })
}

fn broken_key_rule(key: &str) -> Option<&'static str> {
    if key.len() > MAX_KEY {
        return Some("it has at most 253 characters");
    }
    let name = match key.split_once('/') {
        Some((prefix, _)) if !is_subdomain(prefix) => {
            return Some("its prefix is a DNS subdomain in lower case, such as example.com");
        }
        Some((_, name)) => name,
        None => key,
    };
    if name.contains('/') {
        Some("it has at most one '/'")
    } else if name.is_empty() {
        Some("it has a name")
    } else if name.len() > MAX_NAME {
        Some("its name has at most 63 characters")
    } else if is_name(name) {
        None
    } else {
        Some(NAME_RULE)
    }
}

fn is_name(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|b| inside(*b))
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| {
        let bytes = label.as_bytes();
        let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !bytes.is_empty()
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
            && bytes.iter().all(|b| inside(*b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_users_are_read() {
        for (text, key, value) in [
            ("env=dev", "env", "dev"),
            ("env=", "env", ""),
            ("example.com/team=a_b-c.d", "example.com/team", "a_b-c.d"),
            ("A1=Z", "A1", "Z"),
        ] {
            assert_eq!(parse_user_label(text), Ok((key.to_owned(), value.to_owned())));
        }
    }

    #[test]
    fn an_invalid_label_is_refused_by_the_part_that_is_wrong() {
        let long = "a".repeat(64);
        for (text, code) in [
            ("env", "invalid_label"),
            ("", "invalid_label"),
            ("=dev", "invalid_label_key"),
            ("-env=dev", "invalid_label_key"),
            ("env.=dev", "invalid_label_key"),
            ("a/b/c=dev", "invalid_label_key"),
            ("/b=dev", "invalid_label_key"),
            ("Ex.com/b=dev", "invalid_label_key"),
            ("a..b/c=dev", "invalid_label_key"),
            ("a/=dev", "invalid_label_key"),
            (" env=dev", "invalid_label_key"),
            ("é=dev", "invalid_label_key"),
            (&format!("{long}=x"), "invalid_label_key"),
            (&format!("{}/a=x", "a.".repeat(126) + "a"), "invalid_label_key"),
            ("env=-dev", "invalid_label_value"),
            ("env=a=b", "invalid_label_value"),
            ("env=a b", "invalid_label_value"),
            (&format!("env={long}"), "invalid_label_value"),
        ] {
            assert_eq!(parse_user_label(text).unwrap_err().code(), code, "{text}");
        }
        let error = parse_user_label("env=a\u{1b}[2J").unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
    }
}
