use proptest::prelude::*;

use super::*;

fn check(message: &str, expected: Result<Kind, ScanError>) {
    assert_eq!(
        scan(message.as_bytes()).map(|envelope| envelope.kind()),
        expected,
        "{message}"
    );
}

fn refused(message: &str) {
    assert!(scan(message.as_bytes()).is_err(), "{message}");
}

#[test]
fn kinds_are_told_apart() {
    check(r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#, Ok(Kind::Request));
    check(
        r#"{"jsonrpc":"2.0","method":"a","params":{}}"#,
        Ok(Kind::Notification),
    );
    check(r#"{"jsonrpc":"2.0","id":"x","result":null}"#, Ok(Kind::Response));
    check(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, Ok(Kind::Response));
    check(
        r#"[{"jsonrpc":"2.0","id":1,"method":"a"}]"#,
        Err(ScanError::Batch),
    );
}

#[test]
fn what_is_no_message_is_refused() {
    for message in [
        "",
        " ",
        "null",
        "{",
        "}",
        "{}",
        "{\"jsonrpc\":\"2.0\"}",
        "\"x\"",
        "{]",
        "[",
        "[1,]",
        r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","result":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":1,"error":2}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":3}"#,
        r#"{"jsonrpc":"2.0","id":01,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":1.,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":+1,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a"} x"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a",}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a\x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a\u12g4"}"#,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\nb\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\0b\"}",
    ] {
        refused(message);
    }
    assert!(matches!(
        scan(b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}"),
        Err(ScanError::Encoding { .. })
    ));
}

#[test]
fn a_second_id_cannot_be_smuggled() {
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"a","id":2}"#,
        Err(ScanError::Duplicate),
    );
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"a","\u0069d":2}"#,
        Err(ScanError::EscapedName),
    );
    check(
        r#"{"jsonrpc":"2.0","x":1,"x":2,"method":"a"}"#,
        Err(ScanError::Duplicate),
    );
    check(
        r#"{"jsonrpc":"2.0","method":"a","params":{"id":1,"id":2}}"#,
        Ok(Kind::Notification),
    );
}

#[test]
fn depth_and_members_are_bounded() {
    let nested = |depth: usize| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"a","params":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    check(&nested(MAX_DEPTH), Ok(Kind::Notification));
    check(&nested(MAX_DEPTH + 2), Err(ScanError::TooDeep));
    let many = (0..40)
        .map(|index| format!(",\"k{index}\":0"))
        .collect::<Vec<_>>()
        .concat();
    check(
        &format!(r#"{{"jsonrpc":"2.0","method":"a"{many}}}"#),
        Err(ScanError::TooManyMembers),
    );
}

#[test]
fn members_are_found_where_they_are() {
    let message = br#" { "jsonrpc" : "2.0" , "params":{"a":[1,{"id":9}]},"id" : "a\"b" ,"method":"m" } "#;
    let envelope = scan(message).unwrap();
    assert_eq!(envelope.id_in(message), br#""a\"b""#);
    assert_eq!(envelope.method_in(message), b"m");
    assert_eq!(envelope.params_in(message), br#"{"a":[1,{"id":9}]}"#);
    assert!(!envelope.line_breaks);
    assert!(
        scan(b"{\"jsonrpc\":\"2.0\",\n\"method\":\"m\"}")
            .unwrap()
            .line_breaks
    );
    assert_eq!(member(br#"{"a":{"b":1},"c":"d"}"#, "c"), Some(&br#""d""#[..]));
    assert_eq!(member(br#"{"a":1,"a":2}"#, "a"), None);
    assert_eq!(member(b"[1]", "a"), None);
}

#[test]
fn the_id_is_found_in_the_beginning_of_a_message() {
    assert_eq!(
        id_in_fragment(br#"{"jsonrpc":"2.0","id":"p7","result":{"a":"bbbb"#),
        Some(&br#""p7""#[..])
    );
    assert_eq!(id_in_fragment(br#"{"jsonrpc":"2.0","id":"p7"#), None);
    assert_eq!(id_in_fragment(br#"{"jsonrpc":"2.0","id":12"#), None);
    assert_eq!(id_in_fragment(b"garbage"), None);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,80}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::hash_map(".{0,12}", inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_serde_json_on_what_is_json(value in json(), pretty: bool, cut in any::<prop::sample::Index>(), byte: u8) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        let wrap = |inner: &[u8]| [br#"{"jsonrpc":"2.0","method":"m","params":["#, inner, b"]}"].concat();
        let message = wrap(&text);
        let envelope = scan(&message).unwrap();
        let params: serde_json::Value = serde_json::from_slice(envelope.params_in(&message)).unwrap();
        prop_assert_eq!(&params[0], &serde_json::from_slice::<serde_json::Value>(&text).unwrap());

        let mut broken = message.clone();
        let at = cut.index(broken.len());
        broken[at] = byte;
        // Numbers out of range are well-formed JSON that serde_json does not read as f64, and lone surrogates are
        // well-formed escapes that it refuses: acceptance by it must imply acceptance as JSON here.
        if serde_json::from_slice::<serde_json::Value>(&broken).is_ok() {
            let outcome = scan(&broken);
            prop_assert!(!matches!(outcome, Err(ScanError::Syntax { .. } | ScanError::Encoding { .. })), "{:?}", outcome);
        } else if scan(&broken).is_ok() {
            prop_assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&broken).is_ok());
        }
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = scan(&bytes);
        let _ = id_in_fragment(&bytes);
        let _ = member(&bytes, "id");
    }
}
