//! What the server text of a request means, and which name follows from it.

use thv_core::{WorkloadName, derive_name, image_base_name, package_base_name, remote_base_name};
use url::Url;

use super::{invalid, shown};
use crate::Result;

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// An MCP server elsewhere: its URL as it was given, and host and port of it.
    Remote { url: String, authority: String },
    /// A program of this host, by its absolute path.
    Program(String),
    /// A package that a package runner starts.
    Package { scheme: &'static str, package: String },
    /// An image reference.
    Image(String),
}

impl Server {
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(invalid(
                "server",
                "it is empty: give an image, a URL, or exec:///path/of/a/program",
            ));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(refused(
                text,
                "it must not contain white space or control characters",
            ));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return image(text);
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => remote(text),
            "exec" => program(text, rest),
            "uvx" => package("uvx", text, rest),
            "npx" => package("npx", text, rest),
            "go" => Err(refused(
                text,
                "building images from go:// packages is not supported",
            )),
            _ => Err(refused(
                text,
                "its scheme is none of https, http, exec, uvx and npx",
            )),
        }
    }

    /// The text as the configuration keeps it in `image`.
    pub(super) fn image(&self) -> String {
        match self {
            Self::Remote { url, .. } => url.clone(),
            Self::Program(path) => format!("exec://{path}"),
            Self::Package { scheme, package } => format!("{scheme}://{package}"),
            Self::Image(reference) => reference.clone(),
        }
    }

    /// The name of a workload whose user gave none.
    pub(super) fn derived_name(&self) -> WorkloadName {
        let name = match self {
            Self::Remote { url, .. } => remote_base_name(url),
            Self::Program(_) | Self::Package { .. } => package_base_name(&self.image()),
            Self::Image(reference) => Some(image_base_name(reference)),
        };
        derive_name(&name.unwrap_or_default())
    }
}

fn refused(text: &str, detail: &str) -> crate::Error {
    invalid(format!("server \"{}\"", shown(text)), detail)
}

fn remote(text: &str) -> Result<Server> {
    let bad = |detail: &str| {
        // The text may carry credentials, so that only its host is shown.
        let host = Url::parse(text)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned));
        invalid(
            format!("remote URL of host \"{}\"", shown(&host.unwrap_or_default())),
            detail,
        )
    };
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad(
            "it contains credentials, which would be stored in plain text: remove them",
        ));
    }
    if text.contains('\\') || url.host_str().is_none_or(str::is_empty) {
        return Err(bad("use https://host[:port][/path]"));
    }
    let after_scheme = text.split_once("://").map_or("", |(_, rest)| rest);
    let end = after_scheme.find(['/', '?', '#']).unwrap_or(after_scheme.len());
    Ok(Server::Remote {
        url: text.to_owned(),
        authority: after_scheme[..end].to_owned(),
    })
}

fn program(text: &str, path: &str) -> Result<Server> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(refused(
            text,
            "give the absolute path of a program: exec:///path/of/a/program",
        ));
    }
    Ok(Server::Program(path.to_owned()))
}

fn package(scheme: &'static str, text: &str, package: &str) -> Result<Server> {
    if package.is_empty() || package.starts_with('-') {
        return Err(refused(text, "give the name of a package after the scheme"));
    }
    Ok(Server::Package {
        scheme,
        package: package.to_owned(),
    })
}

/// Only what no reference can be is refused here; the runtime reads it exactly.
fn image(text: &str) -> Result<Server> {
    if text.starts_with(['-', '/', '.']) {
        return Err(refused(
            text,
            "it is not an image reference; a program is run as exec:///path/of/a/program",
        ));
    }
    Ok(Server::Image(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_server() {
        for (server, name) in [
            ("docker.io/mcp/everything:1.4.0", "mcp-everything"),
            ("localhost:5000/tool@sha256:0123", "localhost-tool"),
            ("https://mcp.example.com/v1/mcp?tenant=a", "example"),
            ("http://127.0.0.1:8080/mcp", "127-0-0-1"),
            ("exec:///usr/bin/mcp-server", "mcp-server"),
            (
                "npx://@modelcontextprotocol/server-everything@latest",
                "modelcontextprotocol-server-everything",
            ),
        ] {
            assert_eq!(
                Server::parse(server).unwrap().derived_name().as_str(),
                name,
                "{server}"
            );
        }
    }

    #[test]
    fn the_image_is_kept_as_it_was_given() {
        for text in [
            "mcp/time:1",
            "https://Example.com:443/mcp?a=b&c",
            "exec:///bin/a",
            "uvx://a==1",
        ] {
            assert_eq!(Server::parse(text).unwrap().image(), text);
        }
        let Server::Remote { authority, .. } = Server::parse("https://Example.com:443/mcp").unwrap() else {
            panic!()
        };
        assert_eq!(authority, "Example.com:443");
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for text in [
            "",
            "a b",
            "a\0b",
            "--help",
            "./program",
            "/bin/sh",
            "exec://relative",
            "exec:///",
            "uvx://",
            "npx://-y",
            "go://example.com/x",
            "ftp://host/x",
            "http://",
            "https://\\host/",
            "https://a b/",
        ] {
            assert_eq!(Server::parse(text).unwrap_err().code(), "invalid", "{text:?}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_shown() {
        let error = Server::parse("https://me:s3cret@example.com/mcp")
            .unwrap_err()
            .to_string();
        assert!(error.contains("credentials") && error.contains("example.com") && !error.contains("s3cret"));
    }
}
