//! Which headers pass a reverse proxy.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use thv_core::TransportType;

use super::ReverseProxyConfig;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether a header is one of the connection, not of the message.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a header says what only this proxy can say to the server.
fn is_own(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "http2-settings"
            | "content-length"
            | "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-real-ip"
    )
}

/// Whether a configured header would break the connection or lie about the client.
pub(crate) fn is_restricted(name: &HeaderName) -> bool {
    *name == header::HOST || is_hop_by_hop(name) || is_own(name)
}

/// Removes what belongs to one connection, the headers that `Connection` names included.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip(headers, is_hop_by_hop);
}

/// Removes what `Connection` names, and all that fits. Mostly there is nothing: so names are looked at, not looked up.
fn strip(headers: &mut HeaderMap, fits: impl Fn(&HeaderName) -> bool) {
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
    let fitting: Vec<HeaderName> = headers.keys().filter(|name| fits(name)).cloned().collect();
    for name in fitting {
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
    let trusted = |name: &HeaderName| headers.get(name).filter(|_| config.trust_forwarded).cloned();
    let (outer_host, outer_scheme) = (trusted(&FORWARDED_HOST), trusted(&FORWARDED_PROTO));
    let forwarded_for = forwarded_for(&headers, config, peer);
    headers.remove(header::CONTENT_LENGTH);
    strip(&mut headers, |name| {
        is_hop_by_hop(name) || is_own(name) || *name == header::EXPECT
    });
    if config.transport == TransportType::Sse {
        // An endpoint event could not be found in a compressed stream.
        headers.remove(header::ACCEPT_ENCODING);
    }
    let own_scheme = if config.remote && scheme == "https" {
        "https"
    } else {
        "http"
    };
    let own_scheme = HeaderValue::from_static(own_scheme);
    headers.insert(
        &FORWARDED_PROTO,
        outer_scheme.filter(|_| !config.remote).unwrap_or(own_scheme),
    );
    if let Some(forwarded_for) = forwarded_for {
        headers.insert(&FORWARDED_FOR, forwarded_for);
    }
    if let Some(host) = outer_host.or(host).filter(|_| !config.remote) {
        headers.insert(&FORWARDED_HOST, host);
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
        .get(&FORWARDED_FOR)
        .filter(|_| config.trust_forwarded)
        .and_then(|value| value.to_str().ok());
    let all = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
    all.try_into().ok()
}
