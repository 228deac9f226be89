//! Ids in messages that cannot be read whole: cut off, or not quite JSON.
//!
//! Only strings and brackets are looked at, so that neither a number that is none nor a name that stands twice hides
//! whose answer it was.

use super::unquoted;

/// The values of `id` at the top level of a message whose end may be missing or broken. What stands before the first
/// bracket is passed over; of a batch, the ids of its messages.
pub fn ids_at_start(fragment: &[u8]) -> Vec<&[u8]> {
    let mut ids = Vec::new();
    let Some(mut at) = memchr::memchr2(b'{', b'[', fragment) else {
        return ids;
    };
    let level = level(fragment[at]);
    let mut depth = 0usize;
    while let Some(&byte) = fragment.get(at) {
        match byte {
            b'"' => {
                let Some(end) = string_end(fragment, at) else {
                    break;
                };
                if depth == level && is_id(&fragment[at..end]) {
                    ids.extend(value_behind(fragment, end));
                }
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    ids
}

/// As [`ids_at_start`], for a message whose beginning is missing.
pub fn ids_at_end(fragment: &[u8]) -> Vec<&[u8]> {
    let mut ids = Vec::new();
    let Some(mut at) = memchr::memrchr2(b'}', b']', fragment) else {
        return ids;
    };
    let level = level(fragment[at]);
    let mut depth = 0usize;
    loop {
        match fragment[at] {
            b'"' => {
                let Some(start) = string_start(fragment, at) else {
                    break;
                };
                if depth == level && is_id(&fragment[start..=at]) {
                    ids.extend(value_behind(fragment, at + 1));
                }
                at = start;
            }
            b'}' | b']' => depth += 1,
            b'{' | b'[' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if at == 0 || depth == 0 {
            break;
        }
        at -= 1;
    }
    ids
}

fn level(bracket: u8) -> usize {
    if matches!(bracket, b'[' | b']') { 2 } else { 1 }
}

fn is_id(name: &[u8]) -> bool {
    unquoted(name) == b"id" || super::decodes_to(name, "id")
}

/// Behind the closing quote of the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The opening quote of the string that ends with the quote at `end`.
fn string_start(bytes: &[u8], end: usize) -> Option<usize> {
    let mut before = end;
    loop {
        let quote = memchr::memrchr(b'"', &bytes[..before])?;
        let escapes = bytes[..quote]
            .iter()
            .rev()
            .take_while(|&&byte| byte == b'\\')
            .count();
        if escapes % 2 == 0 {
            return Some(quote);
        }
        before = quote;
    }
}

/// The whole string or number behind the colon at `at`.
fn value_behind(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let skip = |at: usize| {
        let space = bytes
            .get(at..)?
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace());
        Some(at + space.count())
    };
    let colon = skip(at)?;
    if bytes.get(colon) != Some(&b':') {
        return None;
    }
    let start = skip(colon + 1)?;
    if bytes.get(start) == Some(&b'"') {
        return Some(&bytes[start..string_end(bytes, start)?]);
    }
    let len = bytes[start..]
        .iter()
        .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'e' | b'E'))?;
    (len > 0).then(|| &bytes[start..start + len])
}
