//! A JSON value that forgets nothing that matters.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::JsonString;
use super::format::{go_float, string_literal};
use super::parse::{self, ParseJsonError};

/// A JSON value whose objects keep their order (and repeated keys), whose numbers keep their text and whose strings keep
/// their escapes.
///
/// `Debug` shows shapes and keys, never strings: a value of this type often is a section of somebody's
/// configuration, and such sections hold credentials.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Json {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(JsonNumber),
    /// A string, decoded.
    String(JsonString),
    /// A list.
    Array(Vec<Json>),
    /// Pairs in the order in which they were written.
    Object(Vec<(JsonString, Json)>),
}

/// A number of a JSON document, kept as its text so that no digit is lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonNumber(String);

impl Json {
    /// Reads the first JSON value of `bytes`; what follows it is ignored, as Go's decoder does.
    ///
    /// Bytes that are not UTF-8 become U+FFFD, as in Go. Nesting is limited to [`MAX_DEPTH`](super::MAX_DEPTH), and the
    /// number of values to [`MAX_VALUES`](super::MAX_VALUES).
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseJsonError> {
        parse::parse(bytes)
    }

    /// The value of `key`, if this is an object that has it. Of repeated keys the last counts.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.as_object()?
            .iter()
            .rev()
            .find(|(name, _)| *name == *key)
            .map(|(_, value)| value)
    }

    /// The value of `key` for changing it; see [`get`](Self::get).
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Json> {
        match self {
            Self::Object(pairs) => pairs
                .iter_mut()
                .rev()
                .find(|(name, _)| *name == *key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The pairs, if this is an object.
    pub fn as_object(&self) -> Option<&[(JsonString, Json)]> {
        match self {
            Self::Object(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The items, if this is an array.
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, if this is one that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text of this value without white space, with every escape as it was written.
    fn write_compact(&self, text: &mut String) {
        let string = |string: &JsonString, text: &mut String| match string.literal() {
            Some(literal) => text.push_str(literal),
            None => text.push_str(&string_literal(string)),
        };
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => text.push_str(number.as_str()),
            Self::String(value) => string(value, text),
            Self::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    text.push(if at == 0 { '[' } else { ',' });
                    item.write_compact(text);
                }
                text.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Self::Object(pairs) => {
                for (at, (key, value)) in pairs.iter().enumerate() {
                    text.push(if at == 0 { '{' } else { ',' });
                    string(key, text);
                    text.push(':');
                    value.write_compact(text);
                }
                text.push_str(if pairs.is_empty() { "{}" } else { "}" });
            }
        }
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl JsonNumber {
    /// Only for text that the parser has found to be a number.
    pub(super) fn from_valid(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The number as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The integer, if it is one that fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// The integer, if it is one that fits.
    pub fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// The nearest floating point number, if it is finite.
    pub fn as_f64(&self) -> Option<f64> {
        self.0.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Self {
        Self::Number(JsonNumber(value.to_string()))
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        Self::Number(JsonNumber(value.to_string()))
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}

impl From<String> for Json {
    fn from(value: String) -> Self {
        Self::String(value.into())
    }
}

impl<K: Into<JsonString>> FromIterator<(K, Json)> for Json {
    fn from_iter<I: IntoIterator<Item = (K, Json)>>(pairs: I) -> Self {
        Self::Object(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }
}

impl FromIterator<Json> for Json {
    fn from_iter<I: IntoIterator<Item = Json>>(items: I) -> Self {
        Self::Array(items.into_iter().collect())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => f.write_str(number.as_str()),
            Self::String(text) if text.is_empty() => f.write_str("\"\""),
            Self::String(_) => f.write_str("\"…\""),
            Self::Array(items) => f.debug_list().entries(items).finish(),
            Self::Object(pairs) => {
                let shown = pairs.iter().map(|(key, value)| (key.as_str(), value));
                f.debug_map().entries(shown).finish()
            }
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => match text.literal() {
                None => serializer.serialize_str(text),
                Some(literal) => serialize_raw(literal.to_owned(), serializer),
            },
            Self::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            // A serializer takes keys as text only.
            Self::Object(pairs) if pairs.iter().any(|(key, _)| key.literal().is_some()) => {
                let mut text = String::new();
                self.write_compact(&mut text);
                serialize_raw(text, serializer)
            }
            Self::Object(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (key, value) in pairs {
                    map.serialize_entry(key.as_str(), value)?;
                }
                map.end()
            }
        }
    }
}

impl Serialize for JsonNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A native number wherever that loses nothing, so that serializers of other formats can be used too.
        if let Some(value) = self.as_i64().filter(|value| value.to_string() == self.0) {
            return serializer.serialize_i64(value);
        }
        if let Some(value) = self.as_u64().filter(|value| value.to_string() == self.0) {
            return serializer.serialize_u64(value);
        }
        if let Some(value) = self.as_f64().filter(|value| go_float(*value) == self.0) {
            return serializer.serialize_f64(value);
        }
        serialize_raw(self.0.clone(), serializer)
    }
}

/// Text that is JSON already, as it is.
fn serialize_raw<S: Serializer>(text: String, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::value::RawValue::from_string(text)
        .map_err(serde::ser::Error::custom)?
        .serialize(serializer)
}

/// What the map is called as which `serde_json` hands over a number with its feature `arbitrary_precision`.
const NUMBER_TOKEN: &str = "$serde_json::private::Number";

/// Numbers that are not integers get Go's form this way, and strings the escapes that Go chooses; only [`Json::parse`]
/// keeps how they were written.
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_none<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        Json::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        if value.is_finite() {
            Ok(Json::Number(JsonNumber(go_float(value))))
        } else {
            Err(E::custom("a number that is not finite"))
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Json>()? {
            if pairs.is_empty()
                && key == NUMBER_TOKEN
                && let Some(text) = value.as_str()
                && let Ok(number @ Json::Number(_)) = Json::parse(text.as_bytes())
            {
                return Ok(number);
            }
            pairs.push((key.into(), value));
        }
        Ok(Json::Object(pairs))
    }
}
