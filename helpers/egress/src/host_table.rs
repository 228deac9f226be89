//! Which addresses the engine's host has at this moment: its kernel's table of routes (`fib_trie`), which is mounted where the
//! outer helper can read it. Each network that somebody makes gives the host one more.

use std::io::{self, BufRead};
use std::net::Ipv4Addr;

/// Whether the host takes `address` for its own, by this table.
pub(crate) fn has(table: impl BufRead, address: Ipv4Addr) -> io::Result<bool> {
    let (mut leaf, mut tells): (Option<Ipv4Addr>, _) = (None, false);
    for line in table.lines() {
        let line = line?;
        let line = line.trim();
        if let Some(of) = line.strip_prefix("|-- ") {
            leaf = of.parse().ok();
        } else if let (Some(network), Some(mask)) = (leaf, local(line)) {
            tells = true;
            if address & mask == network & mask {
                return Ok(true);
            }
        }
    }
    if tells {
        Ok(false)
    } else {
        // Each host has loopback at least.
        Err(io::Error::other("it is no table of a host's addresses"))
    }
}

/// The mask of a route to the host itself: `/32 host LOCAL`.
fn local(line: &str) -> Option<Ipv4Addr> {
    let mut words = line.split_whitespace();
    let length: u32 = words.next()?.strip_prefix('/')?.parse().ok()?;
    let others = 32_u32.checked_sub(length)?;
    (words.nth(1)? == "LOCAL").then(|| u32::MAX.checked_shl(others).unwrap_or(0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 192.0.2.0
        /24 link UNICAST
Local:
  +-- 0.0.0.0/0 2 0 2
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 192.0.2.9
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
     |-- 198.51.100.0
        /25 host LOCAL tos=00
";

    #[test]
    fn an_address_is_the_hosts_where_its_kernel_keeps_what_is_sent_there() {
        for (address, expected) in [
            ([192, 0, 2, 9], true),
            ([192, 0, 2, 10], false),
            ([192, 0, 2, 255], false),
            ([127, 1, 2, 3], true),
            ([198, 51, 100, 77], true),
            ([198, 51, 100, 177], false),
            ([203, 0, 113, 1], false),
        ] {
            let found = has(TABLE.as_bytes(), address.into()).unwrap();
            assert_eq!(found, expected, "{address:?}");
        }
    }

    #[test]
    fn what_is_no_such_table_tells_nothing() {
        for bad in [
            "",
            "nonsense",
            "|-- 192.0.2.9\n /33 host LOCAL",
            "/32 host LOCAL",
            "|-- x\n /32 host LOCAL",
        ] {
            assert!(has(bad.as_bytes(), [192, 0, 2, 10].into()).is_err(), "{bad}");
        }
        let everything = "|-- 0.0.0.0\n /0 host LOCAL";
        assert!(has(everything.as_bytes(), [192, 0, 2, 10].into()).unwrap());
    }
}
