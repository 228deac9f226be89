//! Values of flags that the command line checks by itself.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use thv::core::{ProxyMode, TransportType};
use thv::image::Policy;

/// A path. An empty one is read too: it is the default of ToolHive's flags.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// How a server speaks; the inspector's own is not for users.
pub(super) fn transport() -> impl TypedValueParser<Value = TransportType> {
    PossibleValuesParser::new(["stdio", "sse", "streamable-http"])
        .try_map(|text| text.parse::<TransportType>())
}

/// How a proxy speaks.
pub(super) fn proxy_mode() -> impl TypedValueParser<Value = ProxyMode> {
    PossibleValuesParser::new(["sse", "streamable-http"])
        .try_map(|text| text.to_ascii_lowercase().parse::<ProxyMode>())
}

/// What an image without provenance means.
pub(super) fn image_policy(text: &str) -> Result<Policy, String> {
    text.parse()
        .map_err(|_| "it is one of warn, enabled, disabled".to_owned())
}

/// A size in bytes, with a unit of powers of 1024 as engines take it: `64m`, `64MiB`, `1g`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let rule = || "a size is a number with or without k, m or g, as in 512m".to_owned();
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(rule()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| rule())?;
    number.checked_mul(1 << shift).ok_or_else(rule)
}

/// An origin as browsers send it. One that no browser sends would be accepted and never match.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let rule =
        || "an origin is scheme://host or scheme://host:port, as in https://app.example:8443".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(rule)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_host = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._[]:".contains(c));
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if is_scheme && is_host && is_port {
        Ok(text.to_owned())
    } else {
        Err(rule())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_engines_read_them() {
        for (text, bytes) in [
            ("64m", 64 << 20),
            ("64MiB", 64 << 20),
            ("1g", 1 << 30),
            ("2k", 2048),
            ("7", 7),
        ] {
            assert_eq!(size(text), Ok(bytes));
        }
        for bad in ["", "m", "64x", "-1", "1.5g", "99999999999g"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_what_browsers_send() {
        for good in [
            "https://app.example",
            "http://localhost:3000",
            "http://[::1]:80",
            "http://[::1]",
            "vscode-webview://abc123",
            "https://app.example/",
        ] {
            assert_eq!(origin(good), Ok(good.to_owned()));
        }
        for bad in [
            "garbage",
            "*",
            "",
            "://x",
            "https://",
            "https://a b",
            "https://app.example:http",
            "https://*.example",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
