//! How clients reach this proxy when another one stands before it: what that one says, where it is trusted.

use axum::extract::OriginalUri;
use http::{Extensions, HeaderMap, Uri};

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
    /// `own_prefix` is the configured one: it counts alone. Otherwise what a proxy before this program removed
    /// (`X-Forwarded-Prefix`) stands before `nested`, what this program's own router removed. Without `trusted` no header
    /// counts.
    pub(crate) fn of(headers: &HeaderMap, nested: &str, trusted: bool, own_prefix: &str) -> Self {
        let own = own_prefix.trim_end_matches('/');
        let prefix = if own.is_empty() {
            let removed = first(headers, "x-forwarded-prefix").filter(|prefix| trusted && is_prefix(prefix));
            let removed = removed.unwrap_or_default().trim_end_matches('/');
            let removed = removed.strip_suffix("/sse").unwrap_or(removed);
            format!("{}{nested}", removed.trim_end_matches('/'))
        } else {
            own.to_owned()
        };
        let host = trusted.then(|| host(headers)).flatten();
        Self {
            origin: host.map(|host| format!("{}://{host}", scheme(headers))),
            prefix,
        }
    }
}

/// Under which path this router is nested in an application's: axum takes that off, and keeps the path as it came.
pub(crate) fn nested_under<'a>(uri: &Uri, extensions: &'a Extensions) -> &'a str {
    let original = extensions.get::<OriginalUri>().map(|original| original.path());
    let removed = original.and_then(|path| path.strip_suffix(uri.path()));
    removed.filter(|prefix| is_prefix(prefix)).unwrap_or_default()
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
    use http::HeaderValue;

    use super::*;

    fn outside(headers: &[(&'static str, &str)], trusted: bool, prefix: &str) -> (Option<String>, String) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let Outside { origin, prefix } = Outside::of(&map, "", trusted, prefix);
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
    fn a_nested_router_stands_behind_what_other_proxies_remove_and_gives_way_to_what_is_configured() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-prefix", HeaderValue::from_static("/team/"));
        let prefix = |trusted, own| Outside::of(&headers, "/tools", trusted, own).prefix;
        assert_eq!(prefix(false, ""), "/tools");
        assert_eq!(prefix(true, ""), "/team/tools");
        assert_eq!(prefix(true, "/own/"), "/own");
    }

    #[test]
    fn where_a_router_is_nested_is_told_by_the_path_as_it_came() {
        let nested = |came: Option<&'static str>, path: &'static str| {
            let mut extensions = Extensions::new();
            if let Some(came) = came {
                extensions.insert(OriginalUri(Uri::from_static(came)));
            }
            nested_under(&Uri::from_static(path), &extensions).to_owned()
        };
        assert_eq!(nested(None, "/sse"), "");
        assert_eq!(nested(Some("/sse?a=/b"), "/sse?a=/b"), "");
        assert_eq!(nested(Some("/tools/one/sse?a"), "/sse?a"), "/tools/one");
        assert_eq!(nested(Some("/elsewhere"), "/sse"), "");
        // Whoever names a path must not lead clients to another host by it.
        assert_eq!(nested(Some("//evil.example/sse"), "/sse"), "");
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
