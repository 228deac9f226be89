//! The networks of workloads. Names of networks are not unique in Docker: ids are used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::container::SHARED_NETWORK;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::http::{Call, quoted};
use crate::quirks;
use crate::wire::{CreateNetwork, Created, Network};

/// How often the shared network is looked for and made, while others make and remove it.
const TRIES: usize = 5;

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

/// The host's address on each network of the engine.
pub(crate) async fn gateways(engine: &Engine) -> Result<BTreeSet<Ipv4Addr>, EngineError> {
    let networks: Vec<Network> = engine.get("/networks").await?;
    let subnets = networks.iter().flat_map(|network| &network.ipam.config);
    // Some engines write it with the mask behind.
    let address = |gateway: &str| gateway.split('/').next()?.parse().ok();
    Ok(subnets.filter_map(|subnet| address(&subnet.gateway)).collect())
}

/// The id of the shared network, which is made if it is missing.
pub(crate) async fn ensure_shared(engine: &Engine) -> Result<String, EngineError> {
    let _one_maker = engine.making_network().await;
    for _ in 0..TRIES {
        let networks = named(engine, SHARED_NETWORK).await?;
        match networks.as_slice() {
            [] => {
                let made = make_shared(engine).await?;
                // Another process may have made one too.
                if quirks::network_names_are_unique(&*engine.info().await?)
                    && let Some(id) = made
                {
                    return Ok(id);
                }
            }
            [network] => return Ok(network.id.clone()),
            [first, others @ ..] => {
                // A container on a network whose name is not unique cannot be started. One in use stays.
                for network in others {
                    delete(engine, network).await?;
                }
                if named(engine, SHARED_NETWORK).await?.len() > 1 {
                    delete(engine, first).await?;
                }
            }
        }
    }
    let networks = named(engine, SHARED_NETWORK).await?;
    let first = networks.into_iter().next().map(|network| network.id);
    first.ok_or_else(|| EngineError::Nonsense(format!("network {SHARED_NETWORK} comes and goes")))
}

/// Makes the shared network; `None` when somebody else made it in between.
async fn make_shared(engine: &Engine) -> Result<Option<String>, EngineError> {
    let labels = BTreeMap::from([(thv_labels::TOOLHIVE, "true"), (thv_labels::NAME, SHARED_NETWORK)]);
    let body = CreateNetwork {
        name: SHARED_NETWORK,
        driver: "bridge",
        check_duplicate: true,
        labels,
    };
    match engine.call(|| Call::post("/networks/create").json(&body)).await {
        Ok(answer) => answer.json::<Created>().await.map(|created| Some(created.id)),
        Err(cause) if cause.status() == Some(409) || cause.message().contains("already exists") => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Removes the networks of this name that were made for workloads; one in use stays.
pub(crate) async fn remove(engine: &Engine, name: &str) -> Result<(), EngineError> {
    for network in named(engine, name).await? {
        if !thv_labels::is_toolhive(&network.labels) {
            continue;
        }
        delete(engine, &network).await?;
    }
    Ok(())
}

/// Removes a network unless it is in use.
async fn delete(engine: &Engine, network: &Network) -> Result<(), EngineError> {
    let about = engine.info().await?;
    let path = format!("/networks/{}", quirks::removed_as(&about, network));
    match engine.call(|| Ok(Call::delete(&path))).await {
        Ok(_) => Ok(()),
        Err(cause) if matches!(cause.status(), Some(403 | 404 | 409)) => Ok(()),
        Err(cause) if quirks::is_network_in_use(&cause.message()) => Ok(()),
        Err(cause) => Err(cause),
    }
}
