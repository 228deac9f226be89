//! How Go structs become Rust structs: keys in the order of the fields, Go's rules of what is left out, keys matched
//! without regard to case, and unknown keys kept.

use std::collections::BTreeMap;
use std::fmt;

use crate::gojson::{GoDuration, GoTime, Json, JsonString, same_key};

/// Keys that this version does not know, kept in the order in which they were found.
///
/// `Debug` shows the keys only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ExtraKeys(pub Vec<(JsonString, Json)>);

impl ExtraKeys {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }
}

impl fmt::Debug for ExtraKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

/// What is wrong with a value, and where. Never the value itself: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct FieldError {
    path: String,
    problem: String,
}

impl FieldError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            problem: problem.into(),
        }
    }

    pub(crate) fn expected(what: &str, found: &Json) -> Self {
        Self::new(format!("expected {what}, found {}", found.kind()))
    }

    pub(crate) fn within(mut self, step: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => step.to_owned(),
            path if path.starts_with('[') => format!("{step}{path}"),
            path => format!("{step}.{path}"),
        };
        self
    }

    /// Where it is, as `remote_auth_config.timeout` or `middleware_configs[2].type`; empty for the document itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there, as a phrase.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

/// A value of a field: how it is read from JSON and written to it.
pub(crate) trait Field: Sized {
    /// Whether null takes a value away where it is optional, as it does from a pointer in Go.
    const NULL_CLEARS: bool = true;

    /// Reads a value that is not null; null leaves a field at its default, as in Go.
    fn read(json: Json) -> Result<Self, FieldError>;

    /// Reads a value over what an earlier, repeated key made of the field, as Go does: of what is not a pointer, list or
    /// map null changes nothing, objects are merged, and all else is replaced.
    fn read_over(&mut self, json: Json) -> Result<(), FieldError> {
        if !json.is_null() {
            *self = Self::read(json)?;
        }
        Ok(())
    }

    /// The value as JSON.
    fn write(&self) -> Json;
    /// Whether Go's `omitempty` leaves it out.
    fn is_empty(&self) -> bool;
}

impl Field for String {
    fn read(json: Json) -> Result<Self, FieldError> {
        match json {
            Json::String(text) => Ok(text.into_string()),
            other => Err(FieldError::expected("a string", &other)),
        }
    }
    fn write(&self) -> Json {
        self.as_str().into()
    }
    fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

impl Field for bool {
    fn read(json: Json) -> Result<Self, FieldError> {
        json.as_bool()
            .ok_or_else(|| FieldError::expected("true or false", &json))
    }
    fn write(&self) -> Json {
        (*self).into()
    }
    fn is_empty(&self) -> bool {
        !*self
    }
}

macro_rules! integer_field {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            fn read(json: Json) -> Result<Self, FieldError> {
                match &json {
                    Json::Number(number) => number.as_i64().and_then(|value| value.try_into().ok()).ok_or_else(|| {
                        FieldError::new(format!(
                            "expected an integer from {} to {}, found {}", <$ty>::MIN, <$ty>::MAX, shown(number.as_str())
                        ))
                    }),
                    other => Err(FieldError::expected("an integer", other)),
                }
            }
            fn write(&self) -> Json {
                i64::from(*self).into()
            }
            fn is_empty(&self) -> bool {
                *self == 0
            }
        }
    )*};
}
integer_field!(u16, i32, i64);

impl Field for GoDuration {
    fn read(json: Json) -> Result<Self, FieldError> {
        i64::read(json).map(Self::from_nanos)
    }
    fn write(&self) -> Json {
        self.as_nanos().into()
    }
    fn is_empty(&self) -> bool {
        *self == Self::ZERO
    }
}

impl Field for GoTime {
    fn read(json: Json) -> Result<Self, FieldError> {
        match &json {
            Json::String(text) => text
                .parse()
                .map_err(|error: crate::gojson::ParseTimeError| FieldError::new(error.to_string())),
            other => Err(FieldError::expected("a time", other)),
        }
    }
    fn write(&self) -> Json {
        self.to_string().into()
    }
    fn is_empty(&self) -> bool {
        false
    }
}

impl Field for Json {
    fn read(json: Json) -> Result<Self, FieldError> {
        Ok(json)
    }
    fn read_over(&mut self, json: Json) -> Result<(), FieldError> {
        *self = json;
        Ok(())
    }
    fn write(&self) -> Json {
        self.clone()
    }
    fn is_empty(&self) -> bool {
        self.is_null()
    }
}

/// A pointer in Go: absent is nil, present is written whatever it holds.
impl<T: Field> Field for Option<T> {
    fn read(json: Json) -> Result<Self, FieldError> {
        T::read(json).map(Some)
    }
    fn read_over(&mut self, json: Json) -> Result<(), FieldError> {
        match self {
            _ if json.is_null() && T::NULL_CLEARS => *self = None,
            _ if json.is_null() => {}
            Some(value) => value.read_over(json)?,
            None => *self = Some(T::read(json)?),
        }
        Ok(())
    }
    fn write(&self) -> Json {
        self.as_ref().map_or(Json::Null, Field::write)
    }
    fn is_empty(&self) -> bool {
        self.is_none()
    }
}

impl<T: Field + Default> Field for Vec<T> {
    fn read(json: Json) -> Result<Self, FieldError> {
        let mut list = Self::new();
        list.read_over(json)?;
        Ok(list)
    }
    /// Go reads into the items that are there.
    fn read_over(&mut self, json: Json) -> Result<(), FieldError> {
        let items = match json {
            Json::Null => Vec::new(),
            Json::Array(items) => items,
            other => return Err(FieldError::expected("an array", &other)),
        };
        self.truncate(items.len());
        for (at, item) in items.into_iter().enumerate() {
            if at == self.len() {
                self.push(T::default());
            }
            self[at]
                .read_over(item)
                .map_err(|error| error.within(&format!("[{at}]")))?;
        }
        Ok(())
    }
    fn write(&self) -> Json {
        self.iter().map(Field::write).collect()
    }
    fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

/// Go sorts the keys of a map by their bytes, and so does `BTreeMap`.
impl<T: Field + Default> Field for BTreeMap<String, T> {
    fn read(json: Json) -> Result<Self, FieldError> {
        let mut map = Self::new();
        map.read_over(json)?;
        Ok(map)
    }
    /// Keys are added; the value of one that is there is replaced.
    fn read_over(&mut self, json: Json) -> Result<(), FieldError> {
        let pairs = match json {
            Json::Null => {
                self.clear();
                return Ok(());
            }
            Json::Object(pairs) => pairs,
            other => return Err(FieldError::expected("an object", &other)),
        };
        for (key, json) in pairs {
            let mut value = T::default();
            value
                .read_over(json)
                .map_err(|error| error.within(&shown(&key)))?;
            self.insert(key.into_string(), value);
        }
        Ok(())
    }
    fn write(&self) -> Json {
        self.iter()
            .map(|(key, value)| (key.as_str(), value.write()))
            .collect()
    }
    fn is_empty(&self) -> bool {
        BTreeMap::is_empty(self)
    }
}

/// A text from outside as a message can show it: escaped and cut.
pub(crate) fn shown(text: &str) -> String {
    const MAX: usize = 40;
    let mut shown: String = text.chars().take(MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Where among `known` the key stands that Go's decoder takes `found` for. It is looked for from `from` on first.
pub(crate) fn position(found: &str, known: &[&str], from: usize) -> Option<usize> {
    // What programs write is equal and in order, which is soon found out.
    let (before, after) = known.split_at(from.min(known.len()));
    let equal = |keys: &[&str]| keys.iter().position(|key| *key == found);
    equal(after)
        .map(|at| before.len() + at)
        .or_else(|| equal(before))
        .or_else(|| known.iter().position(|key| same_key(found, key)))
}

/// How a field of a `T` is read over what it is.
pub(crate) type ReadOver<T> = fn(&mut T, Json) -> Result<(), FieldError>;

/// Shows what of a URL (or an image reference) is no credential: not who asks, and not the query.
///
/// ```
/// let shown = format!("{:?}", thv_core::WithoutCredentials("https://me:pw@a.example/mcp?key=s3cret"));
/// assert_eq!(shown, "\"https://…@a.example/mcp?…\"");
/// ```
pub struct WithoutCredentials<'a>(pub &'a str);

impl fmt::Debug for WithoutCredentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = match self.0.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, self.0),
        };
        let (path, hidden) = match rest.find(['?', '#']) {
            Some(at) => (&rest[..at], true),
            None => (rest, false),
        };
        let authority = path.find('/').unwrap_or(path.len());
        // An image has its '@' after the path, before its digest.
        let shown = match path[..authority].rfind('@') {
            Some(at) if scheme.is_some() => format!("…{}", &path[at..]),
            _ => path.to_owned(),
        };
        let scheme = scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
        write!(
            f,
            "{:?}",
            format!("{scheme}{shown}{}", if hidden { "?…" } else { "" })
        )
    }
}

/// Shows references to secrets, and of what is none only that it is there.
pub(crate) struct References<'a>(pub(crate) &'a [String]);

impl fmt::Debug for References<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self
            .0
            .iter()
            .map(|text| match crate::SecretReference::parse(text) {
                Ok(reference) => reference.to_string(),
                Err(_) => "(redacted)".to_owned(),
            });
        f.debug_list().entries(shown).finish()
    }
}

/// Shows that a secret is there, not what it is; of a map its keys.
pub(crate) struct Redacted<'a, T>(pub(crate) &'a T);

impl<T: Field> fmt::Debug for Redacted<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.write() {
            Json::Object(pairs) => f
                .debug_set()
                .entries(pairs.iter().map(|(key, _)| key.as_str()))
                .finish(),
            _ if self.0.is_empty() => f.write_str("(none)"),
            _ => f.write_str("(redacted)"),
        }
    }
}

/// Defines a struct of a run config: `field: Type = "key"`, then in brackets `always` (no `omitempty`), and what `Debug`
/// shows: of a `secret` nothing, of a `url` no credentials, of `references` nothing that is none. Adds the field `extra` for unknown keys, and everything that reading and writing need.
macro_rules! go_struct {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident : $ty:ty = $key:literal $([$($flag:ident)+])? ; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Default)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
            /// Keys that this version does not know, in the order in which they were found.
            pub extra: $crate::ExtraKeys,
        }

        impl $name {
            /// The keys in the order in which they are written.
            const KEYS: &'static [&'static str] = &[$($key),*];

            /// How the field of each key is read, in the same order.
            const READERS: &'static [$crate::record::ReadOver<Self>] =
                &[$(|this, value| $crate::record::Field::read_over(&mut this.$field, value)),*];

            /// Whether nothing of it differs from its default.
            pub fn is_default(&self) -> bool {
                *self == Self::default()
            }

            pub(crate) fn read_pairs_over(
                &mut self,
                pairs: Vec<($crate::gojson::JsonString, $crate::gojson::Json)>,
            ) -> Result<(), $crate::record::FieldError> {
                let mut next = 0;
                for (key, value) in pairs {
                    match $crate::record::position(&key, Self::KEYS, next) {
                        Some(at) => {
                            Self::READERS[at](self, value).map_err(|error| error.within(Self::KEYS[at]))?;
                            next = at + 1;
                        }
                        None => self.extra.0.push((key, value)),
                    }
                }
                Ok(())
            }

            pub(crate) fn write_pairs(&self) -> Vec<($crate::gojson::JsonString, $crate::gojson::Json)> {
                let mut pairs = Vec::with_capacity(Self::KEYS.len() + self.extra.0.len());
                $(
                    if $crate::record::go_struct!(@always $($($flag)+)?) || !$crate::record::Field::is_empty(&self.$field) {
                        pairs.push(($key.into(), $crate::record::Field::write(&self.$field)));
                    }
                )*
                let is_known = |key: &str| Self::KEYS.iter().any(|known| $crate::gojson::same_key(key, known));
                pairs.extend(self.extra.0.iter().filter(|(key, _)| !is_known(key)).cloned());
                pairs
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let mut shown = f.debug_struct(stringify!($name));
                $(
                    if !$crate::record::Field::is_empty(&self.$field) {
                        $crate::record::go_struct!(@debug shown, self, $field, $($($flag)+)?);
                    }
                )*
                if !self.extra.is_empty() {
                    shown.field("extra", &self.extra);
                }
                shown.finish()
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                ::serde::Serialize::serialize(&$crate::record::Field::write(self), serializer)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let json = <$crate::gojson::Json as ::serde::Deserialize>::deserialize(deserializer)?;
                $crate::record::Field::read(json).map_err(::serde::de::Error::custom)
            }
        }
    };
    (@always) => { false };
    (@always always $($rest:ident)*) => { true };
    (@always $other:ident $($rest:ident)*) => { $crate::record::go_struct!(@always $($rest)*) };
    (@debug $shown:ident, $self:ident, $field:ident,) => {
        $shown.field(stringify!($field), &$self.$field);
    };
    (@debug $shown:ident, $self:ident, $field:ident, secret $($rest:ident)*) => {
        $shown.field(stringify!($field), &$crate::record::Redacted(&$self.$field));
    };
    (@debug $shown:ident, $self:ident, $field:ident, url $($rest:ident)*) => {
        $shown.field(stringify!($field), &$crate::record::WithoutCredentials(&$self.$field));
    };
    (@debug $shown:ident, $self:ident, $field:ident, references $($rest:ident)*) => {
        $shown.field(stringify!($field), &$crate::record::References(&$self.$field));
    };
    (@debug $shown:ident, $self:ident, $field:ident, $other:ident $($rest:ident)*) => {
        $crate::record::go_struct!(@debug $shown, $self, $field, $($rest)*);
    };
}
pub(crate) use go_struct;

/// Reads and writes a struct of `go_struct!` as a field; left out where the struct says so itself. After `=>` stands
/// what changes its pairs before they are read.
macro_rules! go_struct_field {
    ($($name:ty),+ $(,)?) => { $crate::record::go_struct_field!($($name),+ => |_| {}); };
    ($($name:ty),+ => $repair:expr) => {$(
        impl $crate::record::Field for $name {
            fn read(json: $crate::gojson::Json) -> Result<Self, $crate::record::FieldError> {
                let mut this = Self::default();
                match json {
                    $crate::gojson::Json::Null => Err($crate::record::FieldError::expected("an object", &json)),
                    json => this.read_over(json).map(|()| this),
                }
            }
            fn read_over(&mut self, json: $crate::gojson::Json) -> Result<(), $crate::record::FieldError> {
                match json {
                    $crate::gojson::Json::Object(mut pairs) => {
                        let repair: fn(&mut Vec<($crate::gojson::JsonString, $crate::gojson::Json)>) = $repair;
                        repair(&mut pairs);
                        self.read_pairs_over(pairs)
                    }
                    $crate::gojson::Json::Null => Ok(()),
                    other => Err($crate::record::FieldError::expected("an object", &other)),
                }
            }
            fn write(&self) -> $crate::gojson::Json {
                $crate::gojson::Json::Object(self.write_pairs())
            }
            /// Go never leaves a struct out; pointers to structs are `Option`s here.
            fn is_empty(&self) -> bool {
                false
            }
        }
    )+};
}
pub(crate) use go_struct_field;
