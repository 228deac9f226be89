//! Which headers pass a reverse proxy.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use thv_core::TransportType;

use super::ReverseProxyConfig;

/// Headers of one connection, not of the message.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that nobody may set besides.
const RESTRICTED: [&str; 8] = [
    "host",
    "http2-settings",
    "content-length",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Whether a configured header would break the connection or lie about the client.
pub(crate) fn is_restricted(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str()) || RESTRICTED.contains(&name.as_str())
}

/// Removes what belongs to one connection, the headers that `Connection` names included.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The headers of a client at `peer` as the server gets them.
pub(super) fn for_server(
    mut headers: HeaderMap,
    config: &ReverseProxyConfig,
    scheme: &str,
    peer: Option<IpAddr>,
) -> HeaderMap {
    let host = headers.remove(header::HOST);
    let trusted = |name: &str| headers.get(name).filter(|_| config.trust_forwarded).cloned();
    let (outer_host, outer_scheme) = (trusted("x-forwarded-host"), trusted("x-forwarded-proto"));
    let forwarded_for = forwarded_for(&headers, config, peer);
    strip_hop_by_hop(&mut headers);
    if config.transport == TransportType::Sse {
        // An endpoint event could not be found in a compressed stream.
        headers.remove(header::ACCEPT_ENCODING);
    }
    for name in [
        "content-length",
        "expect",
        "forwarded",
        "http2-settings",
        "x-forwarded-for",
        "x-real-ip",
        "x-forwarded-host",
        "x-forwarded-proto",
    ] {
        headers.remove(name);
    }
    let own_scheme = if config.remote && scheme == "https" {
        "https"
    } else {
        "http"
    };
    let own_scheme = HeaderValue::from_static(own_scheme);
    headers.insert(
        "x-forwarded-proto",
        outer_scheme.filter(|_| !config.remote).unwrap_or(own_scheme),
    );
    if let Some(forwarded_for) = forwarded_for {
        headers.insert("x-forwarded-for", forwarded_for);
    }
    if let Some(host) = outer_host.or(host).filter(|_| !config.remote) {
        headers.insert("x-forwarded-host", host);
    }
    headers
}

/// The client's address, behind what a trusted proxy before this one says.
fn forwarded_for(
    headers: &HeaderMap,
    config: &ReverseProxyConfig,
    peer: Option<IpAddr>,
) -> Option<HeaderValue> {
    let peer = peer?;
    let before = headers
        .get("x-forwarded-for")
        .filter(|_| config.trust_forwarded)
        .and_then(|value| value.to_str().ok());
    let all = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
    all.parse().ok()
}
