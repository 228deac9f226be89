//! Names of members that other parsers read in other ways: written with escapes, in another case, twice.

use super::{each_member, text, unquoted};

/// Whether a JSON string with escapes means `text`.
pub(crate) fn decodes_to(string: &[u8], text: &str) -> bool {
    memchr::memchr(b'\\', string).is_some()
        && serde_json::from_slice::<String>(string).is_ok_and(|decoded| decoded == text)
}

/// Whether some parsers, Go's among them, would take `name` for `known`, which it is not: letters that differ in case, and
/// the two letters beyond ASCII that have one of ASCII as their other case.
pub(super) fn differs_in_case(name: &[u8], known: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    let Ok(text) = std::str::from_utf8(name) else {
        return false;
    };
    text != known && text.chars().map(fold).eq(known.chars().map(fold))
}

/// Whether a member name, quotes included, is not `known` and could be taken for it: it is written with escapes, or
/// differs in case.
pub(crate) fn could_mean(name: &[u8], known: &str) -> bool {
    if memchr::memchr(b'\\', name).is_none() {
        return differs_in_case(unquoted(name), known);
    }
    text(name).is_some_and(|decoded| decoded == known || differs_in_case(decoded.as_bytes(), known))
}

/// Whether parsers may disagree about the value of `name` in `object`: it stands there twice, or with a name that could
/// be taken for it.
pub(crate) fn is_unclear(object: &[u8], name: &str) -> bool {
    let (mut found, mut unclear) = (false, false);
    each_member(object, |other, _| {
        unclear |= if unquoted(other) == name.as_bytes() {
            std::mem::replace(&mut found, true)
        } else {
            could_mean(other, name)
        };
    });
    unclear
}
