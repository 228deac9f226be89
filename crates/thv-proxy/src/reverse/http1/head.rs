//! Heads of requests and of answers.

use std::io::Write as _;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::{Method, Response, StatusCode, Uri};

use super::WireError;

/// An answer with more headers is refused.
pub(super) const MOST_HEADERS: usize = 100;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// The head of an answer, and what it says of the bytes behind it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// Whether the connection may be used again.
    pub(super) keep_alive: bool,
}

/// Writes the head of a request whose body has so many bytes.
pub(super) fn write(
    method: &Method,
    uri: &Uri,
    host: &HeaderValue,
    headers: &HeaderMap,
    length: usize,
    out: &mut Vec<u8>,
) {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\nhost: "] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(host.as_bytes());
    if !headers.contains_key(ACCEPT) {
        out.extend_from_slice(b"\r\naccept: */*");
    }
    if length > 0 || *method == Method::POST {
        // Memory takes all of it.
        let _ = write!(out, "\r\ncontent-length: {length}");
    }
    for (name, value) in headers {
        // What these say is said already.
        if *name == HOST || *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING {
            continue;
        }
        for part in [b"\r\n", name.as_str().as_bytes(), b": ", value.as_bytes()] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Whether `bytes` has the end of a head; what lies before `from` was looked at before.
pub(super) fn has_end(bytes: &[u8], from: usize) -> bool {
    let from = from.saturating_sub(2);
    memchr::memchr_iter(b'\n', &bytes[from..]).any(|at| {
        let rest = &bytes[from + at + 1..];
        rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
    })
}

/// The head of the answer to a request of `method` at the beginning of `bytes`, and how long it is; none when it has not
/// ended. Values of headers share the memory of `bytes`.
pub(super) fn parse(method: &Method, bytes: &Bytes) -> Result<Option<(Head, usize)>, WireError> {
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let parsing = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut headers,
    );
    let httparse::Status::Complete(length) = parsing.map_err(WireError::Head)? else {
        return Ok(None);
    };
    let mut response = Response::new(());
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    *response.status_mut() = status.ok_or(WireError::Status)?;
    let found = response.headers_mut();
    found.reserve(parsed.headers.len());
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| WireError::Header)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value));
        found.append(name, value.map_err(|_| WireError::Header)?);
    }
    let newest = parsed.version == Some(1);
    let framing = framing(method, &mut response, newest)?;
    let keep_alive = newest
        && framing != Framing::UntilClose
        && !says_close(response.headers())
        && !threatens_a_body(&response);
    let head = Head {
        response,
        framing,
        keep_alive,
    };
    Ok(Some((head, length)))
}

/// RFC 9112, 6.3; where that says that a message might be an attack, it is refused.
fn framing(method: &Method, response: &mut Response<()>, newest: bool) -> Result<Framing, WireError> {
    let status = response.status();
    let headers = response.headers_mut();
    let coding = only(headers, &TRANSFER_ENCODING, WireError::Coding)?;
    let length = only(headers, &CONTENT_LENGTH, WireError::Length)?;
    let length = length.map(number).transpose()?;
    if status.is_informational()
        || *method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Ok(Framing::Length(0));
    }
    match (coding, length) {
        (None, Some(length)) => Ok(Framing::Length(length)),
        (None, None) => Ok(Framing::UntilClose),
        (Some(_), Some(_)) => Err(WireError::Length),
        (Some(coding), None) if newest && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        (Some(_), None) => Err(WireError::Coding),
    }
}

/// Whether an answer that never has a body says that it has one: if that comes, it is not the answer to the next request.
fn threatens_a_body(response: &Response<()>) -> bool {
    let headers = response.headers();
    response.status() == StatusCode::NO_CONTENT
        && (headers.contains_key(TRANSFER_ENCODING)
            || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0"))
}

/// The value of a header that may come once, or several times the same.
fn only<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    otherwise: WireError,
) -> Result<Option<&'h HeaderValue>, WireError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.any(|value| Some(value) != first) {
        return Err(otherwise);
    }
    Ok(first)
}

fn number(value: &HeaderValue) -> Result<u64, WireError> {
    let digits = value.as_bytes();
    // A sign would be a number too.
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(WireError::Length);
    }
    let text = value.to_str().map_err(|_| WireError::Length)?;
    text.parse().map_err(|_| WireError::Length)
}

/// Whether a message is the last one of its connection.
pub(super) fn says_close(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(method: &Method, text: &str) -> Result<Option<(Head, usize)>, WireError> {
        parse(method, &Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn the_end_of_a_body_is_known_or_the_answer_is_refused() {
        use Framing::{Chunked, Length, UntilClose};
        let get = Method::GET;
        let cases = [
            (
                &get,
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                Some((Length(5), true)),
            ),
            (
                &get,
                "HTTP/1.1 200 OK\ncontent-length: 5\n\n",
                Some((Length(5), true)),
            ),
            (
                &get,
                "HTTP/1.1 200\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                Some((Length(5), true)),
            ),
            (
                &get,
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: x, Close\r\n\r\n",
                Some((Length(5), false)),
            ),
            (
                &get,
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n",
                Some((Length(5), false)),
            ),
            (
                &get,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Some((Chunked, true)),
            ),
            (&get, "HTTP/1.1 200 OK\r\n\r\n", Some((UntilClose, false))),
            (
                &get,
                "HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n",
                Some((Length(0), false)),
            ),
            (
                &get,
                "HTTP/1.1 304 No\r\ncontent-length: 5\r\n\r\n",
                Some((Length(0), true)),
            ),
            (
                &get,
                "HTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\n",
                Some((Length(0), true)),
            ),
            (
                &Method::HEAD,
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                Some((Length(0), true)),
            ),
            (
                &get,
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
                None,
            ),
            (&get, "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n", None),
            (&get, "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n", None),
            (&get, "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n", None),
            (
                &get,
                "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
                None,
            ),
            (
                &get,
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
                None,
            ),
            (
                &get,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
                None,
            ),
            (
                &get,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\r\n",
                None,
            ),
            (
                &get,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
                None,
            ),
            (
                &get,
                "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                None,
            ),
            (&get, "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", None),
            (&get, "HTTP/1.1 200 OK\r\na b: c\r\n\r\n", None),
            (&get, "HTTP/1.1 99 OK\r\n\r\n", None),
            (&get, "HTTP/2.0 200 OK\r\n\r\n", None),
            (&get, "SSH-2.0-server\r\n\r\n", None),
        ];
        for (method, text, expected) in cases {
            let found = parsed(method, text).map(|head| head.unwrap());
            let found = found.map(|(head, length)| {
                assert_eq!(length, text.len(), "{text}");
                (head.framing, head.keep_alive)
            });
            assert_eq!(found.ok(), expected, "{text}");
        }
    }

    #[test]
    fn an_answer_has_so_many_headers_and_no_more() {
        let with = |count: usize| {
            let headers = "x: y\r\n".repeat(count);
            parsed(&Method::GET, &format!("HTTP/1.1 204 No\r\n{headers}\r\n"))
        };
        let (head, _) = with(MOST_HEADERS).unwrap().unwrap();
        assert_eq!(head.response.headers().get_all("x").iter().count(), MOST_HEADERS);
        assert!(with(MOST_HEADERS + 1).is_err());
    }

    #[test]
    fn a_request_says_once_what_it_says() {
        let headers = [
            ("host", "other"),
            ("content-length", "77"),
            ("a", "b"),
            ("transfer-encoding", "chunked"),
        ];
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let written = |method: Method, length: usize| {
            let mut out = Vec::new();
            let host = HeaderValue::from_static("here:1");
            write(
                &method,
                &Uri::from_static("/mcp?x"),
                &host,
                &headers,
                length,
                &mut out,
            );
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(Method::POST, 1203),
            "POST /mcp?x HTTP/1.1\r\nhost: here:1\r\naccept: */*\r\ncontent-length: 1203\r\na: b\r\n\r\n"
        );
        assert!(written(Method::POST, 0).contains("\r\ncontent-length: 0\r\n"));
        assert!(!written(Method::GET, 0).contains("content-length"));
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_comes() {
        for text in ["a\r\nb\r\n\r\n", "a\n\n", "a\r\n\n", "\r\n\r\nrest"] {
            let mut seen = 0;
            let whole = has_end(text.as_bytes(), 0);
            let found = (1..=text.len()).any(|length| {
                let found = has_end(&text.as_bytes()[..length], seen);
                seen = length;
                found
            });
            assert!(whole && found, "{text:?}");
        }
        assert!(!has_end(b"a\r\nb\r\nc", 0));
    }
}
