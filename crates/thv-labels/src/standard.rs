//! The labels that a workload's container always has.

use std::collections::BTreeMap;

use thv_core::{RunConfig, TransportType};

/// `true` on everything that ToolHive or this project makes.
pub const TOOLHIVE: &str = "toolhive";
/// Name of the container.
pub const NAME: &str = "toolhive-name";
/// Name of the workload.
pub const BASE_NAME: &str = "toolhive-basename";
/// How the server is spoken to.
pub const TRANSPORT: &str = "toolhive-transport";
/// Port of the proxy, in decimal.
pub const PORT: &str = "toolhive-port";
/// Whether the network is isolated in effect, `true` or `false`; added at deploy.
pub const NETWORK_ISOLATION: &str = "toolhive-network-isolation";
/// Reserved by ToolHive; the group is in the run configuration.
pub const GROUP: &str = "toolhive-group";
/// `true` on a workload that serves another one, ToolHive's inspector for example.
pub const AUXILIARY: &str = "toolhive-auxiliary";
/// `true` on helper containers (DNS, egress, ingress), which no list shows.
pub const AUXILIARY_WORKLOAD: &str = "toolhive-auxiliary-workload";
/// Which installation made it; added at deploy by this project.
pub const OWNER: &str = "toolhive-owner";

/// The labels that ToolHive leaves out of the user's view.
const STANDARD: [&str; 6] = [TOOLHIVE, NAME, BASE_NAME, TRANSPORT, PORT, NETWORK_ISOLATION];

/// What the standard labels say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Name of the container.
    pub container_name: &'a str,
    /// Name of the workload.
    pub base_name: &'a str,
    /// How the server is spoken to.
    pub transport: TransportType,
    /// Port of the proxy.
    pub port: u16,
}

impl<'a> From<&'a RunConfig> for Facts<'a> {
    fn from(config: &'a RunConfig) -> Self {
        Self {
            container_name: &config.container_name,
            base_name: &config.base_name,
            transport: config.transport,
            port: config.port,
        }
    }
}

impl Facts<'_> {
    /// The five labels that a run configuration carries.
    pub fn standard_labels(&self) -> BTreeMap<String, String> {
        [
            (TOOLHIVE, "true".to_owned()),
            (NAME, self.container_name.to_owned()),
            (BASE_NAME, self.base_name.to_owned()),
            (TRANSPORT, self.transport.as_str().to_owned()),
            (PORT, self.port.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}

/// Adds what is only known at deploy: whether the network is isolated in effect.
pub fn with_isolation(mut labels: BTreeMap<String, String>, isolated: bool) -> BTreeMap<String, String> {
    labels.insert(NETWORK_ISOLATION.to_owned(), isolated.to_string());
    labels
}

/// Whether `key` is one of the six labels that ToolHive leaves out of the user's view, or the owner's.
pub fn is_standard(key: &str) -> bool {
    STANDARD.contains(&key) || key == OWNER
}

/// The labels that a user set: all but the standard ones.
pub fn user_labels(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels
        .iter()
        .filter(|(key, _)| !is_standard(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Whether ToolHive or this project made it.
pub fn is_toolhive(labels: &BTreeMap<String, String>) -> bool {
    is_true(labels, TOOLHIVE)
}

/// Whether it is a helper of a workload and not one itself.
pub fn is_auxiliary(labels: &BTreeMap<String, String>) -> bool {
    is_true(labels, AUXILIARY_WORKLOAD) || is_true(labels, AUXILIARY)
}

/// Whether its network counts as isolated: what no label denies counts as isolated, as in ToolHive.
pub fn is_isolated(labels: &BTreeMap<String, String>) -> bool {
    labels
        .get(NETWORK_ISOLATION)
        .is_none_or(|value| !value.eq_ignore_ascii_case("false"))
}

/// The workload's name by its labels: the base name, else the container's name.
pub fn base_name(labels: &BTreeMap<String, String>) -> Option<&str> {
    [BASE_NAME, NAME].into_iter().find_map(|key| {
        labels
            .get(key)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    })
}

/// The proxy's port by its label, if that is one.
pub fn port(labels: &BTreeMap<String, String>) -> Option<u16> {
    labels.get(PORT)?.parse().ok().filter(|port| *port != 0)
}

/// The transport by its label, if that is one.
pub fn transport(labels: &BTreeMap<String, String>) -> Option<TransportType> {
    labels.get(TRANSPORT)?.parse().ok()
}

fn is_true(labels: &BTreeMap<String, String>, key: &str) -> bool {
    labels
        .get(key)
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_standard_labels_are_toolhives() {
        let facts = Facts {
            container_name: "fetch-1700000000",
            base_name: "fetch",
            transport: TransportType::StreamableHttp,
            port: 28733,
        };
        assert_eq!(
            facts.standard_labels(),
            labels(&[
                ("toolhive", "true"),
                ("toolhive-basename", "fetch"),
                ("toolhive-name", "fetch-1700000000"),
                ("toolhive-port", "28733"),
                ("toolhive-transport", "streamable-http"),
            ])
        );
        let deployed = with_isolation(facts.standard_labels(), false);
        assert_eq!(deployed["toolhive-network-isolation"], "false");
        assert_eq!(base_name(&deployed), Some("fetch"));
        assert_eq!(port(&deployed), Some(28733));
        assert_eq!(transport(&deployed), Some(TransportType::StreamableHttp));
        assert!(is_toolhive(&deployed) && !is_isolated(&deployed) && !is_auxiliary(&deployed));
        assert!(user_labels(&deployed).is_empty());
    }

    #[test]
    fn users_see_their_labels_and_no_others() {
        let all = labels(&[
            ("toolhive", "true"),
            ("toolhive-name", "x"),
            ("toolhive-basename", "x"),
            ("toolhive-transport", "stdio"),
            ("toolhive-port", "1"),
            ("toolhive-network-isolation", "true"),
            ("toolhive-owner", "0123"),
            ("toolhive-group", "g"),
            ("env", "dev"),
        ]);
        assert_eq!(
            user_labels(&all),
            labels(&[("env", "dev"), ("toolhive-group", "g")])
        );
    }

    #[test]
    fn labels_that_are_missing_or_odd_have_their_meaning() {
        let none = labels(&[]);
        assert!(!is_toolhive(&none) && is_isolated(&none) && !is_auxiliary(&none));
        assert_eq!(
            (base_name(&none), port(&none), transport(&none)),
            (None, None, None)
        );
        assert!(is_auxiliary(&labels(&[("toolhive-auxiliary", "TRUE")])));
        assert!(is_auxiliary(&labels(&[("toolhive-auxiliary-workload", "true")])));
        assert!(!is_auxiliary(&labels(&[("toolhive-auxiliary", "yes")])));
        assert_eq!(port(&labels(&[("toolhive-port", "70000")])), None);
        assert_eq!(port(&labels(&[("toolhive-port", "0")])), None);
        assert_eq!(base_name(&labels(&[("toolhive-name", "n")])), Some("n"));
        assert_eq!(
            base_name(&labels(&[("toolhive-name", "n"), ("toolhive-basename", "")])),
            Some("n")
        );
    }
}
