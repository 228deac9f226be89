//! JSON exactly as Go's `encoding/json` writes it.
//!
//! ToolHive's files are written by Go: `<`, `>` and `&` inside strings are escaped, floats have Go's form, and
//! sections that a program passes on keep the order of their keys and their escapes. Everything here keeps order by
//! itself, in lists of pairs, and [`Json::parse`] is a reader of its own: the features `preserve_order` and
//! `arbitrary_precision` of `serde_json`, chosen elsewhere in a build, change nothing.
//!
//! ```
//! use thv_core::gojson::{self, Json};
//!
//! let json = Json::parse(br#"{"b":"thv & co","a":[],"n":1.50}"#)?;
//! assert_eq!(
//!     gojson::to_string_pretty(&json)?,
//!     "{\n  \"b\": \"thv \\u0026 co\",\n  \"a\": [],\n  \"n\": 1.50\n}"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod duration;
mod format;
mod key;
mod parse;
mod string;
mod time;
mod trouble;
mod value;

pub use duration::{GoDuration, ParseDurationError};
pub use format::{to_string, to_string_pretty};
pub use key::same_key;
pub use parse::{MAX_DEPTH, MAX_VALUES, ParseJsonError};
pub use string::JsonString;
pub use time::{GoTime, ParseTimeError, rfc3339_nano};
pub use trouble::trouble;
pub use value::{Json, JsonNumber};
