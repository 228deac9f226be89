//! Bringing a container up.

use std::io::ErrorKind;
use std::time::Duration;

use thv_core::TransportType;
use thv_runtime::{
    DeployOutcome, DeploySpec, Deployment, Error, Expect, InstanceId, Limits, NetworkMode, Result,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::container::{SHARED_NETWORK, check, desired, endpoint, is_identical};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::http::{Call, quoted};
use crate::lookup::{self, container};
use crate::remove::force_remove;
use crate::stop::stop_container;
use crate::turns::{Turns, to_the_end};
use crate::wire::{Container, Create, Created, Info};
use crate::{attach, helpers, isolation, last_words, network, quirks};

/// How much time a server has that was started and is not wanted.
const UNDO_GRACE: Duration = Duration::from_secs(5);

/// When to look for a container that was perhaps made: the engine may not have registered it yet.
const LOOK_AGAIN: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(400),
    Duration::from_millis(900),
];

/// How often the shared network may vanish under one deployment: a batch of removals takes it away repeatedly.
const NETWORK_RETRIES: u8 = 5;

pub(crate) async fn deploy(engine: &Engine, turns: &Turns, spec: &DeploySpec) -> Result<Deployment> {
    check(spec)?;
    let turn = turns.take(&spec.name).await;
    let abandoned = CancellationToken::new();
    let work = {
        let (engine, spec, abandoned) = (engine.clone(), spec.clone(), abandoned.clone());
        async move {
            let _turn = turn;
            let deployment = bring_up(&engine, &spec).await;
            if let Ok(deployment) = &deployment
                && abandoned.is_cancelled()
            {
                take_back(&engine, &spec, deployment).await;
            }
            deployment
        }
    };
    let waiting = abandoned.drop_guard();
    let deployment = to_the_end(engine, "deploy", work).await;
    waiting.disarm();
    deployment
}

/// Nobody wants what this deployment did any more.
async fn take_back(engine: &Engine, spec: &DeploySpec, deployment: &Deployment) {
    let id = deployment.instance.id.as_str();
    match deployment.outcome {
        DeployOutcome::Created | DeployOutcome::Replaced => {
            undo(engine, id).await;
            if spec.isolate_network {
                isolation::undo(engine, spec).await;
            }
        }
        DeployOutcome::Started => undo_start(engine, id).await,
        DeployOutcome::AlreadyRunning => {}
    }
}

async fn bring_up(engine: &Engine, spec: &DeploySpec) -> Result<Deployment> {
    let info = engine
        .abilities()
        .await
        .map_err(|e| engine.error(e, "ask the engine what it can do"))?;
    check_limits(engine, spec, &info)?;
    check_reach(engine, spec)?;
    check_sources(engine, spec).await?;
    let there = expected(engine, spec).await?;
    if spec.isolate_network {
        return Box::pin(isolation::bring_up(engine, spec, there)).await;
    }
    let mut network = shared_network(engine, spec).await?;
    let mut wanted = desired(spec, &network, &info);

    let replaces = match there {
        None => false,
        Some(found) => {
            if let Some(outcome) = reuse(engine, spec, &found, &wanted, &network).await? {
                let deployment = deployed(engine, spec, &found.id, outcome).await;
                if deployment.is_err() && outcome == DeployOutcome::Started {
                    undo_start(engine, &found.id).await;
                }
                return deployment;
            }
            force_remove(engine, &found.id)
                .await
                .map_err(|e| during(engine, spec, e, "replace"))?;
            true
        }
    };

    // Again if the shared network vanished in between: another workload was the last one on it.
    let mut again = if spec.network == NetworkMode::Bridge {
        NETWORK_RETRIES
    } else {
        0
    };
    let id = loop {
        match create_and_start_as(engine, spec, &spec.instance_name, &wanted).await {
            Ok(id) => break id,
            Err(Attempt::NetworkGone(_)) if again > 0 => {
                again -= 1;
                network = shared_network(engine, spec).await?;
                wanted = desired(spec, &network, &info);
            }
            Err(attempt) => return Err(attempt.into_error(engine, spec)),
        }
    };
    let outcome = if replaces {
        DeployOutcome::Replaced
    } else {
        DeployOutcome::Created
    };
    let deployment = deployed(engine, spec, &id, outcome).await;
    if deployment.is_err() {
        undo(engine, &id).await;
    }
    deployment
}

/// What the engine says it cannot enforce is refused.
fn check_limits(engine: &Engine, spec: &DeploySpec, info: &Info) -> Result<()> {
    let cannot = |says: Option<bool>| says == Some(false);
    let asked = [
        (
            spec.limits.memory.is_some() && cannot(info.memory_limit),
            "a memory limit",
        ),
        (
            spec.limits.cpus.is_some() && (cannot(info.cpu_cfs_period) || cannot(info.cpu_cfs_quota)),
            "a CPU limit",
        ),
        (
            spec.limits.pids.is_some() && cannot(info.pids_limit),
            "a limit of processes",
        ),
    ];
    match asked
        .into_iter()
        .find_map(|(refused, what)| refused.then_some(what))
    {
        None => Ok(()),
        Some(what) => Err(Error::Unsupported {
            runtime: engine.kind().clone(),
            what: format!("{what}: its engine says that it cannot enforce one on this kernel"),
        }),
    }
}

/// An engine elsewhere does not give ports and folders of this machine.
pub(crate) fn check_reach(engine: &Engine, spec: &DeploySpec) -> Result<()> {
    if !engine.is_elsewhere() {
        return Ok(());
    }
    let what = if !spec.mounts.is_empty() || !spec.hidden.is_empty() {
        "folders of this machine: its engine is on another one"
    } else if spec.transport != TransportType::Stdio || !spec.publish.is_empty() {
        "servers with ports: its engine is on another machine, where they would be; stdio works"
    } else {
        return Ok(());
    };
    Err(Error::Unsupported {
        runtime: engine.kind().clone(),
        what: what.to_owned(),
    })
}

/// What is to be mounted has to be there, also where the engine does not look.
async fn check_sources(engine: &Engine, spec: &DeploySpec) -> Result<()> {
    let makes_them = engine
        .known()
        .is_some_and(|about| quirks::makes_missing_sources(&about));
    if !makes_them || engine.is_elsewhere() {
        return Ok(());
    }
    for mount in &spec.mounts {
        match tokio::fs::metadata(&mount.source).await {
            // An engine may see what this user may not.
            Err(error) if error.kind() != ErrorKind::PermissionDenied => {
                return Err(Error::Invalid {
                    what: "mount".to_owned(),
                    detail: format!("{}: {error}", mount.source.display()),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Uses the container that is there, if it is what is wanted and can be started.
async fn reuse(
    engine: &Engine,
    spec: &DeploySpec,
    found: &Container,
    wanted: &Create,
    network: &str,
) -> Result<Option<DeployOutcome>> {
    let running = found.state.status == "running";
    if !running && !matches!(found.state.status.as_str(), "created" | "exited" | "stopped") {
        return Ok(None);
    }
    let look = async { Ok((engine.info().await?, lookup::image_of(engine, found).await?)) };
    let (about, image) = look
        .await
        .map_err(|e: EngineError| during(engine, spec, e, "look at the image of"))?;
    if !image.is_some_and(|image| is_identical(&about, found, &image, wanted, network)) {
        return Ok(None);
    }
    if running {
        return Ok(Some(DeployOutcome::AlreadyRunning));
    }
    match start(engine, spec, &found.id, wanted).await {
        Ok(()) => Ok(Some(DeployOutcome::Started)),
        // A network or an image layer of it is gone: it cannot be started again as it is.
        Err(cause) if cause.is_not_found() || is_network_gone(&cause, wanted) => Ok(None),
        Err(cause) => {
            // Also one that the engine refused: on Podman who attaches has half started it.
            undo_start(engine, &found.id).await;
            Err(start_failed(engine, spec, cause))
        }
    }
}

/// What is there, if that is what the caller expects.
async fn expected(engine: &Engine, spec: &DeploySpec) -> Result<Option<Container>> {
    let conflict = |found: Option<&str>| {
        Err(Error::Conflict {
            name: spec.name.clone(),
            runtime: engine.kind().clone(),
            found: found.map(InstanceId::new),
        })
    };
    let row = lookup::of_workload(engine, &spec.name)
        .await
        .map_err(|e| during(engine, spec, e, "look for"))?;
    // A container of somebody else's may have the name without our labels.
    let id = match row {
        Some(row) => Some(row.id),
        None => named(engine, spec).await?.map(|found| found.id),
    };
    let inspect = async |id: &str| {
        lookup::details(engine, id)
            .await
            .map_err(|e| during(engine, spec, e, "inspect"))
    };
    match (&spec.expect, id) {
        (Expect::Absent, None) => Ok(None),
        (Expect::Absent, Some(id)) => match inspect(&id).await? {
            Some(found) if is_left_over(&found, &spec.instance_name, spec.name.as_str()) => {
                force_remove(engine, &id)
                    .await
                    .map_err(|e| during(engine, spec, e, "remove what is left of"))?;
                Ok(None)
            }
            _ => conflict(Some(&id)),
        },
        (Expect::Instance(wanted), Some(id)) if wanted.as_str() == id => {
            let found = inspect(&id).await?;
            if found.is_none() {
                conflict(None)
            } else {
                Ok(found)
            }
        }
        (Expect::Instance(_), id) => conflict(id.as_deref()),
    }
}

/// Whether a deployment was cut off before it could start what it had made under this name.
fn is_left_over(found: &Container, name: &str, base_name: &str) -> bool {
    found.never_started()
        && found.name() == name
        && thv_labels::is_toolhive(&found.config.labels)
        && thv_labels::base_name(&found.config.labels) == Some(base_name)
}

async fn named(engine: &Engine, spec: &DeploySpec) -> Result<Option<Container>> {
    lookup::details(engine, &spec.instance_name)
        .await
        .map_err(|e| during(engine, spec, e, "look for"))
}

pub(crate) async fn shared_network(engine: &Engine, spec: &DeploySpec) -> Result<String> {
    if spec.network != NetworkMode::Bridge {
        return Ok(String::new());
    }
    network::ensure_shared(engine)
        .await
        .map_err(|e| engine.error(e, format!("make the network {SHARED_NETWORK}")))
}

/// Why a container does not run.
pub(crate) enum Attempt {
    NetworkGone(EngineError),
    /// The engine does not mount its host's addresses into a helper.
    TableRefused(EngineError),
    Failed(Error),
}

impl Attempt {
    pub(crate) fn into_error(self, engine: &Engine, spec: &DeploySpec) -> Error {
        match self {
            Self::NetworkGone(cause) => match &spec.network {
                NetworkMode::Named(_) => Error::Invalid {
                    what: "network".to_owned(),
                    detail: plain(&cause),
                },
                _ => during(engine, spec, cause, "start"),
            },
            Self::TableRefused(cause) => Error::Invalid {
                what: "mount".to_owned(),
                detail: plain(&cause),
            },
            Self::Failed(error) => error,
        }
    }
}

/// Makes a container of this name for the workload, its own or a helper's, and starts it.
pub(crate) async fn create_and_start_as(
    engine: &Engine,
    spec: &DeploySpec,
    name: &str,
    wanted: &Create,
) -> Result<String, Attempt> {
    let path = format!("/containers/create?name={}", quoted(name));
    let about = engine
        .info()
        .await
        .map_err(|e| Attempt::Failed(during(engine, spec, e, "create")))?;
    // Boxed: it lives as long as this call waits.
    let body = Box::new(quirks::as_engine_takes(&about, wanted));
    let created = match engine.call(|| Call::post(path.as_str()).json(&*body)).await {
        Ok(answer) => answer.json::<Created>().await,
        Err(cause) => Err(cause),
    };
    let created = match created {
        Ok(created) => created,
        Err(cause) if is_network_gone(&cause, wanted) => return Err(Attempt::NetworkGone(cause)),
        Err(cause) if isolation::is_table_refused(&cause, wanted) => {
            return Err(Attempt::TableRefused(cause));
        }
        Err(cause) => {
            if cause.is_unsure() {
                undo_unseen(engine, name, wanted).await;
            }
            return Err(Attempt::Failed(create_failed(engine, spec, wanted, cause).await));
        }
    };
    let id = created.id;
    if let Some(warning) = discarded_limit(spec, &created.warnings) {
        undo(engine, &id).await;
        return Err(Attempt::Failed(Error::Unsupported {
            runtime: engine.kind().clone(),
            what: format!("a limit; its engine says: {warning}"),
        }));
    }
    match start(engine, spec, &id, wanted).await {
        Ok(()) => Ok(id),
        Err(cause) => {
            undo(engine, &id).await;
            Err(if is_network_gone(&cause, wanted) {
                Attempt::NetworkGone(cause)
            } else if isolation::is_table_refused(&cause, wanted) {
                Attempt::TableRefused(cause)
            } else {
                Attempt::Failed(start_failed(engine, spec, cause))
            })
        }
    }
}

/// Starts a container; once more where the engine failed at it for a moment's reason of its own.
async fn start(engine: &Engine, spec: &DeploySpec, id: &str, wanted: &Create) -> Result<(), EngineError> {
    match start_once(engine, spec, id, wanted).await {
        Err(cause) if cause.is_lost_start() => {
            tracing::warn!(container = id, error = %cause, "it is started once more");
            start_once(engine, spec, id, wanted).await
        }
        other => other,
    }
}

/// What nobody else keeps is listened to before the server says its first word.
async fn start_once(
    engine: &Engine,
    spec: &DeploySpec,
    id: &str,
    wanted: &Create,
) -> Result<(), EngineError> {
    let waiting = if wanted.config.open_stdin && wanted.host_config.log_config.is_none() {
        Some(attach::before_start(engine, id).await?)
    } else {
        None
    };
    engine.post(&container(id, "/start")).await?;
    if let Some(waiting) = waiting {
        engine.attachments().keep(&spec.name, id, waiting);
    }
    Ok(())
}

/// What a failed deployment made goes away again; if even that fails, the first failure is the one to tell.
pub(crate) async fn undo(engine: &Engine, id: &str) {
    if let Err(cause) = force_remove(engine, id).await {
        tracing::warn!(container = id, error = %cause, "a container that could not be started was not removed");
    }
}

/// As [`undo`], where it is not known whether there is a container, and which: the answer to its creation was lost.
async fn undo_unseen(engine: &Engine, name: &str, wanted: &Create) {
    let base_name = thv_labels::base_name(&wanted.config.labels).unwrap_or(name);
    for pause in LOOK_AGAIN {
        sleep(pause).await;
        match lookup::details(engine, name).await {
            Ok(Some(found)) if is_left_over(&found, name, base_name) => return undo(engine, &found.id).await,
            // It is somebody else's.
            Ok(Some(_)) => return,
            // The engine may still be at it.
            Ok(None) => {}
            Err(cause) => tracing::debug!(error = %cause, "what a broken creation left is not known"),
        }
    }
}

/// A container that was there and stopped is stopped again.
async fn undo_start(engine: &Engine, id: &str) {
    if let Err(cause) = stop_container(engine, id, UNDO_GRACE).await {
        tracing::warn!(container = id, error = %cause, "a container was started and is not wanted, but not stopped");
    }
}

/// The first warning that says that a limit does not hold.
fn discarded_limit<'a>(spec: &DeploySpec, warnings: &'a [String]) -> Option<&'a str> {
    let mut discarded = None;
    for warning in warnings {
        let words = warning.to_lowercase();
        let of_a_limit = words.contains("discarded") && !words.contains("published ports");
        if spec.limits != Limits::default() && of_a_limit {
            discarded.get_or_insert(warning.as_str());
        } else {
            tracing::warn!(workload = %spec.name, warning, "the engine warns");
        }
    }
    discarded
}

/// The engine names the network that it does not find; so may the name of an image that it does not find.
fn is_network_gone(cause: &EngineError, wanted: &Create) -> bool {
    let words = cause.message();
    if words.contains(SHARED_NETWORK) && words.contains("is ambiguous") {
        // Another process made one too at the same moment; one of them goes.
        return true;
    }
    // Podman says so with a status of its own.
    let not_found = cause.is_not_found() || words.contains("network not found");
    not_found
        && !cause.is_missing_image()
        && words.contains("network")
        && (words.contains(&wanted.host_config.network_mode) || words.contains(SHARED_NETWORK))
}

async fn create_failed(engine: &Engine, spec: &DeploySpec, wanted: &Create, cause: EngineError) -> Error {
    if cause.is_missing_image() {
        return Error::ImageNotFound {
            // A helper has another one than its workload.
            image: wanted.config.image.clone(),
            runtime: engine.kind().clone(),
            detail: "the engine does not have it".to_owned(),
        };
    }
    if cause.is_without_command() {
        return Error::Invalid {
            what: "image".to_owned(),
            detail: format!(
                "{} does not say what to run: give the program and its arguments as the command",
                wanted.config.image
            ),
        };
    }
    if cause.is_name_taken() {
        return name_taken(engine, spec).await;
    }
    let refused = match cause.status() {
        _ if cause.is_refused_mount() => "mount",
        Some(400) => "container",
        _ => return during(engine, spec, cause, "create"),
    };
    Error::Invalid {
        what: refused.to_owned(),
        detail: plain(&cause),
    }
}

async fn name_taken(engine: &Engine, spec: &DeploySpec) -> Error {
    let found = named(engine, spec)
        .await
        .ok()
        .flatten()
        .map(|found| InstanceId::new(found.id));
    Error::Conflict {
        name: spec.name.clone(),
        runtime: engine.kind().clone(),
        found,
    }
}

fn start_failed(engine: &Engine, spec: &DeploySpec, cause: EngineError) -> Error {
    let words = cause.message();
    let busy = [
        "port is already allocated",
        "address already in use",
        "ports are not available",
    ];
    if busy.iter().any(|phrase| words.contains(phrase)) {
        let asked = || {
            spec.publish
                .iter()
                .chain(&spec.target)
                .map(|b| b.host_port)
                .filter(|&port| port != 0)
        };
        let named = asked().find(|port| {
            words
                .split(|c: char| !c.is_ascii_digit())
                .any(|n| n == port.to_string())
        });
        if let Some(port) = named.or_else(|| asked().next()) {
            return Error::PortTaken {
                port,
                detail: plain(&cause),
            };
        }
    }
    match cause.status() {
        Some(400 | 404 | 409 | 500) => Error::StartFailed {
            name: spec.name.clone(),
            detail: plain(&cause),
            last_lines: Vec::new(),
        },
        _ => during(engine, spec, cause, "start"),
    }
}

fn plain(cause: &EngineError) -> String {
    match cause {
        EngineError::Status { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

fn during(engine: &Engine, spec: &DeploySpec, cause: EngineError, verb: &str) -> Error {
    engine.error(
        cause,
        format!("{verb} the container of workload \"{}\"", spec.name),
    )
}

/// What runs now; a server that ended at once is a failure with its last words.
async fn deployed(
    engine: &Engine,
    spec: &DeploySpec,
    id: &str,
    outcome: DeployOutcome,
) -> Result<Deployment> {
    deployed_behind(engine, spec, id, None, outcome).await
}

/// As [`deployed`], where the ports may be another container's.
pub(crate) async fn deployed_behind(
    engine: &Engine,
    spec: &DeploySpec,
    id: &str,
    front: Option<&Container>,
    outcome: DeployOutcome,
) -> Result<Deployment> {
    let found = lookup::details(engine, id)
        .await
        .map_err(|e| during(engine, spec, e, "inspect"))?;
    let failed = |detail: String, last_lines| Error::StartFailed {
        name: spec.name.clone(),
        detail,
        last_lines,
    };
    let Some(found) = found else {
        return Err(failed(
            "the container was removed while it started".to_owned(),
            Vec::new(),
        ));
    };
    // Labels of the image are its container's too.
    if let Some(mark) = helpers::mark(&found.config.labels) {
        return Err(Error::Invalid {
            what: "image".to_owned(),
            detail: format!(
                "{} has the label {mark}, which marks helpers of workloads: it would not be found again",
                spec.image
            ),
        });
    }
    if matches!(found.state.status.as_str(), "exited" | "dead" | "stopped") {
        let instance = found.into_instance(engine);
        return Err(failed(
            instance.status_text,
            last_words::of(engine, spec, id).await,
        ));
    }
    let endpoint = endpoint(spec, &front.unwrap_or(&found).ports())
        .ok_or_else(|| failed("the engine did not publish its port".to_owned(), Vec::new()))?;
    Ok(Deployment::new(found.into_instance(engine), outcome, endpoint))
}
