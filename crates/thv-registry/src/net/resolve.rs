//! Names, looked up under the rules: an address that may not be asked is not connected to, whatever name it has.

use std::fmt;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Rules;

/// Looks names up and keeps the addresses that may be connected to.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    pub(super) rules: Rules,
    /// Hosts of proxies, which the user chose and which may be anywhere.
    pub(super) proxies: Vec<String>,
}

/// No address of a name may be connected to.
#[derive(Debug)]
pub(super) struct NoAddress(pub(super) String);

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAddress {}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let is_proxy = self.proxies.contains(&host);
        let rules = self.rules;
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let (mut allowed, mut refusal) = (Vec::<SocketAddr>::new(), None);
            for address in found {
                match rules.address(address.ip()) {
                    Some(why) if !is_proxy => refusal = Some(why),
                    _ => allowed.push(address),
                }
            }
            match refusal {
                Some(why) if allowed.is_empty() => Err(NoAddress(why).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}
