//! What a registry that wants credentials asks for, and to whom they may be shown.

use url::{Host, Url};

/// A `WWW-Authenticate` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// Headers are short; what is longer is not read.
const MAX_HEADER: usize = 4096;

impl Challenge {
    /// Reads a header; the reason where it cannot be followed.
    pub(crate) fn parse(header: &str) -> Result<Self, &'static str> {
        if header.len() > MAX_HEADER {
            return Err("its challenge is too long");
        }
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err("it asks for an unknown kind of credentials");
        }
        let mut realm = None;
        let mut service = None;
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
        }
        let realm = realm.ok_or("its challenge names no realm")?;
        let realm = Url::parse(&realm).map_err(|_| "the realm of its challenge is no URL")?;
        let may_be_asked = match realm.scheme() {
            "https" => realm.host().is_some(),
            "http" => is_loopback(&realm),
            _ => false,
        };
        if !may_be_asked || !realm.username().is_empty() || realm.password().is_some() {
            return Err("the realm of its challenge is neither https nor on loopback");
        }
        Ok(Self::Bearer { realm, service })
    }
}

/// `name="value"` or `name=value`, separated by commas.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([',', ' ']).to_owned();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.push((name, value.trim().to_owned()));
        text = rest;
    }
    found
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Whether `realm` is the registry's own: credentials of the registry are shown to nobody else. That is the same host, or
/// one that shares the last two labels of its name (`registry-1.docker.io` has `auth.docker.io`).
pub(crate) fn is_own_realm(registry: &Url, realm: &Url) -> bool {
    match (registry.host(), realm.host()) {
        (Some(Host::Domain(registry)), Some(Host::Domain(realm))) => {
            registry == realm
                || match (owner_of(registry), owner_of(realm)) {
                    (Some(registry), Some(realm)) => registry == realm,
                    _ => false,
                }
        }
        (Some(registry), Some(realm)) => registry == realm,
        _ => false,
    }
}

/// The last two labels, unless they may be an ending that strangers share (`co.uk`).
fn owner_of(host: &str) -> Option<&str> {
    let (rest, last) = host.rsplit_once('.')?;
    let second = rest.rsplit_once('.').map_or(rest, |(_, second)| second);
    let shared = last.len() == 2 && (second.len() <= 3 || second.contains("gov"));
    let length = second.len() + 1 + last.len();
    // Short second labels below two-letter endings are used both ways; then only the host itself will do.
    (!shared || host.ends_with("docker.io")).then(|| &host[host.len() - length..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Ok(Challenge::Basic));
        let bearer = Challenge::parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
        );
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".parse().expect("a URL"),
            service: Some("registry.docker.io".into()),
        };
        assert_eq!(bearer, Ok(expected));
    }

    #[test]
    fn a_realm_that_would_carry_credentials_in_the_clear_is_refused() {
        for realm in [
            "http://auth.example.com/token",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
            "https://user:secret@auth.example.com/",
            "nonsense",
        ] {
            let header = format!("Bearer realm=\"{realm}\"");
            assert!(Challenge::parse(&header).is_err(), "{realm} passed");
        }
        assert!(Challenge::parse("Bearer").is_err());
        assert!(Challenge::parse("Negotiate").is_err());
        assert!(Challenge::parse(r#"Bearer realm="http://127.0.0.1:5001/token""#).is_ok());
    }

    #[test]
    fn credentials_go_to_the_registry_s_own_realm_only() {
        let own = |registry: &str, realm: &str| {
            is_own_realm(&registry.parse().expect("a URL"), &realm.parse().expect("a URL"))
        };
        assert!(own(
            "https://registry-1.docker.io",
            "https://auth.docker.io/token"
        ));
        assert!(own("https://ghcr.io", "https://ghcr.io/token"));
        assert!(own("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"));
        assert!(own("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"));
        assert!(!own("https://ghcr.io", "https://evil.example/token"));
        assert!(!own(
            "https://docker.io.evil.example",
            "https://auth.docker.io/token"
        ));
        assert!(!own("https://a.co.uk", "https://b.co.uk/token"));
        assert!(!own("http://127.0.0.1:5000", "https://evil.example/token"));
    }
}
