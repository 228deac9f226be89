//! Who may ask: the `Host` and `Origin` checks that keep web pages from reaching a local server.
//!
//! A page that rebinds its own name to the loopback address sends that name as `Host`; a page that calls the loopback
//! address directly sends its `Origin`. Both are refused before anything else looks at the request.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode, Uri};

/// Which hosts and origins are served besides the machine's own: none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardConfig {
    /// Host names (without port) that are accepted besides `localhost` and loopback addresses.
    pub hosts: Vec<String>,
    /// If there are any, only these host names are accepted, whatever the others say. One that begins with a dot is a
    /// domain with all below it; `localhost` is every name of loopback.
    pub only: Vec<String>,
    /// Accept every IP address as `Host`, for a proxy that is reached from other machines: who rebinds a name needs a
    /// name.
    pub any_address: bool,
    /// Accept every `Host`: for a proxy behind another that has checked it.
    pub any_host: bool,
    /// Origins (`scheme://host[:port]`) that are accepted besides the proxy's own loopback origin.
    pub origins: Vec<String>,
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The `Host` header is missing, doubled or of a stranger.
    Host,
    /// The `Origin` is doubled or of a stranger.
    Origin,
}

impl Refusal {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        StatusCode::FORBIDDEN
    }

    /// The JSON-RPC body of the answer.
    pub fn body(self) -> &'static str {
        match self {
            Self::Host => r#"{"error":{"code":-32600,"message":"Host not allowed"},"jsonrpc":"2.0"}"#,
            Self::Origin => r#"{"error":{"code":-32600,"message":"Origin not allowed"},"jsonrpc":"2.0"}"#,
        }
    }
}

impl GuardConfig {
    /// Whether a request with this target and these headers is served.
    ///
    /// # Errors
    /// The [`Refusal`] says which of the two headers is why not.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().map_err(|_| Refusal::Host)?,
            // HTTP/2 has the authority in the target.
            (None, None) => uri
                .authority()
                .map(http::uri::Authority::as_str)
                .ok_or(Refusal::Host)?,
            _ => return Err(Refusal::Host),
        };
        let (name, port) = split_port(host).ok_or(Refusal::Host)?;
        if !self.serves(name) {
            return Err(Refusal::Host);
        }
        if let Some(authority) = uri.authority() {
            let (target, _) = split_port(authority.as_str()).ok_or(Refusal::Host)?;
            if !self.serves(target) {
                return Err(Refusal::Host);
            }
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Ok(()),
            (Some(origin), None) => {
                let origin = origin.to_str().map_err(|_| Refusal::Origin)?;
                if self.trusts(origin, port) {
                    Ok(())
                } else {
                    Err(Refusal::Origin)
                }
            }
            _ => Err(Refusal::Origin),
        }
    }

    fn serves(&self, name: &str) -> bool {
        if !self.only.is_empty() {
            return self.only.iter().any(|allowed| is_meant(allowed, name));
        }
        self.any_host
            || is_loopback(name)
            || (self.any_address && name.parse::<std::net::IpAddr>().is_ok())
            || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    fn trusts(&self, origin: &str, own_port: Option<&str>) -> bool {
        let Some((scheme, rest)) = origin.split_once("://") else {
            return false;
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let listed = |known: &String| {
            known.split_once("://").is_some_and(|(known_scheme, known_rest)| {
                known_scheme.eq_ignore_ascii_case(scheme)
                    && known_rest
                        .split(['/', '?', '#'])
                        .next()
                        .is_some_and(|known| known.eq_ignore_ascii_case(authority))
            })
        };
        if self.origins.iter().any(listed) {
            return true;
        }
        split_port(authority).is_some_and(|(name, port)| {
            scheme.eq_ignore_ascii_case("http") && is_loopback(name) && port == own_port
        })
    }
}

/// `name` and `port` of an authority; none for one that carries more or other than that.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = authority.strip_prefix('[') {
        let (name, behind) = rest.split_once(']')?;
        return match behind.strip_prefix(':') {
            None => behind.is_empty().then_some((name, None)),
            Some(port) => is_port(port).then_some((name, Some(port))),
        };
    }
    let (name, port) = match authority.split_once(':') {
        None => (authority, None),
        Some((name, port)) => (name, is_port(port).then_some(Some(port))?),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (!name.is_empty() && name.bytes().all(fits)).then_some((name, port))
}

/// Whether an entry of a list of hosts means this one. `*.` before a domain is the same as a dot.
fn is_meant(allowed: &str, name: &str) -> bool {
    let allowed = allowed.trim_end_matches('.').to_ascii_lowercase();
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match allowed.strip_prefix("*.").or_else(|| allowed.strip_prefix('.')) {
        Some(domain) => {
            let below = name.strip_suffix(domain);
            below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
        }
        None if allowed == "localhost" => is_loopback(&name),
        None => allowed == name,
    }
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &GuardConfig, host: &[&str], origin: &[&str], expected: Result<(), Refusal>) {
        let mut headers = HeaderMap::new();
        for value in host {
            headers.append(HOST, value.parse().unwrap());
        }
        for value in origin {
            headers.append(ORIGIN, value.parse().unwrap());
        }
        assert_eq!(
            config.check(&Uri::from_static("/mcp"), &headers),
            expected,
            "{host:?} {origin:?}"
        );
    }

    #[test]
    fn only_the_machine_itself_is_served_by_default() {
        let own = GuardConfig::default();
        for host in [
            "localhost:8080",
            "LOCALHOST",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "[::1]",
        ] {
            check(&own, &[host], &[], Ok(()));
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "[::]",
            "",
            "localhost:",
            "localhost:80:80",
            "user@localhost",
            "[::1",
            "[::1]x",
            "localhost:8x",
            "10.0.0.1",
            "evil.example#localhost",
        ] {
            check(&own, &[host], &[], Err(Refusal::Host));
        }
        check(&own, &[], &[], Err(Refusal::Host));
        check(&own, &["localhost", "evil.example"], &[], Err(Refusal::Host));
    }

    #[test]
    fn a_page_of_a_stranger_is_refused() {
        let own = GuardConfig::default();
        check(&own, &["localhost:80"], &["http://localhost:80"], Ok(()));
        check(&own, &["localhost:80"], &["http://127.0.0.1:80"], Ok(()));
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:81",
            "http://localhost",
            "https://localhost:80",
            "http://localhost:80@evil.example",
            "http://localhost.evil.example:80",
            "",
        ] {
            check(&own, &["localhost:80"], &[origin], Err(Refusal::Origin));
        }
        check(
            &own,
            &["localhost:80"],
            &["http://localhost:80", "http://localhost:80"],
            Err(Refusal::Origin),
        );
    }

    #[test]
    fn a_list_of_hosts_is_all_that_is_served() {
        let listed = |only: &[&str]| GuardConfig {
            hosts: vec!["other.example".into()],
            any_address: true,
            any_host: true,
            only: only.iter().map(|&host| host.to_owned()).collect(),
            ..GuardConfig::default()
        };
        let some = listed(&[".a.example", "*.B.example", "c.example", "192.0.2.7"]);
        for host in [
            "a.example:80",
            "x.A.example",
            "x.b.example.",
            "b.example",
            "C.example",
            "192.0.2.7:8080",
        ] {
            check(&some, &[host], &[], Ok(()));
        }
        for host in [
            "nota.example",
            "x.c.example",
            "other.example",
            "localhost",
            "127.0.0.1",
            "192.0.2.8",
        ] {
            check(&some, &[host], &[], Err(Refusal::Host));
        }
        let here = listed(&["localhost"]);
        for (host, expected) in [
            ("localhost:1", Ok(())),
            ("127.0.0.1:1", Ok(())),
            ("[::1]:1", Ok(())),
            ("other.example", Err(Refusal::Host)),
        ] {
            check(&here, &[host], &[], expected);
        }
    }

    #[test]
    fn configured_hosts_and_origins_are_served() {
        let config = GuardConfig {
            hosts: vec!["Proxy.internal".into()],
            origins: vec!["https://App.example:444/x".into()],
            ..GuardConfig::default()
        };
        check(
            &config,
            &["proxy.INTERNAL:9"],
            &["HTTPS://app.example:444"],
            Ok(()),
        );
        check(
            &config,
            &["proxy.internal"],
            &["https://app.example"],
            Err(Refusal::Origin),
        );
        check(&config, &["other.internal"], &[], Err(Refusal::Host));
        let reachable = GuardConfig {
            any_address: true,
            ..config.clone()
        };
        for host in ["192.168.1.7:8080", "[fd00::1]:8080", "10.0.0.1", "proxy.internal"] {
            check(&reachable, &[host], &[], Ok(()));
        }
        for host in ["evil.example", "192.168.1.7.evil.example", "1.2.3", "0x7f.1"] {
            check(&reachable, &[host], &[], Err(Refusal::Host));
        }
        check(
            &GuardConfig {
                any_host: true,
                ..config
            },
            &["other.internal"],
            &[],
            Ok(()),
        );
    }
}
