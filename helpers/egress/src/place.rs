//! Where the outer helper stands: which addresses are around it.

use std::net::Ipv4Addr;

use crate::engine_host::EngineHost;

/// The network that leads out.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// The address of the engine's host on it.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Of an engine in a virtual machine the host is no gateway.
    pub(crate) host: EngineHost,
    /// The addresses that are reached without the host: an address of each network, and its mask.
    pub(crate) neighbours: Vec<(Ipv4Addr, Ipv4Addr)>,
}

impl Place {
    /// What the kernel says.
    pub(crate) fn look() -> Self {
        std::fs::read_to_string("/proc/net/route")
            .map_or_else(|_| Self::default(), |table| Self::read(&table))
    }

    /// Whether this is the address of another container, or of the host, on the same network.
    pub(crate) fn is_neighbour(&self, address: Ipv4Addr) -> bool {
        let inside = |(network, mask): &(Ipv4Addr, Ipv4Addr)| address & *mask == *network & *mask;
        self.neighbours.iter().any(inside)
    }

    /// Whether the host may be there, although its names could not be looked up: it is no container.
    pub(crate) fn may_be_host(&self, address: Ipv4Addr) -> bool {
        !self.is_neighbour(address) && self.host.may_be_at(address)
    }

    fn read(table: &str) -> Self {
        let mut place = Self::default();
        // Addresses are in the byte order of the machine.
        let address = |field: &str| Some(Ipv4Addr::from(u32::from_str_radix(field, 16).ok()?.to_ne_bytes()));
        for line in table.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let at = |number: usize| fields.get(number).copied().and_then(address);
            let (Some(to), Some(gateway)) = (at(1), at(2)) else {
                continue;
            };
            let mask = at(7).unwrap_or(Ipv4Addr::BROADCAST);
            if to.is_unspecified() && mask.is_unspecified() {
                place.gateway = place.gateway.or(Some(gateway));
            } else if gateway.is_unspecified() {
                place.neighbours.push((to, mask));
            }
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_and_neighbours_are_read_from_the_table_of_routes() {
        let field = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let row = |to: [u8; 4], gateway: [u8; 4], mask: [u8; 4]| {
            format!(
                "eth0\t{}\t{}\t0003\t0\t0\t0\t{}\t0\t0\t0",
                field(to),
                field(gateway),
                field(mask)
            )
        };
        let table = [
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT".to_owned(),
            row([172, 18, 0, 0], [0; 4], [255, 255, 0, 0]),
            row([0; 4], [172, 18, 0, 1], [0; 4]),
            "nonsense".to_owned(),
        ];
        let place = Place::read(&table.join("\n"));
        assert_eq!(place.gateway, Some([172, 18, 0, 1].into()));
        for (address, expected) in [
            ([172, 18, 0, 7], true),
            ([172, 18, 255, 1], true),
            ([172, 19, 0, 7], false),
            ([203, 0, 113, 1], false),
        ] {
            assert_eq!(place.is_neighbour(address.into()), expected, "{address:?}");
        }
        let nowhere = Place::read("");
        assert!(nowhere.gateway.is_none() && nowhere.neighbours.is_empty());
    }
}
