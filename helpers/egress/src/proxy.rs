//! The proxy: `CONNECT`, and plain HTTP with whole URLs.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::host_table;
use crate::place::Place;
use crate::relay::egress_outside;
use crate::request::{Wanted, read_head, wanted};
use crate::resolver;
use crate::rules::Rules;
use crate::streams::{join, serve as serve_one};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(20);
/// Of the addresses of a name no more are tried.
const MOST_ADDRESSES: usize = 4;
/// A request's head has to be there in this time.
const HEAD: Duration = Duration::from_secs(30);
/// Of who is refused so much more is read, in this time: an end to what is not read would take the answer along.
const REST: u64 = 1 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// Serves the workload without end.
pub(crate) fn serve(rules: Rules, place: Place) -> io::Result<()> {
    // Before the host is looked for: who comes meanwhile waits.
    let clients = egress_outside()?;
    if !rules.gateway {
        place.host.find();
    }
    let (rules, place) = (Arc::new(rules), Arc::new(place));
    for client in clients.incoming() {
        let Ok(client) = client else { continue };
        let (rules, place) = (Arc::clone(&rules), Arc::clone(&place));
        serve_one(move || one(client, &rules, &place));
    }
    Ok(())
}

fn one(mut client: UnixStream, rules: &Rules, place: &Place) -> io::Result<()> {
    let Some((head, rest)) = read_head(&mut client, HEAD)? else {
        return refuse(
            &mut client,
            "431 Request Header Fields Too Large",
            "the head is too long",
        );
    };
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
    let may_be_host = |addresses: &[Ipv4Addr]| addresses.iter().any(|&address| place.may_be_host(address));
    if !rules.gateway && may_be_host(&addresses) {
        place.host.find_again();
    }
    let unsure = !rules.gateway && may_be_host(&addresses);
    let known = !addresses.is_empty();
    // Asked for once, and connected to what was looked at: a name cannot change in between.
    let allowed: Vec<_> = addresses
        .into_iter()
        .filter(|&address| rules.allow_address(&host, address, place) && !is_hosts_now(rules, address))
        .collect();
    if known && allowed.is_empty() {
        let why = if unsure {
            "may lead to the engine's host, whose names cannot be looked up at this moment"
        } else {
            "leads to an address that is not allowed"
        };
        return refuse(&mut client, "403 Forbidden", &format!("{host} {why}"));
    }
    let Some(mut server) = connect(&allowed, port, |address| is_hosts_now(rules, address)) else {
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

/// Whether the address is the engine's host's at this moment, and that is out of reach. Where it cannot be read, each may be.
fn is_hosts_now(rules: &Rules, address: Ipv4Addr) -> bool {
    let Some(table) = rules.host_table.as_ref().filter(|_| !rules.gateway) else {
        return false;
    };
    let found = File::open(table).and_then(|table| host_table::has(BufReader::new(table), address));
    found.unwrap_or(true)
}

/// The server at the first of these addresses that answers. It may have become the host's while it was connected to.
fn connect(addresses: &[Ipv4Addr], port: u16, is_hosts: impl Fn(Ipv4Addr) -> bool) -> Option<TcpStream> {
    addresses.iter().take(MOST_ADDRESSES).find_map(|&address| {
        let server = TcpStream::connect_timeout(&SocketAddrV4::new(address, port).into(), CONNECT).ok()?;
        (!is_hosts(address)).then_some(server)
    })
}

fn refuse(client: &mut UnixStream, status: &str, why: &str) -> io::Result<()> {
    let body = format!("thv: {why}\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    linger(client)
}

/// Reads what a client still sends, to its end or for a while.
fn linger(client: &mut UnixStream) -> io::Result<()> {
    let end = Instant::now() + LINGER;
    let mut rest = client.try_clone()?.take(REST);
    let mut buffer = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        client.set_read_timeout(Some(left))?;
        if rest.read(&mut buffer)? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;
    use crate::engine_host::EngineHost;

    #[test]
    fn the_names_of_the_engines_host_are_asked_for_again_at_the_next_connection() {
        static RESOLVER_ANSWERS: AtomicBool = AtomicBool::new(false);
        let place = Place {
            host: EngineHost::asking(|_| {
                if RESOLVER_ANSWERS.load(Ordering::Relaxed) {
                    Ok(vec![[192, 168, 65, 254].into()])
                } else {
                    Err(io::ErrorKind::TimedOut.into())
                }
            }),
            ..Place::default()
        };
        let rules = Rules {
            everything: true,
            ..Rules::default()
        };
        let connection = || {
            let (mut client, served) = UnixStream::pair().unwrap();
            client
                .write_all(b"CONNECT 192.168.65.254:80 HTTP/1.1\r\n\r\n")
                .unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            one(served, &rules, &place).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        };
        let answer = connection();
        assert!(answer.contains("cannot be looked up at this moment"), "{answer}");
        RESOLVER_ANSWERS.store(true, Ordering::Relaxed);
        let answer = connection();
        assert!(
            answer.contains("leads to an address that is not allowed"),
            "{answer}"
        );
    }

    #[test]
    fn who_is_refused_hears_why_whatever_it_still_sends() {
        let (mut client, served) = UnixStream::pair().unwrap();
        let proxy = thread::spawn(move || one(served, &Rules::default(), &Place::default()));
        let head = b"POST http://a.example/ HTTP/1.1\r\nContent-Length: 300000\r\n\r\n";
        client.write_all(head).unwrap();
        client.write_all(&vec![b'x'; 300_000]).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(
            answer.contains("not allowed by the permission profile"),
            "{answer}"
        );
        drop(client);
        proxy.join().unwrap().unwrap();
    }

    #[test]
    fn a_table_that_cannot_be_read_lets_nothing_through() {
        let address = [203, 0, 113, 7].into();
        let mut rules = Rules::default();
        assert!(!is_hosts_now(&rules, address));
        rules.host_table = Some("/nowhere/fib_trie".into());
        assert!(is_hosts_now(&rules, address));
        rules.gateway = true;
        assert!(!is_hosts_now(&rules, address));
    }

    #[test]
    fn what_became_the_hosts_while_it_was_connected_to_is_not_used() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = [Ipv4Addr::LOCALHOST];
        assert!(connect(&addresses, port, |_| false).is_some());
        assert!(connect(&addresses, port, |_| true).is_none());
    }
}
