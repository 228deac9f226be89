//! Where the engine's host is. That of an engine in a virtual machine is on no network of the engine: it has names alone.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::resolver;

/// Names by which engines call the host that they run on.
pub(crate) const HOST_NAMES: [&str; 6] = [
    "host.docker.internal",
    "gateway.docker.internal",
    "host.containers.internal",
    "host.lima.internal",
    "host.rancher-desktop.internal",
    "host.orb.internal",
];

/// What is known of it, as of now. Nobody has asked at first.
#[derive(Debug)]
pub(crate) struct EngineHost {
    known: Mutex<Known>,
    ask: Ask,
}

/// Where a name leads: nowhere, if it is not known.
pub(crate) type Ask = fn(&str) -> io::Result<Vec<Ipv4Addr>>;

#[derive(Debug)]
struct Known {
    /// Where its names lead.
    addresses: Vec<Ipv4Addr>,
    /// Names that nobody could say anything about, unlike those that are not known.
    unanswered: Vec<&'static str>,
}

impl Default for EngineHost {
    fn default() -> Self {
        Self::asking(|name| resolver::addresses_within(name, 1))
    }
}

impl EngineHost {
    /// One whose names are asked for so.
    pub(crate) fn asking(ask: Ask) -> Self {
        let known = Mutex::new(Known {
            addresses: Vec::new(),
            unanswered: HOST_NAMES.into(),
        });
        Self { known, ask }
    }

    /// Looks for it by each of its names. Takes as long as the resolver, asked once.
    pub(crate) fn find(&self) {
        let table = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        self.known().addresses.extend(named(&table));
        thread::scope(|scope| {
            for name in HOST_NAMES {
                scope.spawn(move || self.learn(name, (self.ask)(name)));
            }
        });
    }

    /// Asks once more for what is not known yet, until one stays without an answer: all of them would.
    pub(crate) fn find_again(&self) {
        self.find_again_by(self.ask);
    }

    fn find_again_by(&self, ask: impl Fn(&str) -> io::Result<Vec<Ipv4Addr>>) {
        let unanswered = self.known().unanswered.clone();
        unanswered.into_iter().all(|name| self.learn(name, ask(name)));
    }

    /// Takes in what was answered for a name. Whether there was an answer.
    pub(crate) fn learn(&self, name: &str, answer: io::Result<Vec<Ipv4Addr>>) -> bool {
        let Ok(addresses) = answer else { return false };
        let mut known = self.known();
        known.unanswered.retain(|unanswered| *unanswered != name);
        known.addresses.extend(addresses);
        true
    }

    /// Whether this is its address.
    pub(crate) fn is_at(&self, address: Ipv4Addr) -> bool {
        self.known().addresses.contains(&address)
    }

    /// Whether this may be its address, for all that is known: such hosts have addresses that are given within a site.
    pub(crate) fn may_be_at(&self, address: Ipv4Addr) -> bool {
        let [first, second, ..] = address.octets();
        let of_providers = first == 100 && (64..128).contains(&second);
        // For measurements, and taken by virtual machines.
        let of_benches = first == 198 && (18..20).contains(&second);
        (address.is_private() || of_providers || of_benches) && !self.known().unanswered.is_empty()
    }

    /// It is changed in one step, so that whoever panics leaves it whole.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host's addresses in a table of names (`/etc/hosts`).
fn named(table: &str) -> Vec<Ipv4Addr> {
    let lines = table.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|name| HOST_NAMES.contains(&name.to_ascii_lowercase().as_str()))
            .then_some(address)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 65, 254);
    const ANOTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 65, 2);

    #[test]
    fn the_host_has_names_in_a_table_too() {
        let table = "127.0.0.1\tlocalhost\n192.168.127.254  a Host.containers.internal # x\n::1 host.docker.internal\n\
            # 10.0.0.1 host.docker.internal\n10.0.0.2 a # host.docker.internal\n";
        assert_eq!(named(table), [Ipv4Addr::new(192, 168, 127, 254)]);
    }

    #[test]
    fn until_each_name_is_answered_it_may_be_at_any_address_of_a_site() {
        let host = EngineHost::default();
        let asked = Mutex::new(Vec::new());
        // One leads there, one is not known, of the third nobody says anything.
        host.find_again_by(|name| {
            asked.lock().unwrap().push(name.to_owned());
            match asked.lock().unwrap().len() {
                1 => Ok(vec![HOST]),
                2 => Ok(vec![]),
                _ => Err(io::ErrorKind::TimedOut.into()),
            }
        });
        assert_eq!(*asked.lock().unwrap(), HOST_NAMES[..3]);
        assert!(host.is_at(HOST) && !host.is_at(ANOTHER));
        for (address, expected) in [
            ([192, 168, 65, 2], true),
            ([10, 0, 0, 1], true),
            ([172, 31, 0, 1], true),
            ([100, 127, 0, 1], true),
            ([198, 19, 248, 254], true),
            ([198, 20, 0, 1], false),
            ([100, 128, 0, 1], false),
            ([203, 0, 113, 7], false),
        ] {
            assert_eq!(host.may_be_at(address.into()), expected, "{address:?}");
        }

        asked.lock().unwrap().clear();
        host.find_again_by(|name| {
            asked.lock().unwrap().push(name.to_owned());
            Ok(vec![])
        });
        assert_eq!(*asked.lock().unwrap(), HOST_NAMES[2..]);
        assert!(host.is_at(HOST) && !host.may_be_at(ANOTHER));
    }
}
