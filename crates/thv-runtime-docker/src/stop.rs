//! Ending a container.

use std::time::Duration;

use thv_runtime::{Error, InstanceRef, Result, StopOptions};
use tokio::time::Instant;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::helpers;
use crate::http::Call;
use crate::lookup::{self, container};
use crate::turns::{Turn, Turns, to_the_end};
use crate::wire::Summary;

pub(crate) async fn stop(
    engine: &Engine,
    turns: &Turns,
    which: &InstanceRef,
    opts: StopOptions,
) -> Result<()> {
    let turn = if let Some(turn) = turns.try_take(&which.name) {
        turn
    } else {
        lookup::exactly(engine, which).await?;
        let now = Instant::now();
        let end = now.checked_add(opts.grace);
        turns.take_until(&which.name, end.unwrap_or(now)).await
    };
    let work = {
        let (engine, which) = (engine.clone(), which.clone());
        async move { down(&engine, &turn, &which, opts).await }
    };
    to_the_end(engine, "stop", work).await
}

async fn down(engine: &Engine, turn: &Turn, which: &InstanceRef, opts: StopOptions) -> Result<()> {
    let row = lookup::exactly(engine, which).await?;
    let failed = |e: EngineError| -> Error {
        engine.error(e, format!("stop the container of workload \"{}\"", which.name))
    };
    if let Some(row) = &row {
        container_down(engine, turn, row, opts).await.map_err(failed)?;
    }
    // Somebody may have removed the container alone.
    if row
        .as_ref()
        .is_none_or(|row| thv_labels::is_isolated(&row.labels))
    {
        let name = row.as_ref().map_or(which.name.as_str(), Summary::first_name);
        for helper in helpers::around(engine, name).await.map_err(failed)? {
            if let Err(cause) = stop_container(engine, &helper.id, opts.grace).await {
                tracing::warn!(helper = helper.name(), error = %cause, "a helper container was not stopped");
            }
        }
    }
    Ok(())
}

async fn container_down(
    engine: &Engine,
    turn: &Turn,
    row: &Summary,
    opts: StopOptions,
) -> Result<(), EngineError> {
    if matches!(row.state.as_str(), "exited" | "created" | "dead" | "removing") {
        engine.attachments().forget(&row.id);
        return Ok(());
    }
    // A restart policy of ToolHive's is disarmed only by a stop, also while it waits to restart.
    let stopping = stop_container(engine, &row.id, opts.grace);
    tokio::pin!(stopping);
    tokio::select! {
        stopped = &mut stopping => stopped,
        () = turn.hurried() => {
            kill(engine, &row.id).await?;
            stopping.await
        }
    }
}

/// Asks the server to end, and kills it after `grace`. Returns when it is down and nobody can take its streams any more.
pub(crate) async fn stop_container(engine: &Engine, id: &str, grace: Duration) -> Result<(), EngineError> {
    // Whole seconds, rounded up: the engine knows no less.
    let seconds = (grace.as_secs() + u64::from(grace.subsec_nanos() > 0)).min(24 * 3600);
    match ask_to_stop(engine, id, seconds).await {
        Err(cause) if cause.is_paused() => {
            if let Err(cause) = engine.post(&container(id, "/unpause")).await {
                tracing::debug!(container = id, error = %cause, "a container that was paused does not go on");
            }
            ask_to_stop(engine, id, seconds).await?;
        }
        stopped => stopped?,
    }
    engine.attachments().forget(id);
    Ok(())
}

async fn ask_to_stop(engine: &Engine, id: &str, seconds: u64) -> Result<(), EngineError> {
    let path = container(id, &format!("/stop?t={seconds}"));
    match engine
        .long_call(Duration::from_secs(seconds), || Ok(Call::post(path.as_str())))
        .await
    {
        Ok(answer) => answer.bytes().await.map(drop),
        Err(cause) if cause.is_not_found() => Ok(()),
        Err(cause) => Err(cause),
    }
}

async fn kill(engine: &Engine, id: &str) -> Result<(), EngineError> {
    match engine.post(&container(id, "/kill")).await {
        // It ended by itself.
        Err(cause) if matches!(cause.status(), Some(404 | 409)) => Ok(()),
        other => other,
    }
}
