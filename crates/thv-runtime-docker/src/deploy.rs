//! Bringing a container up.

use bytes::Bytes;
use futures_util::TryStreamExt;
use thv_runtime::{
    DeployOutcome, DeploySpec, Deployment, Error, Expect, InstanceId, InstanceRef, LogOptions, NetworkMode,
    Result,
};

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::container::{SHARED_NETWORK, check, desired, endpoint, is_identical};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::http::{Call, quoted};
use crate::lookup::{self, container};
use crate::remove::force_remove;
use crate::turns::Turns;
use crate::wire::{Container, Create, Created};
use crate::{logs, network};

/// How many lines of a server that failed at once are shown.
const LAST_LINES: usize = 20;

/// How often the shared network may vanish under one deployment: a batch of removals takes it away repeatedly.
const NETWORK_RETRIES: u8 = 5;

pub(crate) async fn deploy(engine: &Engine, turns: &Turns, spec: &DeploySpec) -> Result<Deployment> {
    check(spec)?;
    let turn = turns.take(&spec.name).await;
    let abandoned = CancellationToken::new();
    let work = {
        let (engine, spec, abandoned) = (engine.clone(), spec.clone(), abandoned.clone());
        async move {
            let deployment = bring_up(&engine, &spec).await;
            if let Ok(deployment) = &deployment
                && abandoned.is_cancelled()
                && matches!(
                    deployment.outcome,
                    DeployOutcome::Created | DeployOutcome::Replaced
                )
            {
                undo(&engine, deployment.instance.id.as_str()).await;
            }
            drop(turn);
            deployment
        }
    };
    let waiting = abandoned.drop_guard();
    let deployment = tokio::spawn(work.in_current_span()).await;
    waiting.disarm();
    deployment.unwrap_or_else(|ended| Err(engine.error(EngineError::Broken(ended.into()), "deploy")))
}

async fn bring_up(engine: &Engine, spec: &DeploySpec) -> Result<Deployment> {
    let there = expected(engine, spec).await?;
    let mut network = shared_network(engine, spec).await?;
    let mut wanted = desired(spec, &network);

    let replaces = match there {
        None => false,
        Some(found) => {
            let running = found.state.status == "running";
            let startable = matches!(found.state.status.as_str(), "created" | "exited");
            if (running || startable) && is_identical(&found, &wanted, SHARED_NETWORK, &network) {
                if running {
                    return deployed(engine, spec, &found.id, DeployOutcome::AlreadyRunning).await;
                }
                match start(engine, &found.id).await {
                    Ok(()) => return deployed(engine, spec, &found.id, DeployOutcome::Started).await,
                    // A network or an image layer of it is gone: it cannot be started again as it is.
                    Err(cause) if cause.is_not_found() => {}
                    Err(cause) => return Err(start_failed(engine, spec, cause)),
                }
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
        match create_and_start(engine, spec, &wanted).await {
            Ok(id) => break id,
            Err(Attempt::NetworkGone(_)) if again > 0 => {
                again -= 1;
                network = shared_network(engine, spec).await?;
                wanted = desired(spec, &network);
            }
            Err(Attempt::NetworkGone(cause)) => return Err(during(engine, spec, cause, "start")),
            Err(Attempt::Failed(error)) => return Err(error),
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
    match (&spec.expect, id) {
        (Expect::Absent, None) => Ok(None),
        (Expect::Absent, Some(id)) => conflict(Some(&id)),
        (Expect::Instance(wanted), Some(id)) if wanted.as_str() == id => {
            let found = lookup::details(engine, &id)
                .await
                .map_err(|e| during(engine, spec, e, "inspect"))?;
            if found.is_none() {
                conflict(None)
            } else {
                Ok(found)
            }
        }
        (Expect::Instance(_), id) => conflict(id.as_deref()),
    }
}

async fn named(engine: &Engine, spec: &DeploySpec) -> Result<Option<Container>> {
    lookup::details(engine, &spec.instance_name)
        .await
        .map_err(|e| during(engine, spec, e, "look for"))
}

async fn shared_network(engine: &Engine, spec: &DeploySpec) -> Result<String> {
    if spec.network != NetworkMode::Bridge {
        return Ok(String::new());
    }
    network::ensure_shared(engine)
        .await
        .map_err(|e| engine.error(e, format!("make the network {SHARED_NETWORK}")))
}

enum Attempt {
    NetworkGone(EngineError),
    Failed(Error),
}

async fn create_and_start(engine: &Engine, spec: &DeploySpec, wanted: &Create) -> Result<String, Attempt> {
    let path = format!("/containers/create?name={}", quoted(&spec.instance_name));
    let created = match engine.call(|| Call::post(path.as_str()).json(wanted)).await {
        Ok(answer) => answer.json::<Created>().await,
        Err(cause) => Err(cause),
    };
    let id = match created {
        Ok(created) => created.id,
        Err(cause) if is_network_gone(&cause) => return Err(Attempt::NetworkGone(cause)),
        Err(cause) => return Err(Attempt::Failed(create_failed(engine, spec, cause).await)),
    };
    match start(engine, &id).await {
        Ok(()) => Ok(id),
        Err(cause) => {
            undo(engine, &id).await;
            Err(if is_network_gone(&cause) {
                Attempt::NetworkGone(cause)
            } else {
                Attempt::Failed(start_failed(engine, spec, cause))
            })
        }
    }
}

async fn start(engine: &Engine, id: &str) -> Result<(), EngineError> {
    engine.post(&container(id, "/start")).await
}

/// What a failed deployment made goes away again; if even that fails, the first failure is the one to tell.
async fn undo(engine: &Engine, id: &str) {
    if let Err(cause) = force_remove(engine, id).await {
        tracing::warn!(container = id, error = %cause, "a container that could not be started was not removed");
    }
}

fn is_network_gone(cause: &EngineError) -> bool {
    cause.is_not_found() && cause.message().contains("network")
}

async fn create_failed(engine: &Engine, spec: &DeploySpec, cause: EngineError) -> Error {
    let words = cause.message();
    match cause.status() {
        // The image, and not the network: that was told apart before.
        Some(404) => Error::ImageNotFound {
            image: spec.image.clone(),
            runtime: engine.kind().clone(),
            detail: "the engine does not have it".to_owned(),
        },
        Some(409) => name_taken(engine, spec).await,
        Some(500) if words.contains("already in use") => name_taken(engine, spec).await,
        Some(400 | 500) if words.contains("mount") || words.contains("bind source") => Error::Invalid {
            what: "mount".to_owned(),
            detail: plain(&cause),
        },
        Some(400) => Error::Invalid {
            what: "container".to_owned(),
            detail: plain(&cause),
        },
        _ => during(engine, spec, cause, "create"),
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
    if matches!(found.state.status.as_str(), "exited" | "dead") {
        let instance = found.into_instance(engine);
        return Err(failed(instance.status_text, last_lines(engine, spec, id).await));
    }
    let endpoint = endpoint(spec, &found.ports())
        .ok_or_else(|| failed("the engine did not publish its port".to_owned(), Vec::new()))?;
    Ok(Deployment {
        instance: found.into_instance(engine),
        outcome,
        endpoint,
    })
}

async fn last_lines(engine: &Engine, spec: &DeploySpec, id: &str) -> Vec<String> {
    let which = InstanceRef::exact(spec.name.clone(), InstanceId::new(id));
    let opts = LogOptions {
        tail: Some(LAST_LINES),
        follow: false,
        ..LogOptions::default()
    };
    let lines = async {
        logs::logs(engine, &which, opts)
            .await?
            .map_ok(|line| line.line)
            .try_collect()
            .await
    };
    let lines: Vec<Bytes> = lines.await.unwrap_or_default();
    lines
        .iter()
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect()
}
