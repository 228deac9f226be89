//! Which image runs: the engine's own where it has one, else a pulled one.

use std::sync::Arc;

use futures_util::StreamExt;
use thv_runtime::{Images, Instance, LocalImage};
use thv_status::ResolvedImage;

use crate::{Error, Result};

/// Makes sure that the engine has `reference` and says what it is. An image that the engine has is used without asking
/// any registry: what was built here is what runs.
pub(crate) async fn obtain(images: &dyn Images, reference: &str) -> Result<ResolvedImage> {
    if let Some(image) = images.resolve_local(reference).await? {
        return Ok(ResolvedImage::Local(image.id));
    }
    pull(images, reference).await?;
    match images.resolve_local(reference).await? {
        Some(image) => Ok(pulled(image, reference)),
        None => Err(not_there(reference)),
    }
}

/// Makes sure that the engine has the manifest `digest` of the repository of `reference`: what somebody looked at is what
/// runs, wherever the tag points to by now.
pub(crate) async fn obtain_manifest(
    images: &dyn Images,
    reference: &str,
    digest: &str,
) -> Result<ResolvedImage> {
    let exact = format!("{}@{digest}", repository(reference));
    if !images.present(&exact).await? {
        pull(images, &exact).await?;
        if !images.present(&exact).await? {
            return Err(not_there(&exact));
        }
    }
    Ok(ResolvedImage::Manifest(digest.to_owned()))
}

async fn pull(images: &dyn Images, reference: &str) -> Result<()> {
    let mut progress = images.pull(reference, None).await?;
    while let Some(step) = progress.next().await {
        let step = step?;
        tracing::debug!(
            image = reference,
            layer = step.layer,
            status = step.status,
            "pulling"
        );
    }
    Ok(())
}

fn not_there(reference: &str) -> Error {
    Error::Runtime(thv_runtime::Error::Invalid {
        what: "image".into(),
        detail: format!("{reference} was pulled and is not there"),
    })
}

/// A pulled image is known by its manifest's digest, so that it can be pulled again.
fn pulled(image: LocalImage, reference: &str) -> ResolvedImage {
    let repository = repository(reference);
    let digest = image
        .repo_digests
        .iter()
        .find(|digest| digest.split_once('@').is_some_and(|(name, _)| name == repository))
        .or(image.repo_digests.first());
    match digest.and_then(|digest| digest.split_once('@')) {
        Some((_, digest)) => ResolvedImage::Manifest(digest.to_owned()),
        None => ResolvedImage::Local(image.id),
    }
}

/// What is deployed for `reference`: what it was when it was saved. An image that was built here is named by its tag as long
/// as that is still the one, so that the engine's own lists say what runs.
pub(crate) async fn to_deploy(
    images: Option<Arc<dyn Images>>,
    resolved: &ResolvedImage,
    reference: &str,
) -> Result<String> {
    let id = match resolved {
        ResolvedImage::Manifest(digest) => return Ok(format!("{}@{digest}", repository(reference))),
        ResolvedImage::Local(id) => id,
    };
    let named = match images {
        Some(images) => images
            .resolve_local(reference)
            .await?
            .is_some_and(|image| image.id == *id),
        None => false,
    };
    Ok(if named { reference.to_owned() } else { id.clone() })
}

/// The id that should have been deployed, when `instance` was made of another image.
pub(crate) fn moved(resolved: Option<&ResolvedImage>, instance: &Instance) -> Option<String> {
    match (resolved, &instance.image_id) {
        (Some(ResolvedImage::Local(id)), Some(made_of)) if made_of != id => Some(id.clone()),
        _ => None,
    }
}

/// A reference without its tag and digest.
pub(crate) fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_keeps_the_port_of_its_registry() {
        assert_eq!(repository("localhost:5000/a/b:1@sha256:x"), "localhost:5000/a/b");
        assert_eq!(repository("localhost:5000/a"), "localhost:5000/a");
        assert_eq!(repository("a"), "a");
    }
}
