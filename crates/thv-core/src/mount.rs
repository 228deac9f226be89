//! Mount declarations of permission profiles.

use std::str::FromStr;

use crate::naming::clean_path;

/// One entry of a profile's `read` or `write`: `path` (the same inside and outside), `host:container`, or
/// `scheme://resource:container`. Paths are cleaned: no `.`, no `//`, and `..` resolved.
///
/// ```
/// use thv_core::{Mount, MountSource};
///
/// let mount = Mount::parse("/home/me/data/../in:/data/")?;
/// assert_eq!(mount.source, MountSource::Path("/home/me/in".into()));
/// assert_eq!(mount.target, "/data");
/// # Ok::<(), thv_core::InvalidMount>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where it is inside.
    pub target: String,
}

/// What a [`Mount`] makes visible.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MountSource {
    /// A path on the host. A relative one is meant from the directory in which the workload was created.
    Path(String),
    /// A resource of another kind, `volume://name` for example.
    Resource {
        /// The scheme, without `://`.
        scheme: String,
        /// What follows it.
        resource: String,
    },
}

/// A text that declares no mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mount declaration \"{shown}\": {rule}")]
pub struct InvalidMount {
    shown: String,
    rule: &'static str,
}

impl InvalidMount {
    /// The rule that was broken, as a phrase for people.
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

impl Mount {
    /// Reads a declaration.
    pub fn parse(text: &str) -> Result<Self, InvalidMount> {
        parse(text).map_err(|rule| InvalidMount {
            shown: text.chars().take(80).flat_map(char::escape_debug).collect(),
            rule,
        })
    }
}

impl FromStr for Mount {
    type Err = InvalidMount;
    fn from_str(text: &str) -> Result<Self, InvalidMount> {
        Self::parse(text)
    }
}

const GRAMMAR: &str = "use path, host:container or scheme://resource:container";

fn parse(text: &str) -> Result<Mount, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.contains(['$', '&', ';', '|', '`', '\0']) {
        return Err("it must not contain '$', '&', ';', '|', '`' or NUL");
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return resource(scheme, rest);
    }
    let (source, target) = split_paths(text)?;
    if source.is_empty() || target.is_empty() {
        return Err(GRAMMAR);
    }
    Ok(Mount {
        source: MountSource::Path(clean_path(source)),
        target: clean_path(target),
    })
}

fn resource(scheme: &str, rest: &str) -> Result<Mount, &'static str> {
    let mut characters = scheme.chars();
    let valid = characters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let (resource, target) = rest.split_once(':').ok_or(GRAMMAR)?;
    if !valid || resource.is_empty() || target.is_empty() || target.contains(':') {
        return Err(GRAMMAR);
    }
    Ok(Mount {
        source: MountSource::Resource {
            scheme: scheme.to_owned(),
            resource: resource.to_owned(),
        },
        target: clean_path(target),
    })
}

/// A drive letter's colon does not separate.
fn split_paths(text: &str) -> Result<(&str, &str), &'static str> {
    let bytes = text.as_bytes();
    let has_drive =
        bytes.len() >= 3 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && bytes[2] == b'\\';
    let from = if has_drive { 2 } else { 0 };
    match text[from..].find(':').map(|at| at + from) {
        None => Ok((text, text)),
        Some(at) if text[at + 1..].contains(':') => Err("it has more than one colon"),
        Some(at) => Ok((&text[..at], &text[at + 1..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read() {
        let path = |text: &str| MountSource::Path(text.to_owned());
        for (text, source, target) in [
            ("/etc/ssl/certs", path("/etc/ssl/certs"), "/etc/ssl/certs"),
            ("/home/me/data:/data", path("/home/me/data"), "/data"),
            ("data//x/./y:/d", path("data/x/y"), "/d"),
            ("/a/../../b", path("/b"), "/b"),
            ("../x:/x", path("../x"), "/x"),
            (r"C:\data:/data", path(r"C:\data"), "/data"),
        ] {
            let mount = Mount::parse(text).unwrap();
            assert_eq!((mount.source, mount.target.as_str()), (source, target), "{text}");
        }
        let volume = Mount::parse("volume://cache:/var/cache").unwrap();
        assert_eq!(
            volume.source,
            MountSource::Resource {
                scheme: "volume".into(),
                resource: "cache".into()
            }
        );
    }

    #[test]
    fn hostile_declarations_are_refused() {
        for text in [
            "",
            ":",
            "/a:",
            ":/b",
            "/a:/b:/c",
            "/a;rm",
            "/a$HOME",
            "/a|b",
            "/a&b",
            "/a`b`",
            "/a\0b",
            "://x:/y",
            "vol://:/y",
            "vol://x",
            "vol://x:",
            "vol://a:/b:/c",
            "1x://a:/b",
        ] {
            assert!(Mount::parse(text).is_err(), "{text:?}");
        }
    }
}
