//! Names, asked for at the engine's resolver.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const TRIES: usize = 3;
const WAIT: Duration = Duration::from_secs(3);
/// As large as an answer over UDP may be without extensions.
const LARGEST: usize = 512;
/// Where the parts of a message begin that come after its header.
const HEADER: usize = 12;

/// The IPv4 addresses of a host: itself if it is one.
pub(crate) fn addresses(host: &str) -> io::Result<Vec<Ipv4Addr>> {
    addresses_within(host, TRIES)
}

/// As [`addresses`], where the resolver is asked so often.
pub(crate) fn addresses_within(host: &str, tries: usize) -> io::Result<Vec<Ipv4Addr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let server = server(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let mut last = io::Error::other("nobody was asked");
    for _ in 0..tries {
        match ask(server, host) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                last = io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer");
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

fn ask(server: SocketAddr, host: &str) -> io::Result<Vec<Ipv4Addr>> {
    // Of no use to guess: whoever else is on the network could send an answer too.
    let number = RandomState::new().build_hasher().finish() as u16;
    let question = question(host, number).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut answer = over_udp(server, &question)?;
    // With aliases enough, no address is among what fits. Otherwise what was cut off is not missed.
    if answer.is_cut && answer.addresses.is_empty() {
        answer = over_tcp(server, &question)?;
    }
    match answer.code {
        KNOWN | NOT_KNOWN => Ok(answer.addresses),
        code => Err(io::Error::other(format!("the resolver failed (code {code})"))),
    }
}

fn over_udp(server: SocketAddr, question: &[u8]) -> io::Result<Answer> {
    let local: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect(server)?;
    socket.send(question)?;
    let end = Instant::now() + WAIT;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let mut buffer = [0; LARGEST];
        let read = socket.recv(&mut buffer)?;
        // What is no answer to this question is somebody else's.
        if let Some(answer) = answer(&buffer[..read], question) {
            return Ok(answer);
        }
    }
}

fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    answer(&bytes, question).ok_or_else(|| io::Error::other("the resolver's answer makes no sense"))
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

/// What a resolver says of a name that it found, or of one that does not exist. Any other code says nothing of the name.
const KNOWN: u16 = 0;
const NOT_KNOWN: u16 = 3;

/// What a resolver answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// How it went.
    code: u16,
    /// None where the name is not known.
    addresses: Vec<Ipv4Addr>,
    /// There is more than fitted.
    is_cut: bool,
}

/// The answer to a question; `None` if it is none to that.
fn answer(bytes: &[u8], question: &[u8]) -> Option<Answer> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let flags = word(2)?;
    let (is_answer, is_cut, code) = (flags & 0x8000 != 0, flags & 0x0200 != 0, flags & 0x000f);
    let begins = bytes.get(..2)? == question.get(..2)?;
    if !is_answer || !begins {
        return None;
    }
    let mut addresses = Vec::new();
    if code != KNOWN {
        return Some(Answer {
            code,
            addresses,
            is_cut,
        });
    }
    let mut at = question.len();
    let repeats = bytes.get(HEADER..at)?.eq_ignore_ascii_case(&question[HEADER..]);
    if word(4)? != 1 || !repeats {
        return None;
    }
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
            addresses.push(Ipv4Addr::new(a, b, c, d));
        }
    }
    Some(Answer {
        code,
        addresses,
        is_cut,
    })
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
    use std::net::TcpListener;

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
    /// An address, of the name that was asked for.
    const RECORD: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 203, 0, 113, 7];
    const ALIAS: [u8; 14] = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12];

    /// The answer with these records.
    fn answer_to(question: &[u8], records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] |= 0x80;
        bytes[7] = u8::try_from(records.len()).unwrap();
        bytes.extend(records.concat());
        bytes
    }

    fn found(bytes: &[u8], question: &[u8]) -> Option<Vec<Ipv4Addr>> {
        answer(bytes, question).map(|answer| answer.addresses)
    }

    #[test]
    fn addresses_are_found_behind_aliases() {
        let asked = question("a.example", 7).unwrap();
        let answer = answer_to(&asked, &[&ALIAS, &RECORD]);
        assert_eq!(found(&answer, &asked), Some(vec![ADDRESS]));
        assert_eq!(found(&answer[..answer.len() - 3], &asked), Some(vec![]));
        assert_eq!(found(&answer[..5], &asked), None);
        assert!(question(&"a".repeat(64), 1).is_none() && question("a..b", 1).is_none());
    }

    #[test]
    fn what_answers_another_question_is_no_answer() {
        let asked = question("a.example", 7).unwrap();
        let right = answer_to(&asked, &[&RECORD]);
        let shouted = answer_to(&question("A.Example", 7).unwrap(), &[&RECORD]);
        assert_eq!(found(&shouted, &asked), Some(vec![ADDRESS]));
        for (what, bytes) in [
            (
                "another number",
                answer_to(&question("a.example", 8).unwrap(), &[&RECORD]),
            ),
            (
                "another name",
                answer_to(&question("b.example", 7).unwrap(), &[&RECORD]),
            ),
            (
                "a longer name",
                answer_to(&question("a.example.b", 7).unwrap(), &[&RECORD]),
            ),
            ("a question", [asked.clone(), RECORD.to_vec()].concat()),
            ("nothing", Vec::new()),
        ] {
            assert_eq!(found(&bytes, &asked), None, "{what}");
        }
        // A name that is not known, with or without the question.
        for length in [right.len(), HEADER] {
            let mut failed = right[..length].to_vec();
            failed[3] |= 3;
            assert_eq!(found(&failed, &asked), Some(vec![]));
        }
        // Names that end nowhere, lead in circles, or claim to be longer than all that there is.
        for tail in [
            &[0x3f][..],
            &[0xc0],
            &[0xc0, 12],
            &[1, b'a', 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0xff, 0xff],
        ] {
            assert_eq!(
                found(&answer_to(&asked, &[tail]), &asked),
                Some(vec![]),
                "{tail:?}"
            );
        }
    }

    #[test]
    fn a_resolver_that_fails_does_not_say_that_there_is_no_such_name() {
        for (code, expected) in [(0, true), (2, false), (3, true), (5, false)] {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let server = udp.local_addr().unwrap();
            let resolver = std::thread::spawn(move || {
                let mut buffer = [0; LARGEST];
                let (read, client) = udp.recv_from(&mut buffer).unwrap();
                let mut empty = answer_to(&buffer[..read], &[]);
                empty[3] |= code;
                udp.send_to(&empty, client).unwrap();
            });
            let answer = ask(server, "a.example");
            assert_eq!(answer.ok(), expected.then(Vec::new), "{code}");
            resolver.join().unwrap();
        }
    }

    /// A resolver on loopback, of which each way answers once.
    #[test]
    fn what_did_not_fit_into_a_packet_is_asked_for_over_tcp() {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let server = udp.local_addr().unwrap();
        let resolver = std::thread::spawn(move || {
            let mut buffer = [0; LARGEST];
            let (read, client) = udp.recv_from(&mut buffer).unwrap();
            let stranger = answer_to(&question("b.example", 7).unwrap(), &[&RECORD]);
            udp.send_to(&stranger, client).unwrap();
            let mut cut = answer_to(&buffer[..read], &[&ALIAS]);
            cut[2] |= 2;
            udp.send_to(&cut, client).unwrap();
            let (mut client, _) = tcp.accept().unwrap();
            let read = client.read(&mut buffer).unwrap();
            let whole = answer_to(&buffer[2..read], &[&ALIAS, &RECORD]);
            let length = u16::try_from(whole.len()).unwrap().to_be_bytes();
            client.write_all(&[&length, whole.as_slice()].concat()).unwrap();
        });
        assert_eq!(ask(server, "a.example").unwrap(), [ADDRESS]);
        resolver.join().unwrap();
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
