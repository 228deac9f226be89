//! What may be reached.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::engine_host::HOST_NAMES;
use crate::place::Place;

/// What the permission profile allows.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Any host and port.
    pub(crate) everything: bool,
    /// The engine's host too.
    pub(crate) gateway: bool,
    /// Names; one that begins with a dot is a domain with all below it.
    pub(crate) hosts: Vec<String>,
    /// Ports; none is any.
    pub(crate) ports: Vec<u16>,
    /// Addresses of the engine's host.
    pub(crate) denied: Vec<Ipv4Addr>,
    /// Where it can be read which ones the host has.
    pub(crate) host_table: Option<PathBuf>,
}

impl Rules {
    /// Whether this host, as the client wrote it, may be reached at this port.
    pub(crate) fn allow(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if HOST_NAMES.contains(&host.as_str()) {
            return self.gateway;
        }
        if self.everything {
            return true;
        }
        if self.hosts.is_empty() && self.ports.is_empty() {
            return false;
        }
        let named = |allowed: &String| match allowed.strip_prefix('.') {
            Some(domain) => host == domain || host.ends_with(allowed.as_str()),
            None => host == *allowed,
        };
        (self.hosts.is_empty() || self.hosts.iter().any(named))
            && (self.ports.is_empty() || self.ports.contains(&port))
    }

    /// Whether this address may be connected to, which this host led to.
    pub(crate) fn allow_address(&self, host: &str, address: Ipv4Addr, place: &Place) -> bool {
        if is_nowhere(address) {
            return false;
        }
        let is_host =
            place.gateway == Some(address) || place.host.is_at(address) || self.denied.contains(&address);
        if is_host || place.may_be_host(address) {
            return self.gateway;
        }
        // Whoever keeps a name that is allowed may have it lead to another workload. One that is meant is named as it is on
        // this network, or by its address.
        let is_own_name = !host.trim_end_matches('.').contains('.') || host.parse() == Ok(address);
        self.everything || self.hosts.is_empty() || is_own_name || !place.is_neighbour(address)
    }
}

/// Whether nothing that a profile may mean is there: this machine itself, its links, groups, and where clouds tell a
/// machine its credentials.
fn is_nowhere(address: Ipv4Addr) -> bool {
    const CREDENTIALS: [Ipv4Addr; 3] = [
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(168, 63, 129, 16),
        Ipv4Addr::new(192, 0, 0, 192),
    ];
    let [first, ..] = address.octets();
    first == 0
        || first >= 224
        || address.is_loopback()
        || address.is_link_local()
        || CREDENTIALS.contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine_host::EngineHost;

    fn rules(hosts: &[&str], ports: &[u16]) -> Rules {
        Rules {
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            ports: ports.to_vec(),
            ..Rules::default()
        }
    }

    #[test]
    fn hosts_and_ports_are_both_asked() {
        for (hosts, ports, host, port, expected) in [
            (&[][..], &[][..], "a.example", 443, false),
            (&["a.example"], &[], "A.example.", 1, true),
            (&["a.example"], &[], "b.a.example", 1, false),
            (&[".a.example"], &[443], "b.a.example", 443, true),
            (&[".a.example"], &[443], "a.example", 443, true),
            (&[".a.example"], &[443], "nota.example", 443, false),
            (&[".a.example"], &[443], "a.example", 80, false),
            (&[], &[443], "203.0.113.1", 443, true),
            (&["a.example"], &[], "203.0.113.1", 443, false),
        ] {
            assert_eq!(
                rules(hosts, ports).allow(host, port),
                expected,
                "{hosts:?} {ports:?} {host}:{port}"
            );
        }
    }

    /// Where each of the host's names was answered.
    fn place() -> Place {
        let host = EngineHost::default();
        for name in HOST_NAMES {
            assert!(host.learn(name, Ok(vec![[192, 168, 65, 254].into()])));
        }
        Place {
            gateway: Some([172, 18, 0, 1].into()),
            host,
            neighbours: vec![([172, 18, 0, 0].into(), [255, 255, 0, 0].into())],
        }
    }

    #[test]
    fn the_host_is_out_of_reach_unless_it_is_allowed() {
        let mut all = Rules {
            everything: true,
            denied: vec![[172, 17, 0, 1].into(), [192, 0, 2, 9].into()],
            ..Rules::default()
        };
        let nowhere = [
            [127, 0, 0, 1],
            [127, 9, 9, 9],
            [0, 0, 0, 0],
            [0, 0, 0, 1],
            [169, 254, 169, 254],
            [169, 254, 170, 2],
            [100, 100, 100, 200],
            [224, 0, 0, 1],
            [240, 0, 0, 1],
            [255, 255, 255, 255],
        ];
        for (address, expected) in [
            ([172, 17, 0, 1], false),
            ([192, 0, 2, 9], false),
            ([172, 18, 0, 1], false),
            ([192, 168, 65, 254], false),
            ([172, 18, 0, 7], true),
            ([203, 0, 113, 1], true),
        ] {
            let allowed = all.allow_address("a.example", address.into(), &place());
            assert_eq!(allowed, expected, "{address:?}");
        }
        for name in [
            "host.docker.internal",
            "HOST.docker.internal.",
            "gateway.docker.internal",
            "host.containers.internal",
        ] {
            assert!(!all.allow(name, 80), "{name}");
        }
        all.gateway = true;
        assert!(all.allow("host.docker.internal", 80));
        for address in [
            [172, 17, 0, 1],
            [192, 0, 2, 9],
            [172, 18, 0, 1],
            [192, 168, 65, 254],
        ] {
            assert!(all.allow_address("host.docker.internal", address.into(), &place()));
        }
        for address in nowhere {
            let allowed = all.allow_address("a.example", address.into(), &place());
            assert!(!allowed, "{address:?}");
        }
    }

    #[test]
    fn a_host_whose_names_were_not_answered_is_out_of_reach_wherever_it_may_be() {
        let mut all = Rules {
            everything: true,
            ..Rules::default()
        };
        let place = Place {
            host: EngineHost::default(),
            ..place()
        };
        for allowed in [false, true] {
            all.gateway = allowed;
            for (address, expected) in [
                ([192, 168, 65, 254], allowed),
                ([10, 0, 0, 1], allowed),
                ([172, 18, 0, 1], allowed),
                // A container, and what is nobody's own.
                ([172, 18, 0, 7], true),
                ([203, 0, 113, 1], true),
            ] {
                let found = all.allow_address("a.example", address.into(), &place);
                assert_eq!(found, expected, "{address:?} {allowed}");
            }
        }
    }

    #[test]
    fn a_name_that_is_allowed_leads_to_no_neighbour() {
        let neighbour = Ipv4Addr::new(172, 18, 0, 7);
        let some = rules(&[".example.com", "other", "172.18.0.7"], &[]);
        for (host, expected) in [
            ("evil.example.com", false),
            ("evil.example.com.", false),
            ("other", true),
            ("other.", true),
            ("172.18.0.7", true),
        ] {
            assert!(some.allow(host, 80), "{host}");
            assert_eq!(some.allow_address(host, neighbour, &place()), expected, "{host}");
        }
        assert!(some.allow_address("a.example.com", [203, 0, 113, 7].into(), &place()));
        assert!(rules(&[], &[80]).allow_address("a.example", neighbour, &place()));
    }
}
