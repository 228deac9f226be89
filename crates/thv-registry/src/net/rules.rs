//! Which URLs are asked.

use std::net::IpAddr;

use url::{Host, Url};

use super::address::is_public;
use crate::source::shown_url;
use crate::{Error, Result};

/// Why something is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) detail: String,
    /// Whether it would be asked if private addresses and plain HTTP were allowed.
    pub(super) allowable: bool,
}

impl Refusal {
    pub(super) fn always(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            allowable: false,
        }
    }

    fn unless_allowed(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            allowable: true,
        }
    }

    pub(super) fn of(self, place: String) -> Error {
        let Self { detail, allowable } = self;
        Error::Denied {
            place,
            detail,
            allowable,
        }
    }
}

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Plain HTTP and private addresses too.
    pub(crate) allow_private: bool,
}

impl Rules {
    /// Reads a URL that may be asked.
    pub(crate) fn read(self, text: &str) -> Result<Url> {
        let place = shown_url(text);
        let url =
            Url::parse(text).map_err(|error| Error::invalid(&place, format!("it is no URL: {error}")))?;
        match self.refused(&url) {
            None => Ok(url),
            Some(refusal) => Err(refusal.of(place)),
        }
    }

    /// Why a URL may not be asked, if it may not. Names are looked up later; see [`address`](Self::address).
    pub(super) fn refused(self, url: &Url) -> Option<Refusal> {
        if !url.username().is_empty() || url.password().is_some() {
            return Some(Refusal::always(
                "it contains credentials, which would be stored in plain text",
            ));
        }
        match url.scheme() {
            "https" => {}
            "http" if self.allow_private => {}
            "http" => return Some(Refusal::unless_allowed("it is plain HTTP")),
            _ => return Some(Refusal::always("it is neither https nor http")),
        }
        let address = match url.host() {
            None => return Some(Refusal::always("it has no host")),
            Some(Host::Domain(_)) => return None,
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        self.address(address)
    }

    /// Why an address may not be connected to, if it may not.
    pub(super) fn address(self, address: IpAddr) -> Option<Refusal> {
        if self.allow_private || is_public(address) {
            return None;
        }
        Some(Refusal::unless_allowed(format!("{address} is a private address")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_and_private_addresses_are_refused_unless_allowed() {
        let (strict, lax) = (Rules { allow_private: false }, Rules { allow_private: true });
        assert!(strict.read("https://registry.example.com/r.json").is_ok());
        for text in [
            "http://registry.example.com/r.json",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://10.0.0.1:8443/",
            "https://169.254.169.254/latest",
        ] {
            assert_eq!(strict.read(text).unwrap_err().code(), "registry_denied", "{text}");
            assert!(lax.read(text).is_ok(), "{text}");
        }
        for text in [
            "file:///etc/passwd",
            "ftp://a.example/",
            "https://me:s3cret@a.example/",
            "exec:///bin/sh",
        ] {
            let error = lax.read(text).unwrap_err();
            assert_eq!(error.code(), "registry_denied", "{text}");
            assert!(!error.to_string().contains("s3cret"));
        }
        assert_eq!(lax.read("no url").unwrap_err().code(), "registry_invalid");
    }
}
