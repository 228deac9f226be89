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
    for other in [
        "ID",
        "Method",
        "PARAMS",
        "param\u{17f}",
        "re\u{17f}ult",
        "Error",
        "JsonRPC",
    ] {
        check(
            &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","{other}":2}}"#),
            Err(ScanError::Case),
        );
    }
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"a","idx":2,"i":3,"methöd":4,"params":{"ID":5}}"#,
        Ok(Kind::Request),
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
fn the_id_is_found_in_what_cannot_be_read() {
    fn check(fragment: &str, at_start: &[&str], at_end: &[&str]) {
        let text = |ids: Vec<&[u8]>| -> Vec<String> {
            ids.iter()
                .map(|id| String::from_utf8_lossy(id).into_owned())
                .collect()
        };
        assert_eq!(text(ids_at_start(fragment.as_bytes())), at_start, "{fragment}");
        assert_eq!(text(ids_at_end(fragment.as_bytes())), at_end, "{fragment}");
    }
    let deep = format!(
        r#"{{"result":{}{},"id":"p"}}"#,
        "[".repeat(2000),
        "]".repeat(2000)
    );
    check(
        r#"{"jsonrpc":"2.0","id":"p7","result":{"a":"bbbb"#,
        &[r#""p7""#],
        &[],
    );
    check(r#"{"jsonrpc":"2.0","id":"p7"#, &[], &[]);
    check(r#"{"jsonrpc":"2.0","id":12"#, &[], &[]);
    check("garbage", &[], &[]);
    check("", &[], &[]);
    check(r#"bb\"],"x":1},"jsonrpc":"2.0","id" : "p7"}"#, &[], &[r#""p7""#]);
    check(
        r#"{"id":"inner"},"id":"p7","t":"}{\"id\":\"x\"\\"}"#,
        &[r#""inner""#],
        &[r#""p7""#],
    );
    check(r#"{"a":{"id":1},"b":[{"id":2}],"c":"\"id\":3"}"#, &[], &[]);
    check(r#"{"a":NaN,"id":4,"x":1}"#, &["4"], &["4"]);
    check(r#"log: {"\u0069d":"p","a":1}"#, &[r#""p""#], &[r#""p""#]);
    check(r#"[{"id":1,"x":{"id":2}},{"id":3}]"#, &["1", "3"], &["3", "1"]);
    check(&deep, &[r#""p""#], &[r#""p""#]);
}

#[test]
fn escaped_names_near_the_top_of_params_are_noticed() {
    for (params, expected) in [
        (r#"{"requestId":1}"#, false),
        (r#"{"a":"\u0041","b":{"c":{"d\n":1}}}"#, false),
        (r#"{"request\u0049d":1}"#, true),
        (r#"{"_meta":{"x":1,"progress\u0054oken":1}}"#, true),
    ] {
        let message = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{params}}}"#);
        assert_eq!(
            scan(message.as_bytes()).unwrap().escaped_names,
            expected,
            "{params}"
        );
    }
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
        let _ = (ids_at_start(&bytes), ids_at_end(&bytes));
        let _ = member(&bytes, "id");
    }
}

#[test]
fn the_first_byte_that_ends_a_run_is_found_in_a_word() {
    for filler in [b'a', 0x20, 0x7f, 0x80, 0xff] {
        for (at, byte) in (0..WORD).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
            for behind in [filler, b'"', 0x01] {
                let mut word = [filler; WORD];
                word[at..].fill(behind);
                word[at] = byte;
                let expected = word.iter().position(|&byte| special(byte) == 1);
                let found = special_in(u64::from_le_bytes(word)).trailing_zeros() as usize / 8;
                assert_eq!(Some(found).filter(|&at| at < WORD), expected, "{word:?}");
            }
        }
    }
}
