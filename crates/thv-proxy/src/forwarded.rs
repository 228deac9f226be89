//! How clients reach this proxy when another one stands before it: what that one says, where it is trusted.

use http::HeaderMap;

use crate::guard::split_port;

/// The way to this proxy as its clients see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outside {
    /// `https://host:port`, when a trusted proxy names a host.
    pub(crate) origin: Option<String>,
    /// What stands before every path, without a slash at its end.
    pub(crate) prefix: String,
}

impl Outside {
    /// `own_prefix` is the configured one, which counts before `X-Forwarded-Prefix`. Without `trusted` no header counts.
    pub(crate) fn of(headers: &HeaderMap, trusted: bool, own_prefix: &str) -> Self {
        let own = own_prefix.trim_end_matches('/');
        if !trusted {
            return Self {
                origin: None,
                prefix: own.to_owned(),
            };
        }
        let prefix = if own.is_empty() {
            let prefix = first(headers, "x-forwarded-prefix").filter(|prefix| is_prefix(prefix));
            let prefix = prefix.unwrap_or_default().trim_end_matches('/');
            prefix
                .strip_suffix("/sse")
                .unwrap_or(prefix)
                .trim_end_matches('/')
        } else {
            own
        };
        Self {
            origin: host(headers).map(|host| format!("{}://{host}", scheme(headers))),
            prefix: prefix.to_owned(),
        }
    }
}

/// `X-Forwarded-Proto`: `https`, else `http`.
pub(crate) fn scheme(headers: &HeaderMap) -> &'static str {
    match first(headers, "x-forwarded-proto") {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
        _ => "http",
    }
}

/// `X-Forwarded-Host`, with the port of `X-Forwarded-Port` if it has none of its own.
fn host(headers: &HeaderMap) -> Option<String> {
    let authority = first(headers, "x-forwarded-host")?;
    // A host and nothing else: it becomes part of an URL.
    let (_, port) = split_port(authority)?;
    let usual = if scheme(headers) == "https" { "443" } else { "80" };
    let behind = first(headers, "x-forwarded-port")
        .filter(|port| port.parse::<u16>().is_ok() && *port != usual)
        .filter(|_| port.is_none());
    Some(behind.map_or_else(|| authority.to_owned(), |port| format!("{authority}:{port}")))
}

/// A path from the root, not the beginning of another origin.
pub(crate) fn is_prefix(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%!$&'()*+,;=:@".contains(&byte);
    text.starts_with('/') && !text.starts_with("//") && text.bytes().all(fits)
}

/// What the first proxy of a chain has said.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.split(',').next().unwrap_or(value).trim()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(headers: &[(&'static str, &str)], trusted: bool, prefix: &str) -> (Option<String>, String) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let Outside { origin, prefix } = Outside::of(&map, trusted, prefix);
        (origin, prefix)
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let all = [
            ("x-forwarded-host", "mcp.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-prefix", "/team/sse/"),
        ];
        assert_eq!(outside(&all, false, ""), (None, String::new()));
        assert_eq!(outside(&all, false, "/own/"), (None, "/own".into()));
        let origin = Some("https://mcp.example:8443".to_owned());
        assert_eq!(outside(&all, true, ""), (origin.clone(), "/team".into()));
        assert_eq!(outside(&all, true, "/own"), (origin, "/own".into()));
    }

    #[test]
    fn what_is_no_host_or_path_is_not_taken() {
        for host in [
            "evil.example/x",
            "a b",
            "user@evil.example",
            "evil.example:x",
            "evil.example#",
        ] {
            assert_eq!(outside(&[("x-forwarded-host", host)], true, "").0, None, "{host}");
        }
        for prefix in ["//evil.example", "team", "/a b", "https://evil.example", "/a?b"] {
            assert_eq!(
                outside(&[("x-forwarded-prefix", prefix)], true, "").1,
                "",
                "{prefix}"
            );
        }
        let chain = [("x-forwarded-host", "first.example, second.example")];
        assert_eq!(
            outside(&chain, true, "").0.as_deref(),
            Some("http://first.example")
        );
        let usual = [("x-forwarded-host", "a.example"), ("x-forwarded-port", "80")];
        assert_eq!(outside(&usual, true, "").0.as_deref(), Some("http://a.example"));
    }
}
