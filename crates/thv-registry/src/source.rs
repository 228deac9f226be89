//! Where a registry is.

use std::fmt;
use std::path::PathBuf;

/// Where a registry's entries come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The catalogue in this program.
    Embedded,
    /// A document on this machine.
    File(PathBuf),
    /// A document elsewhere, by its URL.
    Url(String),
    /// A registry with an API, by its base URL.
    Api(String),
    /// Values of the embedding program.
    Memory,
}

impl Source {
    /// What a run configuration keeps in `registry_url`; empty unless this is a document elsewhere.
    pub fn registry_url(&self) -> &str {
        match self {
            Self::Url(url) => url,
            _ => "",
        }
    }

    /// What a run configuration keeps in `registry_api_url`; empty unless this is an API.
    pub fn registry_api_url(&self) -> &str {
        match self {
            Self::Api(url) => url,
            _ => "",
        }
    }
}

/// For people; without credentials.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("the built-in catalogue"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) | Self::Api(url) => f.write_str(&shown_url(url)),
            Self::Memory => f.write_str("memory"),
        }
    }
}

/// A URL without user, password, query and fragment, which may be credentials.
pub(crate) fn shown_url(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else {
        return text.split(['?', '#', '@']).next().unwrap_or_default().to_owned();
    };
    // Neither fails for a URL that has a host; another one has no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        let source = Source::Url("https://me:s3cret@a.example/r.json?token=s3cret#s3cret".into());
        assert_eq!(source.to_string(), "https://a.example/r.json");
    }
}
