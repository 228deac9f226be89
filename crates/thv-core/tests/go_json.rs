//! JSON as Go writes it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use thv_core::gojson::{Json, to_string, to_string_pretty};

#[derive(Serialize)]
struct Sample {
    text: &'static str,
    empty: Vec<u8>,
    none: BTreeMap<String, String>,
    numbers: Vec<f64>,
    small: f32,
    raw: Box<RawValue>,
    nested: Vec<Vec<u8>>,
}

#[test]
fn a_struct_is_written_as_go_writes_it() {
    let sample = Sample {
        text: "<a href=\"x\">&\u{2028}\u{2029}\t\u{8}\u{c}\u{1}\u{7f}é</a>",
        empty: vec![],
        none: BTreeMap::new(),
        numbers: vec![
            0.0,
            -0.0,
            1.0,
            0.1,
            1e20,
            1e21,
            1.5e-7,
            1e-6,
            -2.5e300,
            123_456_789.0,
        ],
        small: 0.1,
        raw: RawValue::from_string(
            r#"{ "z" : [ ] , "a":{ }, "s":"\u00e9 <&> \" }{", "n":1.50, "l":[1, {"k":null}]}"#.into(),
        )
        .unwrap(),
        nested: vec![vec![], vec![1]],
    };
    let pretty = r#"{
  "text": "\u003ca href=\"x\"\u003e\u0026\u2028\u2029\t\b\f\u0001DELé\u003c/a\u003e",
  "empty": [],
  "none": {},
  "numbers": [
    0,
    -0,
    1,
    0.1,
    100000000000000000000,
    1e+21,
    1.5e-7,
    0.000001,
    -2.5e+300,
    123456789
  ],
  "small": 0.1,
  "raw": {
    "z": [],
    "a": {},
    "s": "\u00e9 \u003c\u0026\u003e \" }{",
    "n": 1.50,
    "l": [
      1,
      {
        "k": null
      }
    ]
  },
  "nested": [
    [],
    [
      1
    ]
  ]
}"#
    .replace("DEL", "\u{7f}");
    assert_eq!(to_string_pretty(&sample).unwrap(), pretty);
    let compact = to_string(&sample).unwrap();
    assert!(compact.contains(
        r#""raw":{"z":[],"a":{},"s":"\u00e9 \u003c\u0026\u003e \" }{","n":1.50,"l":[1,{"k":null}]}"#
    ));
    assert_eq!(
        Json::parse(pretty.as_bytes()).unwrap().get("none"),
        Some(&Json::Object(vec![]))
    );
}

#[test]
fn escapes_are_decoded_as_go_decodes_them() {
    for (text, expected) in [
        (r#""\u00e9\n\/""#, "é\n/"),
        (r#""\ud83d\ude00""#, "😀"),
        (r#""\ud83d""#, "\u{fffd}"),
        (r#""\ud83dx""#, "\u{fffd}x"),
        (r#""\ud83d\u0041""#, "\u{fffd}A"),
        (r#""\ude00""#, "\u{fffd}"),
    ] {
        assert_eq!(
            Json::parse(text.as_bytes()).unwrap().as_str(),
            Some(expected),
            "{text}"
        );
    }
}

/// As `serde_json` hands numbers over when some crate of a build asks it to keep their digits.
#[test]
fn numbers_arrive_whatever_features_serde_json_has() {
    use serde::Deserialize;
    use serde::de::value::{Error, MapDeserializer};
    let number = |text: &'static str| {
        let map = [("$serde_json::private::Number", text)].into_iter();
        Json::deserialize(MapDeserializer::<_, Error>::new(map)).unwrap()
    };
    assert_eq!(number("1.50"), Json::parse(b"1.50").unwrap());
    assert!(number("what").as_object().is_some());
}

#[test]
fn repeated_keys_are_kept_and_the_last_counts() {
    let json = Json::parse(br#"{"a":1,"b":2,"a":3}"#).unwrap();
    assert_eq!(json.get("a").and_then(Json::as_i64), Some(3));
    assert_eq!(to_string(&json).unwrap(), r#"{"a":1,"b":2,"a":3}"#);
}
