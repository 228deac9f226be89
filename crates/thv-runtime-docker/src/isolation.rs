//! Isolated workloads.
//!
//! The container of such a workload shares the network of a helper, and that network has nothing but loopback: no interface,
//! no address of the host, no IPv6, no resolver. What programs send to the proxy there goes through a socket in a volume that
//! the workload does not see to a second helper, which stands on the shared network and connects to what the profile
//! allows. The workload's ports are reached the same way round.
//!
//! A network without a way out (`internal`) would not do: the host is on its bridge. Even where the bridge has no
//! address, a program that binds a socket to its interface reaches every address of the host, one way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use thv_core::TransportType;
use thv_runtime::{DeployOutcome, DeploySpec, Deployment, Error, InstanceState, NetworkMode, Result};

use crate::container::{desired, is_identical};
use crate::deploy::{self, Attempt};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::helper_program::PROGRAM;
use crate::helpers::{self, HELPED, Role};
use crate::host_addresses;
use crate::last_words;
use crate::lookup;
use crate::quirks;
use crate::remove::force_remove;
use crate::wire::{Container, Create, Info, Mount};

/// Where the proxy is, from inside.
const PROXY: &str = "http://127.0.0.1:3128";
const PROXY_PORT: u16 = 3128;
/// What is reached without it.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";
/// Where the helpers' sockets are.
const SOCKETS: &str = "/run/thv";
/// A connection takes two threads and some buffers.
const MEMORY: i64 = 64 << 20;
const PIDS: i64 = 600;
/// An address of the host, among the arguments of the outer helper.
const DENY: &str = "--deny";
/// Where it reads which addresses the host has.
const DENY_IN: &str = "--deny-in";
/// Where the kernel says which addresses the host has, whenever it is read: the folder stays the host's also where a container
/// has it mounted. The first process of the engine's machine is in the network of that. Not the file alone: when anybody looks
/// that up, the one that is mounted counts as deleted, and a start that is under way is refused for it.
const HOST_NET: &str = "/proc/1/net";
const HOST_NET_INSIDE: &str = "/host/net";
const HOST_TABLE: &str = "/host/net/fib_trie";
/// How often the shared network may vanish under one deployment.
const NETWORK_RETRIES: u8 = 5;

/// Why this engine isolates nothing, and what to do about it. One that was not asked yet is taken for Docker.
pub(crate) fn lacks(engine: &Engine) -> Option<String> {
    if let Some(lack) = engine.known().and_then(|about| quirks::isolation_lacks(&about)) {
        return Some(lack.to_owned());
    }
    match engine.egress_helper() {
        None => Some(format!(
            "its helper program is missing: put the static program {PROGRAM} beside this one, or name it in \
             TOOLHIVE_EGRESS_HELPER"
        )),
        Some(path) => engine.helper().check(path).err(),
    }
}

/// Why an isolated workload that runs is of no use: nobody restarts a helper alone, since the workload would stay in a
/// network that has ended.
pub(crate) async fn impaired(engine: &Engine, found: &Container) -> Result<Option<String>, EngineError> {
    let Some(inner) = found.host_config.network_mode.strip_prefix("container:") else {
        return Ok(None);
    };
    if found.state.status != "running" || !thv_labels::is_isolated(&found.config.labels) {
        return Ok(None);
    }
    let name = found.first_name();
    let around = helpers::around(engine, name).await?;
    let mut running = around.iter().filter(|helper| helper.state == "running");
    let both = running.clone().any(|helper| helper.id == inner)
        && running.any(|helper| Role::Outer.is_of(helper.name(), name));
    Ok((!both).then(|| "a helper of its isolated network has ended".to_owned()))
}

/// What cannot be isolated is refused.
pub(crate) fn check(engine: &Engine, spec: &DeploySpec) -> Result<()> {
    let refused = |what: &str| {
        Err(Error::Unsupported {
            runtime: engine.kind().clone(),
            what: format!("network isolation {what}"),
        })
    };
    if spec.privileged {
        return refused("of a privileged server: it can get around everything");
    }
    if spec.network != NetworkMode::Bridge {
        return refused("in another network mode than bridge");
    }
    let ports = spec.publish.iter().chain(&spec.target);
    if ports.into_iter().any(|port| port.container_port == PROXY_PORT) {
        return Err(Error::Invalid {
            what: "port".to_owned(),
            detail: format!("{PROXY_PORT} is the proxy's of an isolated workload: choose another one"),
        });
    }
    match spec.egress.hosts.iter().find(|host| !is_host(host)) {
        None => Ok(()),
        Some(host) => Err(Error::Invalid {
            what: "allowed host".to_owned(),
            detail: format!(
                "\"{host}\" would match nothing: write a name (as DNS has it, without scheme or port), .example.com for \
                 all below it too, or an IPv4 address"
            ),
        }),
    }
}

/// Whether the helper takes this for a host, and may be asked for one that it matches.
fn is_host(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    name.bytes().any(|byte| byte != b'.') && name.bytes().all(fits)
}

/// Brings an isolated workload up, with all that is around it. The caller looks at what is there.
pub(crate) async fn bring_up(
    engine: &Engine,
    spec: &DeploySpec,
    found: Option<Container>,
) -> Result<Deployment> {
    check(engine, spec)?;
    // Known by now, unlike when it was asked what it can do.
    if let Some(lack) = lacks(engine) {
        return Err(Error::Unsupported {
            runtime: engine.kind().clone(),
            what: format!("network isolation: {lack}"),
        });
    }
    let info = engine
        .abilities()
        .await
        .map_err(|e| engine.error(e, "ask the engine what it can do"))?;
    let image = engine.helper().on(engine).await?;
    let denied = host_addresses::of(engine)
        .await
        .map_err(|e| engine.error(e, "ask the engine for its networks"))?;
    let replaces = found.is_some();
    if let Some(found) = found {
        if let Some(there) = as_wanted(engine, spec, &found, &image.reference, &denied, &info).await? {
            return deploy::deployed_behind(
                engine,
                spec,
                &found.id,
                Some(&there),
                DeployOutcome::AlreadyRunning,
            )
            .await;
        }
        force_remove(engine, &found.id)
            .await
            .map_err(|e| engine.error(e, format!("replace the container of workload \"{}\"", spec.name)))?;
    }
    clear(engine, spec).await?;
    let making = Box::pin(make_patiently(engine, spec, &image.reference, &denied, &info));
    match image.while_removing_earlier(engine, making).await {
        Ok((id, outer)) => {
            let outcome = if replaces {
                DeployOutcome::Replaced
            } else {
                DeployOutcome::Created
            };
            let deployment = deploy::deployed_behind(engine, spec, &id, Some(&outer), outcome).await;
            if deployment.is_err() {
                deploy::undo(engine, &id).await;
                undo(engine, spec).await;
            }
            deployment
        }
        Err(error) => {
            undo(engine, spec).await;
            Err(error)
        }
    }
}

/// The outer helper, if the workload and both helpers run as they would be made.
async fn as_wanted(
    engine: &Engine,
    spec: &DeploySpec,
    found: &Container,
    image: &str,
    denied: &BTreeSet<Ipv4Addr>,
    info: &Info,
) -> Result<Option<Container>> {
    let look = async {
        let around = helpers::around(engine, &spec.instance_name).await?;
        let find = async |role: Role| {
            let mut all = around.iter();
            match all.find(|helper| role.is_of(helper.name(), &spec.instance_name)) {
                Some(helper) => lookup::details(engine, &helper.id).await,
                None => Ok(None),
            }
        };
        let (Some(outer), Some(inner)) = (find(Role::Outer).await?, find(Role::Inner).await?) else {
            return Ok(None);
        };
        let running = [found, &outer, &inner]
            .iter()
            .all(|container| container.state.status == "running");
        let same_rules = rules(&outer.config.cmd) == rules(&outer_arguments(spec, denied, true))
            && inner.config.cmd == inner_arguments(spec)
            && [&outer, &inner].iter().all(|helper| helper.config.image == image);
        if !running || !same_rules {
            return Ok(None);
        }
        let wanted = workload(spec, &inner.id, info);
        let (about, brings) = (engine.info().await?, lookup::image_of(engine, found).await?);
        let same = brings.is_some_and(|brings| is_identical(&about, found, &brings, &wanted, ""));
        Ok(same.then_some(outer))
    };
    look.await.map_err(|e: EngineError| {
        engine.error(e, format!("look at the helpers of workload \"{}\"", spec.name))
    })
}

/// As [`make`]; once more where the image of the helpers went away since it was looked for.
async fn make_patiently(
    engine: &Engine,
    spec: &DeploySpec,
    image: &str,
    denied: &BTreeSet<Ipv4Addr>,
    info: &Info,
) -> Result<(String, Container)> {
    match make(engine, spec, image, denied, info).await {
        Err(Error::ImageNotFound { image: missing, .. }) if missing == image => {
            let again = engine.helper().on(engine).await?.reference;
            make(engine, spec, &again, denied, info).await
        }
        made => made,
    }
}

/// Makes helpers and workload; the id of the workload's container, and the outer helper.
async fn make(
    engine: &Engine,
    spec: &DeploySpec,
    image: &str,
    denied: &BTreeSet<Ipv4Addr>,
    info: &Info,
) -> Result<(String, Container)> {
    let (mut again, mut with_table) = (NETWORK_RETRIES, true);
    let outer = loop {
        let network = deploy::shared_network(engine, spec).await?;
        let wanted = |name: &str| outer_helper(spec, name, image, &network, denied, with_table, info);
        match beside(engine, spec, Role::Outer, wanted).await {
            Ok(id) => break id,
            Err(Attempt::NetworkGone(_)) if again > 0 => again -= 1,
            Err(Attempt::TableRefused(cause)) if with_table => {
                tracing::warn!(workload = %spec.name, error = %cause, "addresses that the host gets later are not denied");
                with_table = false;
            }
            Err(attempt) => return Err(attempt.into_error(engine, spec)),
        }
    };
    let wanted = |name: &str| inner_helper(spec, name, image, &outer, info);
    let inner = beside(engine, spec, Role::Inner, wanted)
        .await
        .map_err(|attempt| attempt.into_error(engine, spec))?;
    // Looked at before the workload is made: a failure from here on has no container of its to take back.
    let there = lookup::details(engine, &outer)
        .await
        .map_err(|e| engine.error(e, format!("look at the helpers of workload \"{}\"", spec.name)))?;
    let running = |outer: &Container| lookup::state_of(&outer.state.status) == InstanceState::Running;
    let Some(there) = there.filter(running) else {
        return Err(Error::StartFailed {
            name: spec.name.clone(),
            detail: "the helper that its network needs has ended".to_owned(),
            last_lines: last_words::of(engine, spec, &outer).await,
        });
    };
    let wanted = workload(spec, &inner, info);
    let id = deploy::create_and_start_as(engine, spec, &spec.instance_name, &wanted)
        .await
        .map_err(|attempt| attempt.into_error(engine, spec))?;
    Ok((id, there))
}

/// Makes and starts a helper, under the first of its names that nobody else has.
async fn beside(
    engine: &Engine,
    spec: &DeploySpec,
    role: Role,
    wanted: impl Fn(&str) -> Create,
) -> Result<String, Attempt> {
    let mut names = role.names(spec).peekable();
    loop {
        let Some(name) = names.next() else {
            return Err(Attempt::Failed(Error::Invalid {
                what: "name".to_owned(),
                detail: format!("others have all names for a helper of {}", spec.instance_name),
            }));
        };
        match deploy::create_and_start_as(engine, spec, &name, &wanted(&name)).await {
            Err(Attempt::Failed(Error::Conflict { .. })) if names.peek().is_some() => {}
            made => return made,
        }
    }
}

/// Removes what is around the workload of this name.
async fn clear(engine: &Engine, spec: &DeploySpec) -> Result<()> {
    let clearing = async {
        for helper in helpers::around(engine, &spec.instance_name).await? {
            force_remove(engine, &helper.id).await?;
        }
        // One of ToolHive's.
        crate::network::remove(engine, &format!("toolhive-{}-internal", spec.instance_name)).await
    };
    clearing.await.map_err(|e: EngineError| {
        engine.error(e, format!("remove the helpers of workload \"{}\"", spec.name))
    })
}

/// As [`clear`], where another failure is the one to tell.
pub(crate) async fn undo(engine: &Engine, spec: &DeploySpec) {
    if let Err(error) = clear(engine, spec).await {
        tracing::warn!(workload = %spec.name, %error, "helpers of a workload that is not there were not removed");
    }
}

/// The workload's container: its network is the inner helper's, and its ports are the outer one's.
fn workload(spec: &DeploySpec, inner: &str, info: &Info) -> Create {
    let mut spec = spec.clone();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        spec.env.insert(name.to_owned(), PROXY.to_owned());
    }
    for name in ["NO_PROXY", "no_proxy"] {
        spec.env.insert(name.to_owned(), NO_PROXY.to_owned());
    }
    spec.network = NetworkMode::Named(format!("container:{inner}"));
    spec.target = None;
    spec.publish.clear();
    desired(&spec, "", info)
}

fn outer_arguments(spec: &DeploySpec, denied: &BTreeSet<Ipv4Addr>, with_table: bool) -> Vec<String> {
    let egress = &spec.egress;
    let mut arguments = vec!["outer".to_owned()];
    if egress.everything {
        arguments.push("--allow-all".to_owned());
    }
    if egress.engine_host {
        arguments.push("--allow-gateway".to_owned());
    }
    let mut with = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    for address in denied {
        with(DENY, address.to_string());
    }
    if with_table {
        with(DENY_IN, HOST_TABLE.to_owned());
    }
    for host in &egress.hosts {
        with("--allow-host", host.clone());
    }
    for port in &egress.ports {
        with("--allow-port", port.to_string());
    }
    if let Some(port) = target(spec) {
        with("--ingress", port.to_string());
    }
    for port in published(spec) {
        with("--open-ingress", port.to_string());
    }
    arguments
}

/// The rules among the arguments of an outer helper. The addresses of the host are not: they come and go with the networks of
/// others, and that is no reason to start a workload anew. Nor is that the engine does not mount their table.
fn rules(arguments: &[String]) -> Vec<&String> {
    let mut rules = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == DENY || argument == DENY_IN {
            arguments.next();
        } else {
            rules.push(argument);
        }
    }
    rules
}

fn inner_arguments(spec: &DeploySpec) -> Vec<String> {
    let mut arguments = vec!["inner".to_owned()];
    for port in target(spec).into_iter().chain(published(spec)) {
        arguments.extend(["--ingress".to_owned(), port.to_string()]);
    }
    arguments
}

/// The port of the server, unless it is published anyway.
fn target(spec: &DeploySpec) -> Option<u16> {
    let http = spec.transport != TransportType::Stdio;
    let port = spec.target.as_ref().map(|target| target.container_port);
    port.filter(|port| http && !published(spec).contains(port))
}

/// The ports that are published. One may be so at several ports of the host; the helpers listen at it once.
fn published(spec: &DeploySpec) -> BTreeSet<u16> {
    spec.publish
        .iter()
        .map(|binding| binding.container_port)
        .collect()
}

/// A container of the helper's image with as few rights as there are.
fn helper(spec: &DeploySpec, name: &str, image: &str, arguments: Vec<String>, info: &Info) -> Create {
    let mut of = DeploySpec::new(spec.name.clone(), image);
    name.clone_into(&mut of.instance_name);
    of.command = arguments;
    of.read_only = true;
    of.labels = BTreeMap::from(
        [
            (thv_labels::TOOLHIVE, "true"),
            (thv_labels::NAME, name),
            (thv_labels::BASE_NAME, name),
            (thv_labels::TRANSPORT, "stdio"),
            (thv_labels::PORT, "80"),
            (thv_labels::AUXILIARY_WORKLOAD, "true"),
            (HELPED, spec.name.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    if let Some(owner) = spec.labels.get(thv_labels::OWNER) {
        of.labels.insert(thv_labels::OWNER.to_owned(), owner.clone());
    }
    let mut wanted = desired(&of, "", info);
    let config = &mut wanted.config;
    (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
    (config.open_stdin, config.stdin_once) = (false, false);
    // It has nothing to finish.
    config.stop_signal = Some("SIGKILL".to_owned());
    let host = &mut wanted.host_config;
    host.init = false;
    host.mounts.clear();
    (host.memory, host.memory_swap) = (MEMORY, -1);
    host.pids_limit = PIDS;
    wanted
}

fn outer_helper(
    spec: &DeploySpec,
    name: &str,
    image: &str,
    network: &str,
    denied: &BTreeSet<Ipv4Addr>,
    with_table: bool,
    info: &Info,
) -> Create {
    let mut wanted = helper(spec, name, image, outer_arguments(spec, denied, with_table), info);
    network.clone_into(&mut wanted.host_config.network_mode);
    // It goes with the last container that has it.
    wanted.host_config.mounts = vec![Mount {
        kind: "volume".to_owned(),
        target: SOCKETS.to_owned(),
        ..Mount::default()
    }];
    if with_table {
        wanted.host_config.mounts.push(host_table());
    }
    let ports = desired(spec, "", info);
    wanted.config.exposed_ports = ports.config.exposed_ports;
    wanted.host_config.port_bindings = ports.host_config.port_bindings;
    wanted
}

fn host_table() -> Mount {
    Mount {
        kind: "bind".to_owned(),
        source: HOST_NET.to_owned(),
        target: HOST_NET_INSIDE.to_owned(),
        read_only: true,
        tmpfs_options: None,
    }
}

/// Whether the engine does not mount what tells an outer helper the host's addresses, as one in a virtual machine may not that
/// mounts what is shared with that: its words name the folder.
pub(crate) fn is_table_refused(cause: &EngineError, wanted: &Create) -> bool {
    wanted.host_config.mounts.contains(&host_table()) && cause.message().contains(HOST_NET)
}

fn inner_helper(spec: &DeploySpec, name: &str, image: &str, outer: &str, info: &Info) -> Create {
    let mut wanted = helper(spec, name, image, inner_arguments(spec), info);
    "none".clone_into(&mut wanted.host_config.network_mode);
    wanted.host_config.volumes_from = vec![outer.to_owned()];
    wanted
}

#[cfg(test)]
mod tests;
