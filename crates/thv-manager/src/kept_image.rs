//! The image of what an update replaced: kept from the engine's clean-ups until the update is known to serve. One that is gone
//! all the same is pulled again, by its digest.

use thv_core::{RunConfig, WorkloadName};
use thv_runtime::Runtime;
use thv_status::{Authority, Draft, OpGuard, Snapshot};

use crate::parts::Parts;
use crate::{Result, image};

/// Whether the record says that an image is kept which nobody needs any more.
pub(crate) fn is_left(snapshot: &Snapshot) -> bool {
    snapshot.companion.as_ref().is_some_and(|companion| {
        companion.keeps_image && companion.pending.is_none() && companion.previous.is_none()
    })
}

/// Keeps what `config` runs. The record says so already: what is not kept can be released.
pub(crate) async fn keep(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
) {
    let Some(config) = config else { return };
    let kept = async {
        let runtime = parts.runtime_in(name, snapshot, Some(config)).await?;
        if let Some(images) = runtime.and_then(|runtime| runtime.images()) {
            let resolved = snapshot.companion.as_ref().and_then(|it| it.resolved.as_ref());
            let reference = image::known_as(resolved, &config.image);
            images.keep(&reference, name.as_str()).await?;
        }
        Ok::<_, crate::Error>(())
    };
    if let Err(error) = kept.await {
        // It is not in danger as long as nobody cleans up.
        tracing::warn!(workload = %name, %error, "the old version's image is not kept from clean-ups");
    }
}

/// Releases what `runtime` keeps for `name`; whether it did.
pub(crate) async fn release_on(runtime: &dyn Runtime, name: &WorkloadName) -> bool {
    let Some(images) = runtime.images() else {
        return true;
    };
    match images.release(name.as_str()).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(workload = %name, %error, "an old version's image is still kept");
            false
        }
    }
}

/// Releases what is kept for `name`, if anything is, under its `.op`.
pub(crate) async fn release(parts: &Parts, name: &WorkloadName, op: &OpGuard) -> Result<()> {
    let snapshot = parts.status.read(name).await?;
    if !is_left(&snapshot) {
        return Ok(());
    }
    let saved = parts.saved(name).await?;
    let released = match parts.runtime_in(name, &snapshot, saved.config()).await? {
        Some(runtime) => release_on(&*runtime, name).await,
        None => true,
    };
    if released {
        let done = Box::new(|draft: &mut Draft| draft.companion.keeps_image = false);
        parts.status.update(name, Authority::Verb(op), done).await?;
    }
    Ok(())
}

/// Releases what is kept for a workload that is being removed.
pub(crate) async fn release_for_removal(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
) {
    if snapshot
        .companion
        .as_ref()
        .is_some_and(|companion| companion.keeps_image)
        && let Ok(Some(runtime)) = parts.runtime_in(name, snapshot, config).await
    {
        release_on(&*runtime, name).await;
    }
}
