//! The proxy: `CONNECT`, and plain HTTP with whole URLs.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::relay::egress_outside;
use crate::resolver;
use crate::rules::Rules;
use crate::streams::{join, serve as serve_one};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(20);
/// A request's head is not longer, and has to be there in this time.
const LONGEST_HEAD: usize = 64 << 10;
const HEAD: Duration = Duration::from_secs(30);

/// Serves the workload without end.
pub(crate) fn serve(rules: &Arc<Rules>, gateway: Option<Ipv4Addr>) -> io::Result<()> {
    for client in egress_outside()?.incoming() {
        let Ok(client) = client else { continue };
        let rules = Arc::clone(rules);
        serve_one(move || one(client, &rules, gateway));
    }
    Ok(())
}

/// Where a request wants to go, and what is sent there first.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    host: String,
    port: u16,
    first: Option<Vec<u8>>,
}

fn one(mut client: UnixStream, rules: &Rules, gateway: Option<Ipv4Addr>) -> io::Result<()> {
    client.set_read_timeout(Some(HEAD))?;
    let Some((head, rest)) = read_head(&mut client)? else {
        return refuse(
            &mut client,
            "431 Request Header Fields Too Large",
            "the head is too long",
        );
    };
    client.set_read_timeout(None)?;
    let Some(wanted) = wanted(&head) else {
        return refuse(
            &mut client,
            "400 Bad Request",
            "this is a proxy for HTTP and CONNECT",
        );
    };
    let Wanted { host, port, first } = wanted;
    if !rules.allow(&host, port) {
        return refuse(
            &mut client,
            "403 Forbidden",
            &format!("{host}:{port} is not allowed by the permission profile"),
        );
    }
    let addresses = match resolver::addresses(&host) {
        Ok(addresses) => addresses,
        Err(error) => return refuse(&mut client, "502 Bad Gateway", &format!("{host}: {error}")),
    };
    let known = !addresses.is_empty();
    let allowed: Vec<_> = addresses
        .into_iter()
        .filter(|address| rules.allow_address(*address, gateway))
        .collect();
    if known && allowed.is_empty() {
        return refuse(
            &mut client,
            "403 Forbidden",
            &format!("{host} leads to an address that is not allowed"),
        );
    }
    let server = allowed
        .into_iter()
        .map(|address| TcpStream::connect_timeout(&SocketAddrV4::new(address, port).into(), CONNECT))
        .find_map(Result::ok);
    let Some(mut server) = server else {
        return refuse(
            &mut client,
            "502 Bad Gateway",
            &format!("{host}:{port} cannot be reached"),
        );
    };
    server.set_nodelay(true)?;
    match first {
        None => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?,
        Some(first) => server.write_all(&first)?,
    }
    server.write_all(&rest)?;
    join(client, server)
}

/// The head of a request, and what came behind it; `None` if it is too long.
fn read_head(client: &mut UnixStream) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
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
fn wanted(head: &[u8]) -> Option<Wanted> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !version.starts_with("HTTP/1.") {
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
    for line in lines {
        let name = line.split(':').next()?.trim().to_ascii_lowercase();
        let ours = [
            "host",
            "connection",
            "proxy-connection",
            "proxy-authorization",
            "keep-alive",
        ];
        if line.contains(['\r', '\n']) || line.starts_with([' ', '\t']) {
            return None;
        }
        if !ours.contains(&name.as_str()) {
            first.push_str(line);
            first.push_str("\r\n");
        }
    }
    first.push_str("\r\n");
    Some(Wanted {
        host,
        port,
        first: Some(first.into_bytes()),
    })
}

/// `host:port`; IPv6 is not spoken.
fn authority(text: &str, default: Option<u16>) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, default?),
    };
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    is_name.then(|| (host.to_owned(), port))
}

fn refuse(client: &mut UnixStream, status: &str, why: &str) -> io::Result<()> {
    let body = format!("thv: {why}\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes())
}

#[cfg(test)]
mod tests {
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
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "CONNECT a.example HTTP/1.1\r\n\r\n",
            "CONNECT [::1]:443 HTTP/1.1\r\n\r\n",
            "GET http://user@a.example/ HTTP/1.1\r\n\r\n",
            "GET https://a.example/ HTTP/1.1\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert_eq!(wanted(bad.as_bytes()), None, "{bad}");
        }
    }
}
