//! Which URLs are asked.

use std::net::IpAddr;

use url::{Host, Url};

use super::address::is_public;
use crate::source::shown_url;
use crate::{Error, Result};

/// How to allow what is refused.
const ALLOW: &str = "--allow-private-ip (allow_private_registry_ip in config.yaml) allows it";

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
            Some(detail) => Err(Error::Denied { place, detail }),
        }
    }

    /// Why a URL may not be asked, if it may not. Names are looked up later; see [`address`](Self::address).
    pub(super) fn refused(self, url: &Url) -> Option<String> {
        if !url.username().is_empty() || url.password().is_some() {
            return Some("it contains credentials, which would be stored in plain text".to_owned());
        }
        match url.scheme() {
            "https" => {}
            "http" if self.allow_private => {}
            "http" => return Some(format!("it is plain HTTP; {ALLOW}")),
            _ => return Some("it is neither https nor http".to_owned()),
        }
        let address = match url.host() {
            None => return Some("it has no host".to_owned()),
            Some(Host::Domain(_)) => return None,
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        self.address(address)
    }

    /// Why an address may not be connected to, if it may not.
    pub(super) fn address(self, address: IpAddr) -> Option<String> {
        if self.allow_private || is_public(address) {
            return None;
        }
        Some(format!("{address} is a private address; {ALLOW}"))
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
