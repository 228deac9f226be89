//! HTTP by hand, for requests that no client would send.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::WAIT;

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; of a stream of events, the last one's data.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = self.text();
        let last = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("data:"))
            .unwrap_or(&text);
        serde_json::from_str(last)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {text}", self.status))
    }
}

/// Posts JSON to `/mcp` as an MCP client does, with more headers or others instead of the usual ones.
///
/// # Panics
/// As [`exchange`].
pub async fn post(port: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
    let usual = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    let usual = usual
        .iter()
        .filter(|(name, _)| headers.iter().all(|(given, _)| !given.eq_ignore_ascii_case(name)));
    let headers: Vec<_> = usual.chain(headers).copied().collect();
    request(port, "POST", "/mcp", &headers, body).await
}

/// Sends one request with a body of known length on a connection of its own.
///
/// # Panics
/// As [`exchange`].
pub async fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Response {
    use std::fmt::Write as _;
    let body = body.as_ref();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        let _ = write!(head, "host: 127.0.0.1:{port}\r\n");
    }
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    exchange(port, &[head.as_bytes(), body].concat()).await
}

/// Sends bytes, whatever they are, and reads an answer to its end: of one that says how long it is that is known before its
/// connection is closed.
///
/// # Panics
/// When nobody listens, or there is no answer in time.
pub async fn exchange(port: u16, bytes: &[u8]) -> Response {
    let work = async {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("the port is open");
        let (mut from, mut to) = stream.into_split();
        let mut answer = Vec::new();
        // A server may answer before it has read everything: then the rest need not be written, or cannot be, and the answer counts.
        let write = async {
            let _ = to.write_all(bytes).await;
            std::future::pending::<()>().await;
        };
        let read = async {
            while !is_whole(&answer) && from.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
        };
        tokio::select! {
            () = read => {}
            () = write => {}
        }
        answer
    };
    let answer = tokio::time::timeout(WAIT, work).await.expect("an answer");
    parse(&answer)
}

/// Whether this is all of an answer that says how long it is.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|part| part == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() - end - 4 >= length)
}

fn parse(answer: &[u8]) -> Response {
    let shown = || String::from_utf8_lossy(answer).into_owned();
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer, but {:?}", shown()));
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &answer[end + 4..];
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    Response {
        status: status.unwrap_or_else(|| panic!("no status in {:?}", shown())),
        headers,
        body: if chunked { join_chunks(body) } else { body.to_vec() },
    }
}

/// Joins the chunks that have arrived.
fn join_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|part| part == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok());
        let chunk = size
            .filter(|size| *size > 0)
            .and_then(|size| rest.get(end + 2..end + 2 + size));
        let Some(chunk) = chunk else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + chunk.len()..).unwrap_or_default();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        let answer =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n");
        assert_eq!((answer.status, answer.text().as_str()), (200, "abcd"));
    }

    #[test]
    fn an_answer_is_whole_when_it_says_so() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert!(is_whole(answer) && !is_whole(&answer[..answer.len() - 1]));
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\n\r\nok"), "its end tells");
    }

    #[test]
    fn the_last_event_is_the_answer() {
        let answer = parse(b"HTTP/1.1 200 OK\r\n\r\ndata: {\"a\":1}\n\ndata: {\"a\":2}\n\n");
        assert_eq!(answer.json()["a"], 2);
    }
}
