//! Ports that a container publishes besides the one of its proxy.

use std::fmt;
use std::str::FromStr;

/// `hostPort:containerPort`, or `containerPort` alone for a host port that the engine chooses.
///
/// ```
/// let spec = thv_core::PublishSpec::parse("19090:9090")?;
/// assert_eq!((spec.host_port, spec.container_port), (Some(19090), 9090));
/// # Ok::<(), thv_core::InvalidPublish>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublishSpec {
    /// Port on the host; none means any free one.
    pub host_port: Option<u16>,
    /// TCP port in the container.
    pub container_port: u16,
}

/// A text that publishes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid port to publish \"{shown}\": use <hostPort>:<containerPort> or <containerPort>, from 1 to 65535"
)]
pub struct InvalidPublish {
    shown: String,
}

impl PublishSpec {
    /// Reads a declaration. A host port of 0 means any free one.
    pub fn parse(text: &str) -> Result<Self, InvalidPublish> {
        let (host, container) = match text.split_once(':') {
            Some((host, container)) => (port(host), port(container)),
            None => (Some(0), port(text)),
        };
        match (host, container) {
            (Some(host), Some(container)) if container != 0 => Ok(Self {
                host_port: (host != 0).then_some(host),
                container_port: container,
            }),
            _ => Err(InvalidPublish {
                shown: text.chars().take(40).flat_map(char::escape_debug).collect(),
            }),
        }
    }
}

fn port(text: &str) -> Option<u16> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

impl FromStr for PublishSpec {
    type Err = InvalidPublish;
    fn from_str(text: &str) -> Result<Self, InvalidPublish> {
        Self::parse(text)
    }
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = self.host_port {
            write!(f, "{host}:")?;
        }
        write!(f, "{}", self.container_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        for (text, host, container) in [
            ("80", None, 80),
            ("0:80", None, 80),
            ("19090:9090", Some(19090), 9090),
        ] {
            let spec = PublishSpec::parse(text).unwrap();
            assert_eq!((spec.host_port, spec.container_port), (host, container));
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "", ":", "80:", ":80", "0", "80:0", "65536", "+80", " 80", "1:2:3", "80/tcp", "-1:80",
        ] {
            assert!(PublishSpec::parse(text).is_err(), "{text}");
        }
    }
}
