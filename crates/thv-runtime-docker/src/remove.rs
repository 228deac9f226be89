//! Removing a container and what was made around it.

use thv_runtime::{InstanceRef, Result};

use crate::container::SHARED_NETWORK;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::http::Call;
use crate::lookup::{self, container};
use crate::network;
use crate::wire::Summary;

pub(crate) async fn remove(engine: &Engine, which: &InstanceRef) -> Result<()> {
    let row = lookup::exactly(engine, which).await?;
    let name = row.as_ref().map_or(which.name.as_str(), Summary::name).to_owned();
    let work = async {
        if let Some(row) = &row {
            force_remove(engine, &row.id).await?;
        }
        for helper in helpers(engine, &name).await? {
            force_remove(engine, &helper.id).await?;
        }
        network::remove(engine, &format!("toolhive-{name}-internal")).await?;
        // Others on it keep it; whoever deploys at this moment makes it again.
        if lookup::all(engine).await?.is_empty() {
            network::remove(engine, SHARED_NETWORK).await?;
        }
        Ok(())
    };
    work.await.map_err(|e: EngineError| {
        engine.error(e, format!("remove the container of workload \"{}\"", which.name))
    })
}

/// The helper containers that ToolHive puts beside an isolated workload.
pub(crate) async fn helpers(engine: &Engine, name: &str) -> Result<Vec<Summary>, EngineError> {
    let names = ["egress", "dns", "ingress"].map(|role| format!("{name}-{role}"));
    let mut rows = lookup::all(engine).await?;
    rows.retain(|row| {
        row.labels
            .get(thv_labels::AUXILIARY_WORKLOAD)
            .is_some_and(|v| v.eq_ignore_ascii_case("true"))
            && names.iter().any(|name| name == row.name())
    });
    Ok(rows)
}

/// Removes a container, running or not, with its anonymous volumes. Returns when it is gone.
pub(crate) async fn force_remove(engine: &Engine, id: &str) -> Result<(), EngineError> {
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
