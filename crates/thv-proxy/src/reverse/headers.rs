//! Which headers pass a reverse proxy.

use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;
use http::Uri;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use thv_core::TransportType;

use super::ReverseProxyConfig;
use crate::whole_events::IDENTITY;

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
    strip_named(headers);
    strip(headers, is_hop_by_hop);
}

/// A server may say the length several times, if always the same; who gets its answer may not take that (RFC 9110, 8.6).
pub(super) fn say_length_once(headers: &mut HeaderMap) {
    let mut said = headers.get_all(header::CONTENT_LENGTH).iter();
    if let (Some(length), Some(_)) = (said.next().cloned(), said.next()) {
        headers.insert(header::CONTENT_LENGTH, length);
    }
}

/// Removes `Connection` and what it names, except what is looked at to know who asks.
pub(super) fn strip_named(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::HOST && *name != header::ORIGIN)
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}

/// Removes all that fits. Mostly there is nothing: so names are looked at, not looked up.
fn strip(headers: &mut HeaderMap, fits: impl Fn(&HeaderName) -> bool) {
    let fitting: Vec<HeaderName> = headers.keys().filter(|name| fits(name)).cloned().collect();
    for name in fitting {
        headers.remove(name);
    }
}

/// Says as HTTP/1.1 does what HTTP/2 says in other ways: the host, which is in the target alone there, and the cookies, each of
/// which may have a line of its own (RFC 9113, section 8.2.3).
pub(super) fn say_as_http1(uri: &Uri, headers: &mut HeaderMap) {
    if let Some(authority) = uri.authority()
        && !headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(header::HOST, host);
    }
    let cookies = headers.get_all(header::COOKIE);
    if cookies.iter().nth(1).is_some() {
        let lines: Vec<_> = cookies.iter().map(HeaderValue::as_bytes).collect();
        if let Ok(line) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
            headers.insert(header::COOKIE, line);
        }
    }
}

/// Copies what a request says into memory of its own, so that its connection's buffer, which is many times larger, is not
/// held until the answer has come.
pub(super) fn detach(uri: &mut Uri, headers: &mut HeaderMap) {
    let path = uri.path_and_query().filter(|_| uri.authority().is_none());
    let path = path.map_or("", |path| path.as_str());
    let values: usize = headers.values().map(HeaderValue::len).sum();
    let mut text = BytesMut::with_capacity(path.len() + values);
    text.extend_from_slice(path.as_bytes());
    let length = path.len();
    for value in headers.values() {
        text.extend_from_slice(value.as_bytes());
    }
    let mut text = text.freeze();
    // Neither fails: both were taken for what they are before.
    if length > 0
        && let Ok(path) = PathAndQuery::from_maybe_shared(text.split_to(length))
    {
        *uri = path.into();
    }
    for value in headers.values_mut() {
        let own = HeaderValue::from_maybe_shared(text.split_to(value.len()));
        if let Ok(mut own) = own {
            own.set_sensitive(value.is_sensitive());
            *value = own;
        }
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
    let trusted = |name: &HeaderName| headers.get(name).cloned();
    let (outer_host, outer_scheme) = if config.trust_forwarded {
        (trusted(&FORWARDED_HOST), trusted(&FORWARDED_PROTO))
    } else {
        (None, None)
    };
    let forwarded_for = forwarded_for(&headers, config, peer);
    headers.remove(header::CONTENT_LENGTH);
    strip(&mut headers, |name| {
        is_hop_by_hop(name) || is_own(name) || *name == header::EXPECT
    });
    if config.transport == TransportType::Sse {
        // An endpoint event could not be found in a compressed stream. Without the header a server might choose.
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
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

/// The client's address, behind all that trusted proxies before this one say: some add a line of their own.
fn forwarded_for(
    headers: &HeaderMap,
    config: &ReverseProxyConfig,
    peer: Option<IpAddr>,
) -> Option<HeaderValue> {
    let peer = peer?.to_canonical();
    let lines = headers.get_all(&FORWARDED_FOR).iter();
    let mut said: Vec<_> = lines
        .filter(|_| config.trust_forwarded)
        .map(HeaderValue::as_bytes)
        .collect();
    // Mostly.
    if said.is_empty() && peer == Ipv4Addr::LOCALHOST {
        return Some(HeaderValue::from_static("127.0.0.1"));
    }
    let peer = peer.to_string();
    said.push(peer.as_bytes());
    HeaderValue::from_bytes(&said.join(&b", "[..])).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_client_of_a_listener_for_both_families_has_the_address_that_it_has() {
        for (peer, said) in [
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
        ] {
            let peer = Some(peer.parse().unwrap());
            let headers = for_server(HeaderMap::new(), &ReverseProxyConfig::default(), "http", peer);
            assert_eq!(headers[&FORWARDED_FOR], said);
        }
    }

    #[test]
    fn a_request_that_has_memory_of_its_own_says_the_same_and_holds_nothing_else() {
        let buffer = Bytes::from(b"/mcp?a=b one two".to_vec());
        let value = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x", value(9..12));
        headers.append("x", value(13..16));
        headers.append("y", value(0..0));
        headers.get_mut("y").unwrap().set_sensitive(true);
        let mut uri = Uri::from_maybe_shared(buffer.slice(..8)).unwrap();
        let (uri_before, headers_before) = (uri.to_string(), headers.clone());
        detach(&mut uri, &mut headers);
        assert_eq!(uri.to_string(), uri_before);
        assert_eq!(headers, headers_before);
        assert!(headers["y"].is_sensitive());
        drop(headers_before);
        assert!(buffer.is_unique(), "something still holds it");
    }
}
