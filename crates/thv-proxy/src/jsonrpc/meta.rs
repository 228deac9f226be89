//! `_meta`: finding a member of it, and adding one, without touching the rest of the message.

use bytes::Bytes;

use super::{Envelope, Parser, Span, decodes_to, member_span, unquoted};

/// A name stands there twice: which of its values counts, every parser decides for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Twice;

/// The value of `name` in `object`, whether the name is written with escapes or without; `None` when it is absent or
/// stands there twice.
pub(crate) fn member_however_written<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    one_member(object, name).ok().flatten()
}

/// As [`member_however_written`], where it matters which of the two it is.
pub(crate) fn one_member<'a>(object: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, Twice> {
    let mut parser = Parser::new(object);
    parser.skip_space();
    if parser.peek() != Some(b'{') {
        return Ok(None);
    }
    let (mut found, mut twice) = (None, false);
    let read = parser.object(|key, value| {
        let key = key.span.of(object);
        if unquoted(key) == name.as_bytes() || decodes_to(key, name) {
            twice |= found.replace(value).is_some();
        }
        Ok(())
    });
    if twice {
        return Err(Twice);
    }
    Ok(found.filter(|_| read.is_ok()).map(|span: Span| span.of(object)))
}

/// `params._meta` of a message; empty when there is none.
pub(crate) fn meta_in<'a>(message: &'a [u8], envelope: &Envelope) -> &'a [u8] {
    let params = envelope.params_in(message);
    member_span(params, "_meta").map_or(&[], |span| span.of(params))
}

/// The message with `members`, text of the form `"a":1,"b":2`, in `params._meta`. What stands in the place of an object
/// and is none is replaced.
pub(crate) fn with_meta(message: &[u8], envelope: &Envelope, members: &str) -> Bytes {
    let whole = Span {
        start: 0,
        end: message.len(),
    };
    let Some(params) = envelope.params.filter(|span| message[span.start] != b'n') else {
        let added = format!(r#""params":{{"_meta":{{{members}}}}}"#);
        return match envelope.params {
            // It is null.
            Some(span) => splice(message, span, format!(r#"{{"_meta":{{{members}}}}}"#).as_bytes()),
            None => insert(message, whole, &added),
        };
    };
    let meta = member_span(params.of(message), "_meta").map(|span| Span {
        start: params.start + span.start,
        end: params.start + span.end,
    });
    match meta {
        Some(meta) if message[meta.start] == b'{' => insert(message, meta, members),
        Some(meta) => splice(message, meta, format!("{{{members}}}").as_bytes()),
        None => insert(message, params, &format!(r#""_meta":{{{members}}}"#)),
    }
}

/// The message with `members` as the first of the object at `object`.
pub(crate) fn insert(message: &[u8], object: Span, members: &str) -> Bytes {
    let open = object.start
        + message[object.start..]
            .iter()
            .position(|&byte| byte == b'{')
            .unwrap_or(0);
    let first = message[open + 1..object.end]
        .iter()
        .find(|byte| !byte.is_ascii_whitespace());
    let comma: &[u8] = if first == Some(&b'}') { b"" } else { b"," };
    [&message[..=open], members.as_bytes(), comma, &message[open + 1..]]
        .concat()
        .into()
}

fn splice(message: &[u8], span: Span, with: &[u8]) -> Bytes {
    [&message[..span.start], with, &message[span.end..]]
        .concat()
        .into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jsonrpc::scan;

    #[test]
    fn a_member_is_added_whatever_is_there_and_nothing_else_changes() {
        for (before, after) in [
            (json!({}), json!({"_meta": {"k": 1}})),
            (json!(null), json!({"_meta": {"k": 1}})),
            (
                json!({"a": "{\"_meta\":{}}"}),
                json!({"a": "{\"_meta\":{}}", "_meta": {"k": 1}}),
            ),
            (json!({"_meta": {}}), json!({"_meta": {"k": 1}})),
            (
                json!({"_meta": {"x": [2]}, "a": 1}),
                json!({"_meta": {"k": 1, "x": [2]}, "a": 1}),
            ),
            (json!({"_meta": null}), json!({"_meta": {"k": 1}})),
        ] {
            let message = json!({"jsonrpc": "2.0", "id": 7, "method": "m", "params": before}).to_string();
            let changed = with_meta(message.as_bytes(), &scan(message.as_bytes()).unwrap(), r#""k":1"#);
            let changed: Value = serde_json::from_slice(&changed).unwrap();
            assert_eq!(changed["params"], after, "{message}");
            assert_eq!((&changed["id"], &changed["method"]), (&json!(7), &json!("m")));
        }
        let bare = br#" { "jsonrpc":"2.0","method":"m"}"#;
        let changed = with_meta(bare, &scan(bare).unwrap(), r#""k":1"#);
        let changed: Value = serde_json::from_slice(&changed).unwrap();
        assert_eq!(
            changed,
            json!({"jsonrpc": "2.0", "method": "m", "params": {"_meta": {"k": 1}}})
        );
    }

    #[test]
    fn a_name_is_found_however_it_is_written() {
        let object = br#"{"a\/b": 1, "c": 2, "d": 3, "\u0064": 4}"#;
        assert_eq!(member_however_written(object, "a/b"), Some(&b"1"[..]));
        assert_eq!(member_however_written(object, "c"), Some(&b"2"[..]));
        assert_eq!(member_however_written(object, "d"), None, "it stands there twice");
        assert_eq!(
            (one_member(object, "d"), one_member(object, "e")),
            (Err(Twice), Ok(None))
        );
        assert_eq!(member_however_written(b"[]", "c"), None);
    }
}
