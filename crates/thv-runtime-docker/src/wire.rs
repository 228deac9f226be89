//! The parts of the engine's API that we read and write. Everything that an engine may leave out is optional; what we
//! do not use is not parsed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(crate) struct Version {
    #[serde(default)]
    pub(crate) version: String,
    pub(crate) api_version: String,
    #[serde(default, rename = "MinAPIVersion")]
    pub(crate) min_api_version: String,
    pub(crate) components: Option<Vec<Component>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Component {
    pub(crate) name: String,
}

/// What an engine can enforce, and how it is set up. What it does not say it is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Info {
    #[serde(rename = "ID", deserialize_with = "nullable")]
    pub(crate) id: String,
    pub(crate) memory_limit: Option<bool>,
    pub(crate) swap_limit: Option<bool>,
    pub(crate) pids_limit: Option<bool>,
    pub(crate) cpu_cfs_period: Option<bool>,
    pub(crate) cpu_cfs_quota: Option<bool>,
    /// The log driver of containers for which none is asked.
    pub(crate) logging_driver: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) security_options: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) init_commit: Commit,
}

/// A program of the engine's; `N/A` where it does not find it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Commit {
    #[serde(rename = "ID")]
    pub(crate) id: Option<String>,
}

/// One row of a list of containers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Summary {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) names: Vec<String>,
    #[serde(default)]
    pub(crate) image: String,
    #[serde(rename = "ImageID")]
    pub(crate) image_id: Option<String>,
    pub(crate) created: Option<i64>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) ports: Vec<SummaryPort>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SummaryPort {
    #[serde(rename = "IP")]
    pub(crate) ip: Option<String>,
    pub(crate) private_port: u16,
    pub(crate) public_port: Option<u16>,
    #[serde(rename = "Type")]
    pub(crate) protocol: Option<String>,
}

/// Everything about one container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Container {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
    /// The id of the image.
    pub(crate) image: Option<String>,
    pub(crate) created: Option<String>,
    pub(crate) state: State,
    pub(crate) config: Config,
    pub(crate) host_config: HostConfig,
    pub(crate) network_settings: Option<NetworkSettings>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) mounts: Vec<MountPoint>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct State {
    pub(crate) status: String,
    /// Of the first process, as the engine counts; 0 where none runs.
    #[serde(deserialize_with = "nullable")]
    pub(crate) pid: i64,
    #[serde(rename = "OOMKilled")]
    pub(crate) oom_killed: bool,
    pub(crate) exit_code: Option<i64>,
    pub(crate) error: String,
    pub(crate) started_at: Option<String>,
    pub(crate) finished_at: Option<String>,
}

/// The portable half of a container.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Config {
    pub(crate) image: String,
    /// The image's; none is asked for.
    #[serde(deserialize_with = "nullable", skip_serializing)]
    pub(crate) entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cmd: Vec<String>,
    /// Carries secrets: this type has no derived `Debug`.
    #[serde(deserialize_with = "nullable")]
    pub(crate) env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) attach_stdin: bool,
    pub(crate) attach_stdout: bool,
    pub(crate) attach_stderr: bool,
    pub(crate) open_stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_signal: Option<String>,
    #[serde(with = "set")]
    pub(crate) exposed_ports: BTreeSet<String>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("image", &self.image)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// The API's form of a set: a map to `{}`.
mod set {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer};
    use serde::Serializer;
    use serde_json::{Value, json};

    pub(super) fn serialize<S: Serializer>(set: &BTreeSet<String>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(set.iter().map(|key| (key, json!({}))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
        let map: Option<BTreeMap<String, Value>> = Option::deserialize(from)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

/// What the host grants.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HostConfig {
    pub(crate) network_mode: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cap_drop: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cap_add: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) security_opt: Vec<String>,
    pub(crate) privileged: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) readonly_rootfs: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) restart_policy: RestartPolicy,
    #[serde(deserialize_with = "nullable")]
    pub(crate) mounts: Vec<Mount>,
    /// Paths and options; only where it has to be said so.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tmpfs: BTreeMap<String, String>,
    /// Of the container's kernel; only where an engine has others of its own.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sysctls: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub(crate) volumes_from: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) port_bindings: BTreeMap<String, Option<Vec<Binding>>>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) memory: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) memory_swap: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) nano_cpus: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) pids_limit: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) init: bool,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "LogConfig::is_default")]
    pub(crate) log_config: LogConfig,
}

/// Where a container's log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LogConfig {
    #[serde(rename = "Type")]
    pub(crate) driver: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) config: BTreeMap<String, String>,
}

impl LogConfig {
    /// There is none.
    pub(crate) fn none() -> Self {
        Self {
            driver: "none".to_owned(),
            config: BTreeMap::new(),
        }
    }

    /// Whether there is none.
    pub(crate) fn is_none(&self) -> bool {
        self.driver == "none"
    }

    /// Whether it is left to the engine.
    pub(crate) fn is_default(&self) -> bool {
        self.driver.is_empty()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RestartPolicy {
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Mount {
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub(crate) tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TmpfsOptions {
    /// Bytes.
    pub(crate) size_bytes: i64,
    pub(crate) mode: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Binding {
    pub(crate) host_ip: String,
    pub(crate) host_port: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NetworkSettings {
    #[serde(deserialize_with = "nullable")]
    pub(crate) ports: BTreeMap<String, Option<Vec<Binding>>>,
    /// Their names.
    #[serde(deserialize_with = "set::deserialize")]
    pub(crate) networks: BTreeSet<String>,
}

/// What is mounted in a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct MountPoint {
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    /// Of a volume.
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    #[serde(rename = "RW")]
    pub(crate) writable: bool,
}

/// What creates a container.
#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Create {
    #[serde(flatten)]
    pub(crate) config: Config,
    pub(crate) host_config: HostConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Created {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Network {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, rename = "IPAM", deserialize_with = "nullable")]
    pub(crate) ipam: Ipam,
}

/// Which addresses a network has.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Ipam {
    #[serde(deserialize_with = "nullable")]
    pub(crate) config: Vec<Subnet>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Subnet {
    /// The host's address, of either kind.
    #[serde(deserialize_with = "nullable")]
    pub(crate) gateway: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreateNetwork<'a> {
    pub(crate) name: &'a str,
    pub(crate) driver: &'static str,
    /// Before API 1.44 an engine makes a second one of the same name otherwise.
    pub(crate) check_duplicate: bool,
    pub(crate) labels: BTreeMap<&'static str, &'a str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Image {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) repo_digests: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) config: Config,
}

/// An image in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListedImage {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) repo_tags: Vec<String>,
    /// In seconds since 1970.
    #[serde(default)]
    pub(crate) created: i64,
}

/// One line of a pull's or load's progress.
#[derive(Debug, Deserialize)]
pub(crate) struct Progress {
    pub(crate) id: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) stream: Option<String>,
    pub(crate) error: Option<String>,
    #[serde(rename = "progressDetail")]
    pub(crate) detail: Option<ProgressDetail>,
}

/// Sizes are below zero where they are not known.
#[derive(Debug, Deserialize)]
pub(crate) struct ProgressDetail {
    pub(crate) current: Option<i64>,
    pub(crate) total: Option<i64>,
}

/// One event.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "Action", default)]
    pub(crate) action: String,
    #[serde(rename = "Actor")]
    pub(crate) actor: Option<Actor>,
    #[serde(rename = "timeNano")]
    pub(crate) time_nano: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Actor {
    #[serde(rename = "ID", default)]
    pub(crate) id: String,
    #[serde(rename = "Attributes", default, deserialize_with = "nullable")]
    pub(crate) attributes: BTreeMap<String, String>,
}
