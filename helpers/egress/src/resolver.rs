//! Names, asked for at the engine's resolver.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const TRIES: usize = 3;
const WAIT: Duration = Duration::from_secs(3);
/// As large as an answer over UDP may be without extensions; what is cut has addresses all the same.
const LARGEST: usize = 512;

/// The IPv4 addresses of a host: itself if it is one.
pub(crate) fn addresses(host: &str) -> io::Result<Vec<Ipv4Addr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let server = server(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let mut last = io::Error::other("nobody was asked");
    for number in 0..TRIES {
        match ask(server, host, number as u16 + 0x5154) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                last = error;
            }
            answer => return answer,
        }
    }
    Err(last)
}

fn server(file: &str) -> SocketAddr {
    let named = file.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    SocketAddr::new(named.unwrap_or(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11))), 53)
}

fn ask(server: SocketAddr, host: &str, id: u16) -> io::Result<Vec<Ipv4Addr>> {
    let local: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.send(&question(host, id).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?)?;
    let mut buffer = [0; LARGEST];
    let read = socket.recv(&mut buffer)?;
    answers(&buffer[..read], id).ok_or_else(|| io::Error::other("the resolver's answer makes no sense"))
}

/// A question for the addresses (type A) of a host.
fn question(host: &str, id: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&id.to_be_bytes());
    // Recursion is desired; one question.
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in host.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    (bytes.len() < 300).then_some(bytes)
}

/// The addresses in an answer; none where the name is not known.
fn answers(bytes: &[u8], id: u16) -> Option<Vec<Ipv4Addr>> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if word(0)? != id {
        return None;
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = after_name(bytes, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..word(6)? {
        // What was cut off is not missed.
        let Some(head) = after_name(bytes, at) else { break };
        let (Some(kind), Some(length)) = (word(head), word(head + 8)) else {
            break;
        };
        let data = head + 10;
        at = data + usize::from(length);
        if kind == 1
            && length == 4
            && let Some(&[a, b, c, d]) = bytes.get(data..at)
        {
            found.push(Ipv4Addr::new(a, b, c, d));
        }
    }
    Some(found)
}

fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            // A reference to a name elsewhere ends it.
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_behind_aliases() {
        let mut answer = question("a.example", 7).unwrap();
        answer[7] = 2;
        // An alias, then an address.
        answer.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 203, 0, 113, 7]);
        assert_eq!(answers(&answer, 7), Some(vec![Ipv4Addr::new(203, 0, 113, 7)]));
        assert_eq!(answers(&answer, 8), None);
        assert_eq!(answers(&answer[..answer.len() - 3], 7), Some(vec![]));
        assert_eq!(answers(&answer[..5], 7), None);
        assert!(question(&"a".repeat(64), 1).is_none() && question("a..b", 1).is_none());
    }

    #[test]
    fn the_first_resolver_is_asked() {
        assert_eq!(
            server("# x\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n").to_string(),
            "192.0.2.1:53"
        );
        assert_eq!(server("").to_string(), "127.0.0.11:53");
    }
}
