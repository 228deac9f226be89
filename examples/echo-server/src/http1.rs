//! As much HTTP/1.1 as a test server needs: one thread for each connection, keep-alive, bodies of a known length or
//! chunked, and event streams.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::log;

const HEAD_LIMIT: u64 = 64 * 1024;
const BODY_LIMIT: u64 = 64 * 1024 * 1024;

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The first header of that name (lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Accepts until the process ends; `handle` writes one response for each request.
pub(crate) fn serve<H>(address: SocketAddr, path: &str, handle: H) -> io::Result<()>
where
    H: Fn(Request, &mut Responder<'_>) -> io::Result<()> + Send + Sync + 'static,
{
    let listener = TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    log(&format!("listening on http://{}{path}", listener.local_addr()?));
    let handle = Arc::new(handle);
    for stream in listener.incoming() {
        // A client that is gone before it was accepted, or a passing lack of descriptors: not the end of the server.
        let Ok(stream) = stream else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let handle = Arc::clone(&handle);
        let spawned = std::thread::Builder::new().spawn(move || {
            // The client closed the connection, or sent what is not HTTP and was told so.
            let _ = connection(&stream, &*handle);
        });
        if let Err(error) = spawned {
            log(&format!("no thread for a connection: {error}"));
        }
    }
    Ok(())
}

fn connection(
    stream: &TcpStream,
    handle: &dyn Fn(Request, &mut Responder<'_>) -> io::Result<()>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    loop {
        let mut responder = Responder {
            stream,
            keep_alive: true,
        };
        match read_request(&mut reader, stream) {
            Ok(Some(request)) => {
                responder.keep_alive = !request
                    .header("connection")
                    .is_some_and(|value| value.eq_ignore_ascii_case("close"));
                handle(request, &mut responder)?;
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                responder.keep_alive = false;
                responder.text(400, &error.to_string())?;
            }
        }
        if !responder.keep_alive {
            return Ok(());
        }
    }
}

/// `None` when the client closed the connection between requests.
fn read_request(reader: &mut impl BufRead, mut stream: impl Write) -> io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(HEAD_LIMIT);
    let Some(line) = read_line(&mut head)? else {
        return Ok(None);
    };
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) =
        (words.next(), words.next(), words.next())
    else {
        return Err(invalid("not an HTTP/1.1 request line"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let line = read_line(&mut head)?.ok_or_else(|| invalid("the head is cut off"))?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| invalid("a header without a colon"))?;
        request
            .headers
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if request
        .header("expect")
        .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.body = if request.header("transfer-encoding").is_some() {
        read_chunks(reader)?
    } else {
        let length = request.header("content-length").unwrap_or("0");
        read_exact(
            reader,
            length
                .parse()
                .map_err(|_| invalid("content-length is not a number"))?,
        )?
    };
    Ok(Some(request))
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(&mut reader.by_ref().take(HEAD_LIMIT))?.ok_or_else(|| invalid("cut off"))?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("a chunk without a size"))?;
        if size.saturating_add(body.len() as u64) > BODY_LIMIT {
            return Err(invalid("the body is too large"));
        }
        body.extend(read_exact(reader, size)?);
        // The line end behind a chunk; behind the last one, trailers and an empty line.
        while read_line(&mut reader.by_ref().take(HEAD_LIMIT))?.is_some_and(|line| !line.is_empty()) {}
        if size == 0 {
            return Ok(body);
        }
    }
}

fn read_exact(reader: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    if length > BODY_LIMIT {
        return Err(invalid("the body is too large"));
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    if body.len() as u64 == length {
        Ok(body)
    } else {
        Err(invalid("the body is cut off"))
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let line = line
        .strip_suffix(b"\n")
        .ok_or_else(|| invalid("a line is cut off or too long"))?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8(line.to_vec())
        .map(Some)
        .map_err(|_| invalid("a header is not UTF-8"))
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Writes the one response to a request.
#[derive(Debug)]
pub(crate) struct Responder<'a> {
    stream: &'a TcpStream,
    keep_alive: bool,
}

impl Responder<'_> {
    pub(crate) fn send(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let mut response = self.head(status, headers);
        if status != 204 {
            response.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        response.extend_from_slice(b"\r\n");
        response.extend_from_slice(body);
        // One write: with two, Nagle and delayed acknowledgements cost 40 ms.
        self.stream.write_all(&response)
    }

    pub(crate) fn text(&mut self, status: u16, text: &str) -> io::Result<()> {
        self.send(status, &[("Content-Type", "text/plain")], text.as_bytes())
    }

    /// Starts an event stream; it ends when the value is dropped, and so does the connection.
    pub(crate) fn events(&mut self, headers: &[(&str, &str)]) -> io::Result<Events<'_>> {
        self.keep_alive = false;
        let mut all = vec![
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-cache"),
        ];
        all.extend_from_slice(headers);
        let mut response = self.head(200, &all);
        response.extend_from_slice(b"\r\n");
        self.stream.write_all(&response)?;
        Ok(Events { stream: self.stream })
    }

    fn head(&self, status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if !self.keep_alive {
            head.push_str("Connection: close\r\n");
        }
        head.into_bytes()
    }
}

/// An event stream that is being written.
#[derive(Debug)]
pub(crate) struct Events<'a> {
    stream: &'a TcpStream,
}

impl Events<'_> {
    /// `data` is one line, as JSON without line breaks is.
    pub(crate) fn event(&self, name: &str, data: &str) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(format!("event: {name}\ndata: {data}\n\n").as_bytes())
    }

    /// A comment: tells whether the client is still there.
    pub(crate) fn keep_alive(&self) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(b": keep-alive\n\n")
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> io::Result<Option<Request>> {
        read_request(&mut text.as_bytes(), io::sink())
    }

    #[test]
    fn bodies_of_known_length_and_in_chunks_are_read() {
        let known = parse("POST /mcp?a=b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").expect("valid");
        let known = known.expect("a request");
        assert_eq!(
            (known.path.as_str(), known.query.as_str(), &*known.body),
            ("/mcp", "a=b", &b"hello"[..])
        );
        let chunked =
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).expect("valid").expect("a request").body, b"hello");
    }

    #[test]
    fn the_end_between_requests_is_not_an_error() {
        assert!(parse("").expect("valid").is_none());
    }

    #[test]
    fn what_is_not_http_is_refused() {
        let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(70_000));
        let big = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", BODY_LIMIT + 1);
        for text in [
            "hello\r\n",
            "GET / HTTP/2\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            &long,
            &big,
        ] {
            assert!(parse(text).is_err(), "{text:.40}");
        }
        assert!(parse("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort").is_err());
    }
}
