//! The forms of an HTTP answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::bridge::{REVISIONS, STATELESS_REVISION};
use crate::mcp_headers::PROTOCOL_VERSION;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What every event of this proxy begins with.
pub(crate) const EVENT_HEAD: &[u8] = b"event: message\ndata: ";
/// What every event ends with.
pub(crate) const EVENT_TAIL: &[u8] = b"\n\n";

fn with(status: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

pub(crate) fn text(status: StatusCode, message: &'static str) -> Response<Body> {
    with(status, TEXT, Body::full(Bytes::from_static(message.as_bytes())))
}

pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    json_body(status, Body::full(body))
}

pub(crate) fn json_body(status: StatusCode, body: Body) -> Response<Body> {
    with(status, JSON, body)
}

/// A JSON-RPC error; `id` is its text as it was sent, empty when there is none.
pub(crate) fn rpc_error(status: StatusCode, code: i32, message: &str, id: &[u8]) -> Response<Body> {
    json(status, error_message(code, message, id))
}

/// An event stream.
pub(crate) fn events(body: Body) -> Response<Body> {
    let mut response = with(StatusCode::OK, EVENTS, body);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The client does not take the one form that the answer has.
pub(crate) fn not_acceptable() -> Response<Body> {
    text(StatusCode::NOT_ACCEPTABLE, "Accept must list text/event-stream")
}

pub(crate) fn method_not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// The text of a JSON-RPC error message, keys sorted.
pub(crate) fn error_message(code: i32, message: &str, id: &[u8]) -> Bytes {
    error_with_data(code, message, None, id)
}

fn error_with_data(code: i32, message: &str, data: Option<&str>, id: &[u8]) -> Bytes {
    let data = data.map_or_else(String::new, |data| format!(r#""data":{data},"#));
    let mut out = format!(
        r#"{{"error":{{"code":{code},{data}"message":{}}},"#,
        crate::jsonrpc::quoted(message)
    )
    .into_bytes();
    if !id.is_empty() {
        out.extend_from_slice(b"\"id\":");
        out.extend_from_slice(id);
        out.push(b',');
    }
    out.extend_from_slice(br#""jsonrpc":"2.0"}"#);
    out.into()
}

pub(crate) fn too_large() -> Response<Body> {
    text(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large\n")
}

/// There is no memory for another large body now.
pub(crate) fn starved() -> Response<Body> {
    let message = "too many large requests are under way, try again";
    let mut response = rpc_error(StatusCode::SERVICE_UNAVAILABLE, -32000, message, b"");
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

pub(crate) fn batch() -> Response<Body> {
    rpc_error(
        StatusCode::BAD_REQUEST,
        -32600,
        "JSON-RPC batch requests are not supported; send one message",
        b"",
    )
}

/// The refusal of a client that names a revision which is not known, in answer to the request with this id.
pub(crate) fn unknown_version(headers: &HeaderMap, id: &[u8]) -> Option<Response<Body>> {
    let version = headers.get(&PROTOCOL_VERSION)?;
    let known = REVISIONS.iter().chain([&STATELESS_REVISION]);
    let known = known.into_iter().any(|known| version == known);
    (!known).then(|| unsupported_version(&String::from_utf8_lossy(version.as_bytes()), id))
}

/// The refusal of a revision, with those that are served.
pub(crate) fn unsupported_version(requested: &str, id: &[u8]) -> Response<Body> {
    let known = [STATELESS_REVISION]
        .into_iter()
        .chain(REVISIONS.iter().rev().copied());
    let known: Vec<String> = known.map(crate::jsonrpc::quoted).collect();
    let (requested, known) = (crate::jsonrpc::quoted(requested), known.join(","));
    let data = format!(r#"{{"requested":{requested},"supported":[{known}]}}"#);
    let message = error_with_data(-32022, "Unsupported protocol version", Some(&data), id);
    json(StatusCode::BAD_REQUEST, message)
}

/// The text that a header of the revision without sessions means: as it is, or between `=?base64?` and `?=`. None when
/// it means nothing: the coding is not whole, or there is something in it that a header cannot say as it is.
pub(crate) fn header_text(value: &[u8]) -> Option<String> {
    let text = match value
        .strip_prefix(b"=?base64?")
        .and_then(|rest| rest.strip_suffix(b"?="))
    {
        Some(coded) => STANDARD.decode(coded).ok()?,
        None if value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) => value.to_vec(),
        None => return None,
    };
    String::from_utf8(text).ok()
}

/// A text as a value of such a header.
pub(crate) fn header_value(text: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim_ascii() == text
        && !text.starts_with("=?base64?");
    if plain {
        return HeaderValue::from_str(text);
    }
    let coded = STANDARD.encode(text);
    HeaderValue::from_str(&format!("=?base64?{coded}?="))
}

/// A response that no proxy on its way should hold back.
pub(crate) fn unbuffered(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

pub(crate) fn session_not_found(id: &[u8]) -> Response<Body> {
    rpc_error(StatusCode::NOT_FOUND, -32001, "Session not found", id)
}

/// A path that no part of a proxy serves.
pub(crate) fn not_found(path: &str) -> Response<Body> {
    if path.starts_with("/.well-known/") {
        return json(StatusCode::NOT_FOUND, r#"{"error":"not_found"}"#);
    }
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_cannot_hold_is_coded() {
        for (text, value) in [
            ("a tool", "a tool"),
            ("café", "=?base64?Y2Fmw6k=?="),
            (" edges ", "=?base64?IGVkZ2VzIA==?="),
            ("=?base64?", "=?base64?PT9iYXNlNjQ/?="),
        ] {
            assert_eq!(header_value(text).unwrap(), value);
            assert_eq!(header_text(value.as_bytes()).unwrap(), text);
        }
        assert_eq!(header_text(b"=?base64?=").unwrap(), "=?base64?=");
        for nothing in [
            "=?base64?YWI?=",
            "=?base64?Y?=",
            "=?base64?YW=I?=",
            "=?base64?/w==?=",
            "café",
        ] {
            assert_eq!(header_text(nothing.as_bytes()), None, "{nothing}");
        }
    }
}
