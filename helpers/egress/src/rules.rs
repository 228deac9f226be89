//! What may be reached.

use std::net::Ipv4Addr;

/// Names by which engines call the host that they run on.
const GATEWAY_NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];

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
}

impl Rules {
    /// Whether this host, as the client wrote it, may be reached at this port.
    pub(crate) fn allow(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if GATEWAY_NAMES.contains(&host.as_str()) {
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

    /// Whether this address may be connected to, whatever name led to it.
    pub(crate) fn allow_address(&self, address: Ipv4Addr, gateway: Option<Ipv4Addr>) -> bool {
        let nowhere = address.is_loopback()
            || address.is_unspecified()
            || address.is_link_local()
            || address.is_multicast()
            || address.is_broadcast();
        let host = gateway == Some(address) || self.denied.contains(&address);
        !nowhere && (self.gateway || !host)
    }
}

/// The address of the engine's host on the network that leads out.
pub(crate) fn default_gateway() -> Option<Ipv4Addr> {
    gateway_in(&std::fs::read_to_string("/proc/net/route").ok()?)
}

fn gateway_in(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (to, gateway) = (fields.next()?, fields.next()?);
        // In the byte order of the machine.
        let address = u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes();
        (to == "00000000").then(|| Ipv4Addr::from(address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_host_is_out_of_reach_unless_it_is_allowed() {
        let mut all = Rules {
            everything: true,
            denied: vec![Ipv4Addr::new(172, 17, 0, 1)],
            ..Rules::default()
        };
        let gateway = Some(Ipv4Addr::new(172, 18, 0, 1));
        for (address, expected) in [
            ([172, 17, 0, 1], false),
            ([172, 18, 0, 1], false),
            ([127, 0, 0, 1], false),
            ([169, 254, 169, 254], false),
            ([203, 0, 113, 1], true),
        ] {
            assert_eq!(
                all.allow_address(address.into(), gateway),
                expected,
                "{address:?}"
            );
        }
        assert!(!all.allow("host.docker.internal", 80));
        all.gateway = true;
        assert!(all.allow("host.docker.internal", 80));
        assert!(all.allow_address([172, 17, 0, 1].into(), gateway));
    }

    #[test]
    fn the_gateway_is_read_from_the_table_of_routes() {
        let table = "Iface\tDestination\tGateway\neth1\t0012C6C6\t00000000\neth0\t00000000\t010012AC\n";
        let expected = Ipv4Addr::from(0x0100_12AC_u32.to_ne_bytes());
        assert_eq!(gateway_in(table), Some(expected));
    }
}
