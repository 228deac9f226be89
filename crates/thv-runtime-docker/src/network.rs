//! The networks of workloads. Names of networks are not unique in Docker: ids are used.

use std::collections::BTreeMap;

use crate::container::SHARED_NETWORK;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::http::{Call, quoted};
use crate::wire::{CreateNetwork, Created, Network};

/// Networks with exactly this name.
async fn named(engine: &Engine, name: &str) -> Result<Vec<Network>, EngineError> {
    let filters = serde_json::json!({ "name": [name] }).to_string();
    let mut networks: Vec<Network> = engine
        .get(&format!("/networks?filters={}", quoted(&filters)))
        .await?;
    networks.retain(|network| network.name == name);
    // Of several the same one is used each time.
    networks.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(networks)
}

/// The id of the shared network, which is made if it is missing.
pub(crate) async fn ensure_shared(engine: &Engine) -> Result<String, EngineError> {
    if let Some(network) = named(engine, SHARED_NETWORK).await?.into_iter().next() {
        return Ok(network.id);
    }
    let labels = BTreeMap::from([(thv_labels::TOOLHIVE, "true"), (thv_labels::NAME, SHARED_NETWORK)]);
    let body = CreateNetwork {
        name: SHARED_NETWORK,
        driver: "bridge",
        check_duplicate: true,
        labels,
    };
    match engine.call(|| Call::post("/networks/create").json(&body)).await {
        Ok(answer) => answer.json::<Created>().await.map(|created| created.id),
        // Somebody else made it in between.
        Err(cause) if cause.status() == Some(409) || cause.message().contains("already exists") => {
            let networks = named(engine, SHARED_NETWORK).await?;
            networks.into_iter().next().map(|network| network.id).ok_or(cause)
        }
        Err(cause) => Err(cause),
    }
}

/// Removes the networks of this name that were made for workloads; one in use stays.
pub(crate) async fn remove(engine: &Engine, name: &str) -> Result<(), EngineError> {
    for network in named(engine, name).await? {
        if !thv_labels::is_toolhive(&network.labels) {
            continue;
        }
        match engine
            .call(|| Ok(Call::delete(format!("/networks/{}", network.id))))
            .await
        {
            Ok(_) => {}
            Err(cause) if matches!(cause.status(), Some(403 | 404 | 409)) => {}
            Err(cause) if cause.message().contains("active endpoints") => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}
