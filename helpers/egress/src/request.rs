//! What a client of the proxy asks for. It may be hostile: what could be read in two ways is refused.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A request's head is not longer.
const LONGEST_HEAD: usize = 64 << 10;

/// Headers of a connection, which are ours to write.
const OURS: [&str; 5] = [
    "host",
    "connection",
    "proxy-connection",
    "proxy-authorization",
    "keep-alive",
];

/// Where a request wants to go, and what is sent there first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) first: Option<Vec<u8>>,
}

/// The head of a request, and what came behind it; `None` if it is too long. All of it has to come within `limit`, however
/// slowly its bytes drop in.
pub(crate) fn read_head(client: &mut UnixStream, limit: Duration) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let end = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.set_read_timeout(Some(left))?;
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let from = bytes.len().saturating_sub(3);
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(end) = bytes[from..].windows(4).position(|end| end == b"\r\n\r\n") {
            let rest = bytes.split_off(from + end + 4);
            return Ok(Some((bytes, rest)));
        }
        if bytes.len() > LONGEST_HEAD {
            return Ok(None);
        }
    }
}

/// What a head asks for. Of a plain request the server gets the path alone, and is asked to close after its answer: a
/// second request on the connection could be for another host.
pub(crate) fn wanted(head: &[u8]) -> Option<Wanted> {
    let text = std::str::from_utf8(head).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = text.split("\r\n");
    let request = lines.next()?;
    // A lone line feed would be a header of its own to some servers.
    if !request.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    let mut words = request.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") || !is_token(method) {
        return None;
    }
    if method == "CONNECT" {
        let (host, port) = authority(target, None)?;
        return Some(Wanted {
            host,
            port,
            first: None,
        });
    }
    let rest = target.strip_prefix("http://")?;
    let (place, path) = match rest.find(['/', '?']) {
        Some(at) => (&rest[..at], &rest[at..]),
        None => (rest, "/"),
    };
    let (host, port) = authority(place, Some(80))?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut first = format!("{method} {slash}{path} {version}\r\nHost: {place}\r\nConnection: close\r\n");
    let mut lengths = 0;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if !is_token(name) || value.chars().any(|c| c.is_control() && c != '\t') {
            return None;
        }
        let name = name.to_ascii_lowercase();
        // Two of them are two requests to somebody.
        lengths += usize::from(matches!(name.as_str(), "content-length" | "transfer-encoding"));
        if !OURS.contains(&name.as_str()) {
            first.push_str(line);
            first.push_str("\r\n");
        }
    }
    if lengths > 1 {
        return None;
    }
    first.push_str("\r\n");
    Some(Wanted {
        host,
        port,
        first: Some(first.into_bytes()),
    })
}

/// What methods and names of headers are made of.
fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

/// `host:port`; IPv6 is not spoken.
fn authority(text: &str, default: Option<u16>) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, number(port)?),
        None => (text, default?),
    };
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    is_name.then(|| (host.to_owned(), port))
}

/// Digits alone: `+80` is a number too.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn requests_are_read_as_a_proxy_does() {
        let connect = wanted(b"CONNECT a.example:443 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(
            (connect.host.as_str(), connect.port, connect.first),
            ("a.example", 443, None)
        );
        let plain = wanted(b"GET http://a.example:81/p?q HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\nX: y\r\n\r\n").unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("a.example", 81));
        let first = String::from_utf8(plain.first.unwrap()).unwrap();
        assert_eq!(
            first,
            "GET /p?q HTTP/1.1\r\nHost: a.example:81\r\nConnection: close\r\nX: y\r\n\r\n"
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "CONNECT a.example HTTP/1.1\r\n\r\n",
            "CONNECT a.example: HTTP/1.1\r\n\r\n",
            "CONNECT a.example:0 HTTP/1.1\r\n\r\n",
            "CONNECT a.example:+80 HTTP/1.1\r\n\r\n",
            "CONNECT a.example:65616 HTTP/1.1\r\n\r\n",
            "CONNECT a.example:443:80 HTTP/1.1\r\n\r\n",
            "CONNECT [::1]:443 HTTP/1.1\r\n\r\n",
            "CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1\r\n\r\n",
            "CONNECT a.example%00.evil.example:443 HTTP/1.1\r\n\r\n",
            "CONNECT b\u{fc}cher.example:443 HTTP/1.1\r\n\r\n",
            "CONNECT a.example:443 HTTP/2.0\r\n\r\n",
            "GET http://user@a.example/ HTTP/1.1\r\n\r\n",
            "GET http://evil.example#@a.example/ HTTP/1.1\r\n\r\n",
            "GET http://evil.example\\@a.example/ HTTP/1.1\r\n\r\n",
            "GET https://a.example/ HTTP/1.1\r\n\r\n",
            "GET http:///a.example/ HTTP/1.1\r\n\r\n",
            // A header in the first line, by a lone line feed.
            "GET http://a.example/\nHost:evil.example HTTP/1.1\r\n\r\n",
            "GET http://a.example/ HTTP/1.1\nHost:evil.example\r\n\r\n",
            "GE\tT http://a.example/ HTTP/1.1\r\n\r\n",
            // Headers that are two, none, or another one's.
            "GET http://a.example/ HTTP/1.1\r\nX: y\nHost: evil.example\r\n\r\n",
            "GET http://a.example/ HTTP/1.1\r\nX: y\rHost: evil.example\r\n\r\n",
            "GET http://a.example/ HTTP/1.1\r\nX: y\r\n Host: evil.example\r\n\r\n",
            "GET http://a.example/ HTTP/1.1\r\nHost : evil.example\r\n\r\n",
            "GET http://a.example/ HTTP/1.1\r\nnonsense\r\n\r\n",
            "GET http://a.example/ HTTP/1.1\r\nX\0: y\r\n\r\n",
            "POST http://a.example/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST http://a.example/ HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 50\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert_eq!(wanted(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(wanted(b"CONNECT \xff.example:1 HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn a_head_has_an_end_in_bytes_and_in_time() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"GET http://a.example/ HTTP/1.1\r\n\r\nrest")
            .unwrap();
        let (head, rest) = read_head(&mut near, Duration::from_secs(60)).unwrap().unwrap();
        assert!(head.ends_with(b"\r\n\r\n") && rest == b"rest");

        let writer = std::thread::spawn(move || far.write_all(&vec![b'x'; LONGEST_HEAD + 4096]));
        assert!(read_head(&mut near, Duration::from_secs(60)).unwrap().is_none());
        drop(near);
        let _ = writer.join().unwrap();

        // A client that always has one more byte.
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let drops = std::thread::spawn(move || while far.write_all(b"x").is_ok() {});
        let error = read_head(&mut near, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(near);
        drops.join().unwrap();
    }
}
