//! Names, looked up under the rules: an address that may not be asked is not connected to, whatever name it has.

use std::fmt;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Rules;
use super::rules::Refusal;

/// Looks names up and keeps the addresses that may be connected to.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    pub(super) rules: Rules,
    /// Hosts of proxies, which the user chose and which may be anywhere.
    pub(super) proxies: Vec<String>,
}

/// No address of a name may be connected to.
#[derive(Debug)]
pub(super) struct NoAddress(pub(super) Refusal);

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(allow_private: bool, proxies: &[&str]) -> Result<usize, String> {
        let resolver = Resolver {
            rules: Rules { allow_private },
            proxies: proxies.iter().map(|host| (*host).to_owned()).collect(),
        };
        let name = "localhost".parse().map_err(|_| "no name".to_owned())?;
        let found = resolver.resolve(name).await.map_err(|error| error.to_string())?;
        Ok(found.count())
    }

    #[tokio::test]
    async fn a_name_of_a_private_address_is_refused_after_the_look_up() {
        let error = resolve(false, &[]).await.unwrap_err();
        assert!(error.contains("is a private address"), "{error}");
        assert!(resolve(true, &[]).await.unwrap() > 0);
        assert!(
            resolve(false, &["localhost"]).await.unwrap() > 0,
            "a proxy may be anywhere"
        );
    }
}
