//! The one place where run configurations are built.
//!
//! [`build`] is pure but for what it reads through [`Files`]: it touches nothing, chooses no port and asks no engine.

mod build;
mod env;
mod files;
mod forward_headers;
mod labels;
mod permissions;
mod run_request;
mod server;
mod volumes;

pub(crate) use build::{RuntimeChoice, Sources, build, set_ports};
pub(crate) use files::SystemFiles;
pub use run_request::RunRequest;

use files::Files;
#[cfg(test)]
use files::MemoryFiles;

use crate::Error;

/// The error of a part of a request, named as the command line names it.
fn invalid(what: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::Invalid {
        what: what.into(),
        detail: detail.into(),
    }
}

/// A text from outside as a message can show it: escaped and cut.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().count() > 80 {
        shown.push('…');
    }
    shown
}
