//! How much is read.

/// The largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 32 * 1024 * 1024;

/// The most servers that a registry may have.
pub const MAX_SERVERS: usize = 10_000;

/// The deepest nesting of lists and objects.
pub const MAX_DEPTH: usize = 64;

/// The longest name of an entry, in bytes.
pub(super) const MAX_NAME: usize = 200;

/// Whether lists and objects of JSON text are nested deeper than `limit`. Text that is no JSON may give either answer.
pub(super) fn nests_deeper(bytes: &[u8], limit: usize) -> bool {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(bytes, at + 1),
            _ => {}
        }
        at += 1;
    }
    false
}

/// Where the string that has begun ends: the place of its quote, or the end of the text.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_of_strings() {
        for (text, deeper) in [
            (r"[[[]]]", true),
            (r#"[{"a":1},{"b":"[[[[{{{{"},["]\"[[["]]"#, false),
            (r#"["\\",[[]]]"#, true),
            ("[],[],[],[]", false),
            ("\"[[[", false),
            ("\"\\", false),
        ] {
            assert_eq!(nests_deeper(text.as_bytes(), 2), deeper, "{text}");
        }
    }
}
