//! Where an engine is: a socket of this machine, or a TCP port.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use http::uri::Authority;

use crate::tls::Material;

/// Docker's ports for API over TLS and without.
const TLS_PORT: u16 = 2376;
const PLAIN_PORT: u16 = 2375;

/// Where an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A socket of this machine.
    Socket(PathBuf),
    /// A TCP port.
    Tcp {
        host: String,
        port: u16,
        /// `None` only for this machine itself.
        tls: Option<Material>,
    },
}

impl Address {
    /// What stands behind `tcp://`.
    ///
    /// # Errors
    /// Why it is no address that is spoken to. The reason shows nothing of it: it may hold a password.
    pub(crate) fn tcp(rest: &str, tls: Option<Material>) -> Result<Self, String> {
        let authority: Authority = rest
            .strip_suffix('/')
            .unwrap_or(rest)
            .parse()
            .map_err(|_| "it is not of the form tcp://host:port".to_owned())?;
        if authority.as_str().contains('@') {
            return Err("an engine has no user and password".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        let port = match (&authority.as_str()[authority.host().len()..], &tls) {
            ("", Some(_)) => TLS_PORT,
            ("", None) => PLAIN_PORT,
            _ => authority
                .port_u16()
                .ok_or_else(|| "its port is not a number up to 65535".to_owned())?,
        };
        let address = Self::Tcp {
            host: host.to_owned(),
            port,
            tls,
        };
        if matches!(&address, Self::Tcp { tls: None, .. }) && !address.is_here() {
            return Err(
                "without TLS anybody on the way could give orders to the engine and read secrets: set DOCKER_TLS_VERIFY=1 \
                 and DOCKER_CERT_PATH, or forward its socket (ssh -L /path:/run/docker.sock) and name that"
                    .to_owned(),
            );
        }
        Ok(address)
    }

    /// Whether it is on this machine, so that ports and folders are the same here and there. A port of loopback is taken
    /// for that.
    pub(crate) fn is_here(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Tcp { host, .. } => host
                .parse::<IpAddr>()
                .map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_address_has_a_host_and_a_port_and_nothing_else() {
        let tls = || Some(Material::required_in("/c".as_ref()));
        for (text, shown) in [
            ("far.test:99", "tcp://far.test:99"),
            ("far.test", "tcp://far.test:2376"),
            ("192.0.2.1:1/", "tcp://192.0.2.1:1"),
            ("[2001:db8::1]:5", "tcp://[2001:db8::1]:5"),
        ] {
            assert_eq!(Address::tcp(text, tls()).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            ":1",
            "me:hunter2@far.test:1",
            "far.test:1/path",
            "far.test:70000",
            "a b",
        ] {
            let reason = Address::tcp(bad, tls()).unwrap_err();
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }

    #[test]
    fn without_tls_only_this_machine_is_spoken_to() {
        for near in ["127.0.0.1", "localhost:1", "[::1]:1"] {
            assert!(Address::tcp(near, None).unwrap().is_here(), "{near}");
        }
        for far in [
            "far.test",
            "192.0.2.1:2375",
            "[2001:db8::1]",
            "0.0.0.0:1",
            "127.0.0.1.far.test",
        ] {
            assert!(
                Address::tcp(far, None).unwrap_err().contains("DOCKER_TLS_VERIFY"),
                "{far}"
            );
        }
    }
}
