//! The image of what an update replaced: kept from the engine's clean-ups until the update is known to serve. One that is gone
//! all the same is pulled again, by its digest.

use std::sync::Arc;

use thv_core::{RunConfig, WorkloadName};
use thv_runtime::Runtime;
use thv_status::{Authority, Draft, OpGuard, Snapshot};

use crate::parts::Parts;
use crate::{Result, image};

/// Whether the record says that an image is kept which nobody needs any more.
pub(crate) fn is_left(snapshot: &Snapshot) -> bool {
    snapshot.companion.as_ref().is_some_and(|companion| {
        companion.image_kept_on.is_some() && companion.pending.is_none() && companion.previous.is_none()
    })
}

/// The runtime that has the image of `config`, if it has images.
pub(crate) async fn keeper(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
) -> Option<Arc<dyn Runtime>> {
    let runtime = parts.runtime_in(name, snapshot, Some(config?)).await.ok()??;
    runtime.images().is_some().then_some(runtime)
}

/// Has `keeper` keep what `config` runs. The record says so already: what is not kept can be released.
pub(crate) async fn keep(keeper: &dyn Runtime, name: &WorkloadName, snapshot: &Snapshot, config: &RunConfig) {
    let Some(images) = keeper.images() else { return };
    let resolved = snapshot.companion.as_ref().and_then(|it| it.resolved.as_ref());
    let reference = image::known_as(resolved, &config.image);
    if let Err(error) = images.keep(&reference, name.as_str()).await {
        // It is not in danger as long as nobody cleans up.
        tracing::warn!(workload = %name, %error, "the old version's image is not kept from clean-ups");
    }
}

/// Releases what is kept for `name`, whatever the record says besides; whether nothing is kept any more.
pub(crate) async fn let_go(parts: &Parts, name: &WorkloadName, snapshot: &Snapshot) -> bool {
    let kept_on = snapshot
        .companion
        .as_ref()
        .and_then(|it| it.image_kept_on.as_ref());
    let Some(kind) = kept_on else { return true };
    let released = async {
        if let Some(images) = parts.runtimes.get(kind)?.images() {
            images.release(name.as_str()).await?;
        }
        Ok::<_, crate::Error>(())
    };
    match released.await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(workload = %name, %error, "an old version's image is still kept");
            false
        }
    }
}

/// Releases what is left for `name`, if anything is, under its `.op`.
pub(crate) async fn release(parts: &Parts, name: &WorkloadName, op: &OpGuard) -> Result<()> {
    let snapshot = parts.status.read(name).await?;
    if is_left(&snapshot) && let_go(parts, name, &snapshot).await {
        let done = Box::new(|draft: &mut Draft| draft.companion.image_kept_on = None);
        parts.status.update(name, Authority::Verb(op), done).await?;
    }
    Ok(())
}
