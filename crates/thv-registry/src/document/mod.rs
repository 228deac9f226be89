//! Registry documents: the upstream format, with what ToolHive adds to it.
//!
//! Pure: from bytes to a [`Catalogue`], with no look at files, network or time.

mod bounds;
mod convert;
mod extension;
mod image;
mod parse;
mod wire;

pub use bounds::{MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_SERVERS};
#[cfg(feature = "catalog")]
pub(crate) use parse::parse_trusted;
pub use parse::{Accept, parse_document};
pub(crate) use parse::{add_server, check_depth, limit_of_servers};
