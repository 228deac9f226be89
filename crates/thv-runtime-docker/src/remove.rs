//! Removing a container and what was made around it.

use std::time::Duration;

use thv_runtime::{InstanceRef, Result};
use tokio::time::{Instant, sleep};

use crate::container::SHARED_NETWORK;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::http::Call;
use crate::lookup::{self, container};
use crate::turns::{Turns, to_the_end};
use crate::wire::Summary;
use crate::{helpers, network};

/// How often a removal is asked for whose answer is lost, and how long after the last time.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
];

pub(crate) async fn remove(engine: &Engine, turns: &Turns, which: &InstanceRef) -> Result<()> {
    let turn = if let Some(turn) = turns.try_take(&which.name) {
        turn
    } else {
        lookup::exactly(engine, which).await?;
        // Whatever is being stopped need not be given time any more.
        turns.take_until(&which.name, Instant::now()).await
    };
    let work = {
        let (engine, which) = (engine.clone(), which.clone());
        async move {
            let _turn = turn;
            gone(&engine, &which).await
        }
    };
    to_the_end(engine, "remove", work).await
}

async fn gone(engine: &Engine, which: &InstanceRef) -> Result<()> {
    let row = lookup::exactly(engine, which).await?;
    let name = row
        .as_ref()
        .map_or(which.name.as_str(), Summary::first_name)
        .to_owned();
    let work = async {
        if let Some(row) = &row {
            force_remove(engine, &row.id).await?;
        }
        for helper in helpers::around(engine, &name).await? {
            force_remove(engine, &helper.id).await?;
        }
        network::remove(engine, &format!("toolhive-{name}-internal")).await?;
        // Others on it keep it; whoever deploys at this moment makes it again.
        if !lookup::any(engine).await? {
            network::remove(engine, SHARED_NETWORK).await?;
        }
        Ok(())
    };
    work.await.map_err(|e: EngineError| {
        engine.error(e, format!("remove the container of workload \"{}\"", which.name))
    })
}

/// Removes a container, running or not, with its anonymous volumes. Returns when it is gone.
pub(crate) async fn force_remove(engine: &Engine, id: &str) -> Result<(), EngineError> {
    for pause in AGAIN {
        match try_to_remove(engine, id).await {
            // An engine that keeps silent is not waited for again.
            Err(cause) if cause.is_unsure() && !matches!(cause, EngineError::Timeout(_)) => {
                tracing::debug!(container = id, error = %cause, "whether a container was removed is not known");
            }
            Err(cause) if cause.is_ending() => {}
            sure => {
                engine.attachments().forget(id);
                return sure;
            }
        }
        sleep(pause).await;
    }
    try_to_remove(engine, id).await
}

async fn try_to_remove(engine: &Engine, id: &str) -> Result<(), EngineError> {
    match engine
        .call(|| Ok(Call::delete(container(id, "?force=true&v=true"))))
        .await
    {
        Ok(answer) => answer.bytes().await.map(drop),
        Err(cause) if cause.is_not_found() => Ok(()),
        // Somebody else removes it.
        Err(cause) if cause.status() == Some(409) && cause.message().contains("in progress") => {
            let gone = engine
                .call(|| Ok(Call::post(container(id, "/wait?condition=removed"))))
                .await;
            match gone {
                Ok(answer) => answer.bytes().await.map(drop),
                Err(cause) if cause.is_not_found() => Ok(()),
                Err(cause) => Err(cause),
            }
        }
        Err(cause) => Err(cause),
    }
}
