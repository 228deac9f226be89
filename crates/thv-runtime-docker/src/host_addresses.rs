//! By which addresses the host of an engine is reached from its containers.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::network;

/// Docker's default bridge where nothing else is configured; ToolHive takes it for the host as well.
const USUAL: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

/// Its address on each of the engine's networks, and this machine's own: an engine behind a socket is on it.
pub(crate) async fn of(engine: &Engine) -> Result<BTreeSet<Ipv4Addr>, EngineError> {
    let mut addresses = network::gateways(engine).await?;
    addresses.insert(USUAL);
    // Where there is no such table the networks' addresses are what is known.
    let table = tokio::fs::read_to_string("/proc/net/fib_trie").await;
    addresses.extend(local(&table.unwrap_or_default()));
    Ok(addresses)
}

/// The addresses that the kernel delivers here, except loopback.
fn local(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut last = None;
    table.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        }
        let here = line.starts_with("/32 host LOCAL");
        last.filter(|address: &Ipv4Addr| here && !address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_addresses_are_read_from_the_kernels_table() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
            +-- 127.0.0.0/8 2 0 2\n           |-- 127.0.0.1\n              /32 host LOCAL\n     \
            |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.9\n        /32 host LOCAL\n     \
            |-- 192.0.2.255\n        /32 link BROADCAST\n";
        let found: Vec<_> = local(table).collect();
        assert_eq!(found, [Ipv4Addr::new(192, 0, 2, 9)]);
        assert_eq!(local("").count(), 0);
    }
}
