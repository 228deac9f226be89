//! What an image reference means.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error, Result};

/// The registry of references that name none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// An older name of it.
const DEFAULT_REGISTRY_INDEX: &str = "index.docker.io";
/// Where its images without a namespace are.
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;
/// Longer texts are no references.
const MAX_REFERENCE: usize = 1024;

/// An image reference, in the form that the distribution project's rules give it: registry, repository, and tag or digest
/// or both. Upper case in a repository is refused, and so is a first part with upper case that is no host name.
///
/// Two references are equal when they name the same: `echo`, `docker.io/echo:latest` and `index.docker.io/library/echo`
/// are.
///
/// ```
/// use thv_image::Reference;
///
/// # fn main() -> Result<(), thv_image::Error> {
/// let image: Reference = "localhost:5000/team/echo:1.2".parse()?;
/// assert_eq!(image.registry(), "localhost:5000");
/// assert_eq!(image.repository(), "team/echo");
/// assert_eq!(image.tag(), Some("1.2"));
/// assert_eq!("echo".parse::<Reference>()?.to_string(), "docker.io/library/echo:latest");
/// assert!("Team/Echo".parse::<Reference>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port of the registry; `docker.io` where none was named.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry, such as `library/echo`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Registry and repository: `docker.io/library/echo`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same as Go programs write it in messages, with `index.docker.io` for the default registry.
    pub fn index_name(&self) -> String {
        let registry = match self.registry.as_str() {
            DEFAULT_REGISTRY => DEFAULT_REGISTRY_INDEX,
            other => other,
        };
        format!("{registry}/{}", self.repository)
    }

    /// The tag. `latest` where neither tag nor digest was named; none where only a digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was named. It decides: a tag beside it says nothing more.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether it names what changes by itself: the tag `latest`, without a digest.
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref() == Some(DEFAULT_TAG)
    }

    /// The same repository.
    pub fn same_repository(&self, other: &Self) -> bool {
        self.registry == other.registry && self.repository == other.repository
    }

    /// The same repository at `digest`, without a tag.
    pub fn at(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same repository at `tag`.
    ///
    /// # Errors
    /// `InvalidReference` when it is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        if !is_tag(tag) {
            return Err(refuse(tag, "it is not a tag"));
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The short form that people write: `echo:1` for `docker.io/library/echo:1`.
    pub fn familiar(&self) -> String {
        let mut text = self.short_name().map_or_else(|| self.name(), str::to_owned);
        self.add_version(&mut text);
        text
    }

    /// Without the registry and `library/`, where that means the same image.
    fn short_name(&self) -> Option<&str> {
        if self.registry != DEFAULT_REGISTRY {
            return None;
        }
        let official = self.repository.strip_prefix(OFFICIAL);
        if let Some(name) = official.filter(|name| !name.contains('/')) {
            return Some(name);
        }
        // A first part like this one would be taken for a registry.
        let (first, _) = self.repository.split_once('/')?;
        (!first.contains('.') && first != "localhost").then_some(&self.repository)
    }

    fn add_version(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > MAX_REFERENCE {
            return Err(refuse(text, "it is too long"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon before a slash belongs to a port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if name.is_empty() {
            return Err(refuse(text, "it has no name"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refuse(text, "its tag is not a tag"));
        }
        let (registry, repository) = split(name).ok_or_else(|| {
            refuse(
                text,
                "upper case is allowed in host names and tags only, and its first part is no host name",
            )
        })?;
        if !is_registry(&registry) {
            return Err(refuse(text, "its registry is not a host name"));
        }
        if repository.len() > MAX_REPOSITORY {
            return Err(refuse(text, "its repository is longer than 255 characters"));
        }
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refuse(text, "a repository must be lower case"));
        }
        if !repository.split('/').all(is_component) {
            return Err(refuse(text, "its repository is not a repository's name"));
        }
        if registry == DEFAULT_REGISTRY && is_identifier(name) {
            return Err(refuse(text, "64 hexadecimal digits are an id, not a name"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.add_version(&mut text);
        f.write_str(&text)
    }
}

fn refuse(reference: &str, detail: &'static str) -> Error {
    Error::InvalidReference {
        reference: crate::error::short(reference),
        detail,
    }
}

/// The first part is a registry if it looks like a host.
fn split(name: &str) -> Option<(String, String)> {
    let (registry, rest) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        Some((first, _)) if first.bytes().any(|byte| byte.is_ascii_uppercase()) => return None,
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = match registry.to_ascii_lowercase() {
        index if index == DEFAULT_REGISTRY_INDEX => DEFAULT_REGISTRY.to_owned(),
        other => other,
    };
    let official = registry == DEFAULT_REGISTRY && !rest.contains('/');
    let repository = if official {
        format!("{OFFICIAL}{rest}")
    } else {
        rest.to_owned()
    };
    // Host names have no case.
    Some((registry, repository))
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                if address.parse::<std::net::Ipv6Addr>().is_err() {
                    return false;
                }
                return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        !bytes.is_empty()
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    };
    port.is_none_or(is_port) && host.split('.').all(is_part)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Letters and digits with single `.` or `_`, two `_`, or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().copied().is_some_and(alphanumeric) || !bytes.last().copied().is_some_and(alphanumeric) {
        return false;
    }
    text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= MAX_TAG
        && bytes.first().copied().is_some_and(word)
        && bytes
            .iter()
            .all(|byte| word(*byte) || matches!(byte, b'.' | b'-'))
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_reference_has_one_full_and_one_short_form() {
        let at = format!("a.b/c@sha256:{HEX}");
        let both = format!("a.b/c:1@sha256:{HEX}");
        for (text, full, familiar) in [
            ("echo", "docker.io/library/echo:latest", "echo:latest"),
            ("echo:1", "docker.io/library/echo:1", "echo:1"),
            ("docker.io/echo:1", "docker.io/library/echo:1", "echo:1"),
            (
                "index.docker.io/library/echo:1",
                "docker.io/library/echo:1",
                "echo:1",
            ),
            ("team/echo", "docker.io/team/echo:latest", "team/echo:latest"),
            (
                "docker.io/library/team/echo",
                "docker.io/library/team/echo:latest",
                "library/team/echo:latest",
            ),
            (
                "docker.io/a.b/echo",
                "docker.io/a.b/echo:latest",
                "docker.io/a.b/echo:latest",
            ),
            ("localhost/echo", "localhost/echo:latest", "localhost/echo:latest"),
            (
                "localhost:5000/a/b",
                "localhost:5000/a/b:latest",
                "localhost:5000/a/b:latest",
            ),
            ("a:5000", "docker.io/library/a:5000", "a:5000"),
            (
                "Index.Docker.io/echo",
                "docker.io/library/echo:latest",
                "echo:latest",
            ),
            ("GHCR.io/a/b:V1", "ghcr.io/a/b:V1", "ghcr.io/a/b:V1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            (
                "a.b/c__d/e--f/g.h_i",
                "a.b/c__d/e--f/g.h_i:latest",
                "a.b/c__d/e--f/g.h_i:latest",
            ),
            (&at, &at, &at),
            (&both, &both, &both),
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(full.parse::<Reference>().expect(full), reference, "{text}");
        }
    }

    #[test]
    fn what_the_rules_forbid_is_refused() {
        let long = format!("a/{}", "b".repeat(260));
        let tag = format!("a:{}", "b".repeat(129));
        for text in [
            "",
            ":1",
            "@",
            "a:",
            "a@",
            "A",
            "Team/echo",
            "a.b/C",
            "a/",
            "/a",
            "a//b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a_",
            "a.b:x/c",
            "a.b:99999/c",
            "-a.b/c",
            "a-.b/c",
            "a.b/c:.d",
            "a.b/c:d e",
            "a b",
            "a\n",
            "é",
            "https://a.b/c",
            "[::x]/a",
            "[::1/a",
            "a@sha256:12",
            "a@sha512:00",
            "exec:///bin/true",
            HEX,
            &long,
            &tag,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn latest_is_what_moves_by_itself() {
        let is_latest = |text: &str| text.parse::<Reference>().expect(text).is_latest();
        assert!(is_latest("a") && is_latest("a:latest"));
        assert!(!is_latest("a:1") && !is_latest(&format!("a:latest@sha256:{HEX}")));
    }
}
