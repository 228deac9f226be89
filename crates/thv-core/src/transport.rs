//! How a server speaks, and how its proxy does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::gojson::Json;
use crate::record::{Field, FieldError};

/// How the MCP server itself is spoken to. The default is what a configuration means that does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportType {
    /// JSON-RPC lines on standard input and output.
    #[default]
    Stdio,
    /// HTTP with server-sent events (revision 2024-11-05).
    Sse,
    /// Streamable HTTP.
    StreamableHttp,
    /// The inspector's own; read, never created.
    Inspector,
}

/// How the proxy of a stdio server speaks to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyMode {
    /// HTTP with server-sent events.
    Sse,
    /// Streamable HTTP.
    #[default]
    StreamableHttp,
}

/// A text that names no transport or proxy mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{text}\": use {choices}")]
pub struct ParseTransportError {
    what: &'static str,
    text: String,
    choices: &'static str,
}

impl TransportType {
    /// The spelling in files and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Sse => "sse",
            Self::StreamableHttp => "streamable-http",
            Self::Inspector => "inspector",
        }
    }
}

impl ProxyMode {
    /// The spelling in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::StreamableHttp => "streamable-http",
        }
    }
}

impl FromStr for TransportType {
    type Err = ParseTransportError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "stdio" => Ok(Self::Stdio),
            "sse" => Ok(Self::Sse),
            "streamable-http" => Ok(Self::StreamableHttp),
            "inspector" => Ok(Self::Inspector),
            _ => Err(ParseTransportError {
                what: "transport",
                text: shown(text),
                choices: "stdio, sse or streamable-http",
            }),
        }
    }
}

impl FromStr for ProxyMode {
    type Err = ParseTransportError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sse" => Ok(Self::Sse),
            "streamable-http" => Ok(Self::StreamableHttp),
            _ => Err(ParseTransportError {
                what: "proxy mode",
                text: shown(text),
                choices: "sse or streamable-http",
            }),
        }
    }
}

/// A text from outside as a message can show it.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

impl fmt::Display for TransportType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Field for TransportType {
    fn read(json: Json) -> Result<Self, FieldError> {
        read_text(&json)
    }
    fn write(&self) -> Json {
        self.as_str().into()
    }
    fn is_empty(&self) -> bool {
        false
    }
}

impl Field for ProxyMode {
    /// It is text in Go.
    const NULL_CLEARS: bool = false;

    fn read(json: Json) -> Result<Self, FieldError> {
        read_text(&json)
    }
    fn write(&self) -> Json {
        self.as_str().into()
    }
    fn is_empty(&self) -> bool {
        false
    }
}

fn read_text<T: FromStr<Err = ParseTransportError>>(json: &Json) -> Result<T, FieldError> {
    match json {
        Json::String(text) => text
            .parse()
            .map_err(|error: ParseTransportError| FieldError::new(error.to_string())),
        other => Err(FieldError::expected("a string", other)),
    }
}
