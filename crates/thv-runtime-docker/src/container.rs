//! The container that a deployment asks for, and whether one that is there is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thv_core::TransportType;
use thv_runtime::{DeploySpec, Endpoint, Error, HiddenPath, NetworkMode, PortBinding, Result};

use crate::EngineInfo;
use crate::quirks;
use crate::wire::{
    Binding, Config, Container, Create, HostConfig, Info, LogConfig, Mount, RestartPolicy, TmpfsOptions,
};

/// The network that all workloads share unless they are isolated.
pub(crate) const SHARED_NETWORK: &str = "toolhive-external";

/// A program of the image cannot get more rights than it starts with.
const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// Where programs put temporary files, and how much fits there when nothing else can be written.
const TEMPORARY: &str = "/tmp";
const TEMPORARY_SIZE: i64 = 64 << 20;
/// What covers a folder holds nothing.
const COVER_SIZE: i64 = 4096;

/// What is wrong with the request before any engine is asked.
pub(crate) fn check(spec: &DeploySpec) -> Result<()> {
    let invalid = |what: &str, detail: String| {
        Err(Error::Invalid {
            what: what.to_owned(),
            detail,
        })
    };
    if spec.image.is_empty() || spec.image.contains("://") {
        return invalid("image", format!("\"{}\" is not an image reference", spec.image));
    }
    match (spec.transport, &spec.target) {
        (TransportType::Inspector, _) => {
            return invalid("transport", "the inspector cannot be deployed".to_owned());
        }
        (TransportType::Stdio, _) | (_, Some(_)) => {}
        (transport, None) => return invalid("target port", format!("{transport} needs one")),
    }
    if spec.network == NetworkMode::None && spec.transport != TransportType::Stdio {
        return invalid(
            "network",
            "a server without network cannot be reached over HTTP; use stdio".to_owned(),
        );
    }
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return invalid("environment variable", format!("the name {name:?}"));
        }
        if value.contains('\0') {
            return invalid(
                "environment variable",
                format!("the value of {name} has a zero byte"),
            );
        }
    }
    if let Some(what) = with_zero_byte(spec) {
        return invalid(what, "it has a zero byte".to_owned());
    }
    for (what, target) in targets(spec) {
        if !target.starts_with('/') {
            return invalid(what, format!("{target} must be absolute"));
        }
        if is_root(target) {
            return invalid(what, format!("{target} would cover all that the image brings"));
        }
    }
    for volume in &spec.volumes {
        if !is_volume_name(&volume.name) {
            return invalid(
                "volume",
                format!(
                    "the name {:?}; use letters, digits, '_', '.' and '-'",
                    volume.name
                ),
            );
        }
    }
    for mount in &spec.mounts {
        if mount.source.to_str().is_none() {
            let shown = mount.source.display();
            return invalid(
                "mount",
                format!("{shown} is not UTF-8, and an engine takes no other path"),
            );
        }
        if !mount.source.is_absolute() {
            return invalid("mount", format!("{} must be absolute", mount.source.display()));
        }
    }
    if let Some(cpus) = spec.limits.cpus
        && !(cpus.is_finite() && cpus >= 0.01)
    {
        return invalid("CPU limit", format!("{cpus} is below 0.01"));
    }
    if spec
        .limits
        .memory
        .is_some_and(|bytes| bytes < 6 << 20 || i64::try_from(bytes).is_err())
    {
        return invalid("memory limit", "the engine needs at least 6 MiB".to_owned());
    }
    if spec.limits.pids == Some(0) {
        return invalid("limit of processes", "0 allows none".to_owned());
    }
    Ok(())
}

/// Where something is mounted in the container, and what.
fn targets(spec: &DeploySpec) -> impl Iterator<Item = (&'static str, &String)> {
    let mounts = spec.mounts.iter().map(|mount| ("mount", &mount.target));
    let volumes = spec.volumes.iter().map(|volume| ("volume", &volume.target));
    let hidden = spec.hidden.iter().map(|hidden| ("hidden path", &hidden.target));
    mounts.chain(volumes).chain(hidden)
}

/// Whether a path leads nowhere but to the root. Not every engine refuses to mount there.
fn is_root(target: &str) -> bool {
    let depth = target.split('/').fold(0_usize, |depth, part| match part {
        "" | "." => depth,
        ".." => depth.saturating_sub(1),
        _ => depth + 1,
    });
    depth == 0
}

/// Docker's rule; anything else could be a path of the host.
fn is_volume_name(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// The part of a request that has a zero byte, which no program can be given.
fn with_zero_byte(spec: &DeploySpec) -> Option<&'static str> {
    let in_mount = |mount: &thv_runtime::MountBind| {
        mount.target.contains('\0') || mount.source.as_os_str().as_encoded_bytes().contains(&0)
    };
    if spec.command.iter().any(|argument| argument.contains('\0')) {
        Some("argument")
    } else if spec
        .labels
        .iter()
        .any(|(key, value)| key.contains('\0') || value.contains('\0'))
    {
        Some("label")
    } else if spec.mounts.iter().any(in_mount) {
        Some("mount")
    } else if spec.volumes.iter().any(|volume| volume.target.contains('\0'))
        || spec.hidden.iter().any(|hidden| hidden.target.contains('\0'))
    {
        Some("mount target")
    } else {
        None
    }
}

/// The container of `spec`, on the network with this id where it joins the shared one.
pub(crate) fn desired(spec: &DeploySpec, network: &str, info: &Info) -> Create {
    let stdio = spec.transport == TransportType::Stdio;
    let mut exposed_ports = BTreeSet::new();
    let mut port_bindings: BTreeMap<String, Option<Vec<Binding>>> = BTreeMap::new();
    let target = spec.target.iter().filter(|_| !stdio);
    for binding in spec.publish.iter().chain(target) {
        let port = format!("{}/tcp", binding.container_port);
        exposed_ports.insert(port.clone());
        port_bindings
            .entry(port)
            .or_default()
            .get_or_insert_default()
            .push(wire_binding(binding));
    }
    Create {
        config: Config {
            image: spec.image.clone(),
            entrypoint: Vec::new(),
            cmd: spec.command.clone(),
            env: spec
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            labels: labels(spec),
            attach_stdin: stdio,
            attach_stdout: stdio,
            attach_stderr: stdio,
            open_stdin: stdio,
            // The server's standard input ends with the attachment, so a server never outlives its proxy.
            stdin_once: stdio,
            tty: false,
            stop_signal: None,
            exposed_ports,
        },
        host_config: HostConfig {
            network_mode: match &spec.network {
                NetworkMode::Host => "host".to_owned(),
                NetworkMode::None => "none".to_owned(),
                NetworkMode::Named(name) => name.clone(),
                _ => network.to_owned(),
            },
            cap_drop: vec!["ALL".to_owned()],
            cap_add: Vec::new(),
            security_opt: security(spec),
            privileged: spec.privileged,
            // One authority restarts, and it is not the engine.
            restart_policy: RestartPolicy {
                name: "no".to_owned(),
            },
            readonly_rootfs: spec.read_only,
            mounts: mounts(spec),
            tmpfs: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            volumes_from: Vec::new(),
            port_bindings,
            memory: spec.limits.memory.map_or(0, clamped),
            // Without swap: a limit that swaps is none. An engine that cannot count swap is told so, or it warns.
            memory_swap: match spec.limits.memory {
                Some(_) if info.swap_limit == Some(false) => -1,
                memory => memory.map_or(0, clamped),
            },
            nano_cpus: spec.limits.cpus.map_or(0, nano),
            pids_limit: spec.limits.pids.map_or(0, i64::from),
            // So that zombies are reaped.
            init: quirks::has_init(info),
            log_config: if spec.private_output {
                LogConfig::none()
            } else {
                capped_log(info)
            },
        },
    }
}

fn security(spec: &DeploySpec) -> Vec<String> {
    let mut options = vec!["label:disable".to_owned()];
    if !spec.privileged {
        options.push(NO_NEW_PRIVILEGES.to_owned());
    }
    options
}

/// The engine's own driver, but not without end. Other drivers than this one have an end, or are elsewhere.
fn capped_log(info: &Info) -> LogConfig {
    if info.logging_driver != "json-file" {
        return LogConfig::default();
    }
    let cap = [("max-size", "10m"), ("max-file", "3")];
    LogConfig {
        driver: info.logging_driver.clone(),
        config: cap.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

/// The labels by which it is found again, whatever the caller gave.
fn labels(spec: &DeploySpec) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    let mut ensure = |key: &str, value: &str| {
        labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    };
    ensure(thv_labels::TOOLHIVE, "true");
    ensure(thv_labels::NAME, &spec.instance_name);
    ensure(thv_labels::BASE_NAME, spec.name.as_str());
    ensure(thv_labels::TRANSPORT, spec.transport.as_str());
    thv_labels::with_isolation(labels, spec.isolate_network)
}

fn wire_binding(binding: &PortBinding) -> Binding {
    Binding {
        host_ip: binding.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        host_port: binding.host_port.to_string(),
    }
}

/// Binds, volumes, what covers parts of them, and a place for temporary files where there would be none.
fn mounts(spec: &DeploySpec) -> Vec<Mount> {
    let binds = spec.mounts.iter().map(wire_mount);
    let volumes = spec.volumes.iter().map(|volume| Mount {
        kind: "volume".to_owned(),
        source: volume.name.clone(),
        target: volume.target.clone(),
        read_only: volume.read_only,
        tmpfs_options: None,
    });
    let mut mounts: Vec<_> = binds
        .chain(volumes)
        .chain(spec.hidden.iter().map(cover))
        .collect();
    if spec.read_only && !mounts.iter().any(|mount| mount.target == TEMPORARY) {
        mounts.push(tmpfs(TEMPORARY, false, TEMPORARY_SIZE, 0o1777));
    }
    mounts
}

fn wire_mount(mount: &thv_runtime::MountBind) -> Mount {
    Mount {
        kind: "bind".to_owned(),
        source: mount.source.to_string_lossy().into_owned(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        tmpfs_options: None,
    }
}

/// An empty folder over a folder. Over a file the engine's own `/dev/null`: it is on every engine's machine, has no
/// content, and nothing has to be kept for it.
fn cover(hidden: &HiddenPath) -> Mount {
    if hidden.is_folder {
        return tmpfs(&hidden.target, true, COVER_SIZE, 0o555);
    }
    Mount {
        kind: "bind".to_owned(),
        source: "/dev/null".to_owned(),
        target: hidden.target.clone(),
        read_only: true,
        tmpfs_options: None,
    }
}

fn tmpfs(target: &str, read_only: bool, size_bytes: i64, mode: u32) -> Mount {
    Mount {
        kind: "tmpfs".to_owned(),
        source: String::new(),
        target: target.to_owned(),
        read_only,
        tmpfs_options: Some(TmpfsOptions { size_bytes, mode }),
    }
}

fn clamped(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn nano(cpus: f64) -> i64 {
    (cpus * 1e9).round() as i64
}

/// What a container has of its image where nothing else is asked for.
fn with_image(wanted: &Config, image: &Config) -> Config {
    let mut config = wanted.clone();
    config.entrypoint.clone_from(&image.entrypoint);
    if config.cmd.is_empty() {
        config.cmd.clone_from(&image.cmd);
    }
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let asked: BTreeSet<_> = config.env.iter().map(|variable| name(variable)).collect();
    let brought = image
        .env
        .iter()
        .filter(|variable| !asked.contains(&name(variable)));
    config.env.extend(brought.cloned());
    for (key, value) in &image.labels {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    config.exposed_ports.extend(image.exposed_ports.iter().cloned());
    config
}

/// Whether `found`, which was made of `image`, is exactly what `wanted` describes.
pub(crate) fn is_identical(
    engine: &EngineInfo,
    found: &Container,
    image: &Config,
    wanted: &Create,
    shared_network_id: &str,
) -> bool {
    let found = &quirks::as_docker_tells(engine, found, wanted);
    let (have, want) = (&found.config, &with_image(&wanted.config, image));
    let (have_host, want_host) = (&found.host_config, &wanted.host_config);
    let same_network = have_host.network_mode == want_host.network_mode
        || (want_host.network_mode == shared_network_id && have_host.network_mode == SHARED_NETWORK);
    let processes = |limit: i64| {
        if limit > 0 {
            limit
        } else {
            quirks::default_pids_limit(engine)
        }
    };
    have.image == want.image
        && have.entrypoint == want.entrypoint
        && have.cmd == want.cmd
        && same_variables(engine, &have.env, &want.env)
        && have.labels == want.labels
        && (have.attach_stdin, have.attach_stdout, have.attach_stderr)
            == (want.attach_stdin, want.attach_stdout, want.attach_stderr)
        && (have.open_stdin, have.stdin_once, have.tty) == (want.open_stdin, want.stdin_once, want.tty)
        && same_network
        && same_set(&have_host.cap_drop, &want_host.cap_drop, |cap| {
            cap.trim_start_matches("CAP_").to_owned()
        })
        && same_set(&have_host.cap_add, &want_host.cap_add, |cap| {
            cap.trim_start_matches("CAP_").to_owned()
        })
        && same_set(&have_host.security_opt, &want_host.security_opt, |opt| {
            // `no-new-privileges:true` is the same.
            opt.replace('=', ":").trim_end_matches(":true").to_owned()
        })
        && have_host.init == want_host.init
        && same_log(&have_host.log_config, &want_host.log_config)
        && have_host.privileged == want_host.privileged
        && have_host.readonly_rootfs == want_host.readonly_rootfs
        && restart_name(&have_host.restart_policy) == restart_name(&want_host.restart_policy)
        && same_set(&have_host.mounts, &want_host.mounts, Mount::clone)
        && one_by_one(&have.exposed_ports) == one_by_one(&want.exposed_ports)
        && bindings(have_host) == bindings(want_host)
        && (
            have_host.memory,
            have_host.memory_swap,
            have_host.nano_cpus,
            processes(have_host.pids_limit),
        ) == (
            want_host.memory,
            want_host.memory_swap,
            want_host.nano_cpus,
            processes(want_host.pids_limit),
        )
}

/// The engine may add options of its own.
fn same_log(have: &LogConfig, want: &LogConfig) -> bool {
    let option = |(key, value): (&String, &String)| have.config.get(key) == Some(value);
    want.is_default() || (have.driver == want.driver && want.config.iter().all(option))
}

fn same_variables(engine: &EngineInfo, have: &[String], want: &[String]) -> bool {
    let asked_for =
        |variable: &&String| want.contains(variable) || !quirks::brings_variable(engine, variable);
    let have: BTreeSet<_> = have.iter().filter(asked_for).collect();
    have == want.iter().collect()
}

fn same_set<T, K: Ord>(have: &[T], want: &[T], key: impl Fn(&T) -> K) -> bool {
    let sorted = |items: &[T]| {
        let mut keys: Vec<K> = items.iter().map(&key).collect();
        keys.sort();
        keys
    };
    sorted(have) == sorted(want)
}

/// Engines write "no policy" in two ways.
fn restart_name(policy: &RestartPolicy) -> &str {
    if policy.name.is_empty() {
        "no"
    } else {
        &policy.name
    }
}

/// Ports of an image may be ranges (`7000-7003/tcp`), of which an engine tells each one.
fn one_by_one(ports: &BTreeSet<String>) -> BTreeSet<String> {
    let range = |port: &String| {
        let (numbers, protocol) = port.split_once('/')?;
        let (first, last) = numbers.split_once('-')?;
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        let each = (first..=last).map(|number| format!("{number}/{protocol}"));
        Some(each.collect())
    };
    ports
        .iter()
        .flat_map(|port| range(port).unwrap_or_else(|| vec![port.clone()]))
        .collect()
}

/// Of a port that is exposed alone some engines tell that nothing leads there.
fn bindings(host: &HostConfig) -> BTreeMap<&str, Vec<Binding>> {
    let normal = |binding: &Binding| Binding {
        host_port: if binding.host_port.is_empty() {
            "0".to_owned()
        } else {
            binding.host_port.clone()
        },
        ..binding.clone()
    };
    host.port_bindings
        .iter()
        .map(|(port, list)| (port.as_str(), list.iter().flatten().map(normal).collect()))
        .filter(|(_, list): &(_, Vec<_>)| !list.is_empty())
        .collect()
}

/// Where the server of a running container is reached.
pub(crate) fn endpoint(spec: &DeploySpec, ports: &[PortBinding]) -> Option<Endpoint> {
    if spec.transport == TransportType::Stdio {
        return Some(Endpoint::Stdio);
    }
    let target = spec.target.as_ref()?;
    if spec.network == NetworkMode::Host {
        return Some(Endpoint::Http(SocketAddr::new(
            Ipv4Addr::LOCALHOST.into(),
            target.container_port,
        )));
    }
    let of_target = || {
        ports
            .iter()
            .filter(|port| port.container_port == target.container_port)
    };
    let wished = of_target().find(|port| {
        port.host_ip == target.host_ip && (target.host_port == 0 || port.host_port == target.host_port)
    });
    let port = wished.or_else(|| of_target().next())?;
    let ip = match port.host_ip {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(IpAddr::V4(ip)) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(IpAddr::V6(ip)) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        Some(ip) => ip,
    };
    Some(Endpoint::Http(SocketAddr::new(ip, port.host_port)))
}

#[cfg(test)]
mod tests;
