//! Which image runs: what was verified; else the engine's own where it has one, else a pulled one.

use std::sync::Arc;

use futures_util::StreamExt;
use thv_core::gojson::GoTime;
use thv_core::{ImageRecord, ImageSigner, ProvenanceRecord, ProvenanceVerdict};
use thv_image::{Admitted, Digest, ImageGate, Policy, Reference, Verdict};
use thv_runtime::{Images, Instance, LocalImage};
use thv_status::{Companion, ResolvedImage};

use crate::pulls::Tally;
use crate::{Error, ImageTerms, PullState, PullWatcher, Result};

/// An image that the engine has.
#[derive(Debug)]
pub(crate) struct Obtained {
    pub(crate) image: ResolvedImage,
    /// What was found out about who made it; none where nobody looked.
    pub(crate) verdict: Option<Verdict>,
    /// What the user should know about it.
    pub(crate) warning: Option<String>,
}

/// Images, and who has to do with pulls.
struct Watched<'a> {
    images: &'a dyn Images,
    watcher: Option<&'a dyn PullWatcher>,
    /// Who knows whom the user is to registries.
    gate: Option<&'a dyn ImageGate>,
}

/// Makes sure that the engine has what `reference` means under `terms`, and says what it is.
///
/// An image that the engine has is used without asking any registry, unless somebody declared who should have signed it, a
/// signature is required, or it was pulled as `latest`, which says that the newest is wanted (what was built here is what runs).
/// What was verified is pulled by its digest.
pub(crate) async fn obtain(
    images: &dyn Images,
    gate: Option<&dyn ImageGate>,
    reference: &str,
    terms: &ImageTerms,
    watcher: Option<&dyn PullWatcher>,
) -> Result<Obtained> {
    let images = &Watched {
        images,
        watcher,
        gate,
    };
    if let Some(admitted) = &terms.admitted {
        return pinned(images, reference, admitted).await;
    }
    let Some(gate) = gate else {
        if terms.policy == Policy::Enabled {
            return Err(Error::Unsupported {
                what: "image verification".into(),
                detail: "nobody here can verify images".into(),
            });
        }
        return unverified(images, reference, NotVerified::default()).await;
    };
    let expected = terms
        .expected
        .as_deref()
        .filter(|_| terms.policy != Policy::Disabled);
    let must_ask = expected.is_some() || terms.policy == Policy::Enabled;
    let found = images.images.resolve_local(reference).await;
    let (local, parsed) = match (found, reference.parse::<Reference>()) {
        // The engine refuses it in words of its own.
        (Err(_), Err(invalid)) => return Err(invalid.into()),
        (found, parsed) => (found?, parsed),
    };
    if let (Some(local), false) = (&local, must_ask)
        && !may_have_moved(reference, local)
    {
        return Ok(Obtained {
            image: ResolvedImage::Local(local.id.clone()),
            verdict: (terms.policy != Policy::Disabled).then_some(Verdict::Undeclared),
            warning: not_verified(reference, terms.policy, "provenance server information not set"),
        });
    }
    // An id, and what an engine takes for a name and a registry does not, is the engine's to find; where it has none of that
    // name, nobody can be asked for it.
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) if local.is_none() || terms.policy == Policy::Enabled => return Err(error.into()),
        Err(error) => {
            let why = NotVerified::because(reference, terms.policy, &error.to_string());
            return unverified(images, reference, why).await;
        }
    };
    match gate.admit(&parsed, expected, terms.policy).await {
        Ok(admitted) => pinned(images, reference, &admitted).await,
        // The engine may know a way to the registry, or have the image, where we do not.
        Err(error) if may_be_unverified(&error, terms.policy) => {
            let why = NotVerified::because(reference, terms.policy, &error.to_string());
            unverified(images, reference, why).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether `reference` is `latest` of a registry, where another image may have that name by now. One that was built here came
/// from none.
fn may_have_moved(reference: &str, local: &LocalImage) -> bool {
    let from = format!("{}@", repository(reference));
    let pulled = || local.repo_digests.iter().any(|digest| digest.starts_with(&from));
    reference
        .parse::<Reference>()
        .is_ok_and(|parsed| parsed.is_latest())
        && pulled()
}

/// Whether an image may run that could not be asked about.
fn may_be_unverified(error: &thv_image::Error, policy: Policy) -> bool {
    use thv_image::Error as E;
    policy != Policy::Enabled
        && matches!(
            error,
            E::NotFound { .. }
                | E::Unauthorized { .. }
                | E::RateLimited { .. }
                | E::Unavailable { .. }
                | E::TimedOut { .. }
        )
}

fn not_verified(reference: &str, policy: Policy, reason: &str) -> Option<String> {
    (policy == Policy::Warn).then(|| format!("image {reference} is not verified: {reason}"))
}

/// Why an image runs that nobody verified.
#[derive(Default)]
struct NotVerified {
    verdict: Option<Verdict>,
    warning: Option<String>,
}

impl NotVerified {
    fn because(reference: &str, policy: Policy, detail: &str) -> Self {
        let unreachable = || Verdict::Unreachable {
            detail: detail.to_owned(),
        };
        Self {
            verdict: (policy != Policy::Disabled).then(unreachable),
            warning: not_verified(reference, policy, detail),
        }
    }
}

/// What the engine takes `reference` for.
async fn unverified(images: &Watched<'_>, reference: &str, why: NotVerified) -> Result<Obtained> {
    let image = match images.images.resolve_local(reference).await? {
        Some(image) => ResolvedImage::Local(image.id),
        None => pulled(pull(images, reference).await?, reference),
    };
    Ok(Obtained {
        image,
        verdict: why.verdict,
        warning: why.warning,
    })
}

/// Exactly what was admitted.
async fn pinned(images: &Watched<'_>, reference: &str, admitted: &Admitted) -> Result<Obtained> {
    let by_digest = at(reference, &admitted.digest);
    if images.images.resolve_local(&by_digest).await?.is_none() {
        pull(images, &by_digest).await?;
    }
    Ok(Obtained {
        image: ResolvedImage::Manifest(admitted.digest.to_string()),
        verdict: admitted.verdict.clone(),
        warning: admitted.warning.clone(),
    })
}

fn at(reference: &str, digest: &Digest) -> String {
    format!("{}@{digest}", repository(reference))
}

/// Pulls, as whom the user is to the registry where that asks.
async fn pull(from: &Watched<'_>, reference: &str) -> Result<LocalImage> {
    let Watched {
        images,
        watcher,
        gate,
    } = from;
    let tell = |state: &PullState| {
        if let Some(watcher) = watcher {
            watcher.pulling(reference, state);
        }
    };
    let mut tally = Tally::default();
    tell(&PullState::default());
    let credentials = match (gate, reference.parse::<Reference>()) {
        (Some(gate), Ok(parsed)) => gate.credentials(&parsed).await,
        _ => None,
    };
    let mut progress = match &credentials {
        Some(credentials) => images.pull_as(reference, None, credentials).await?,
        None => images.pull(reference, None).await?,
    };
    while let Some(step) = progress.next().await {
        let step = step?;
        tell(&tally.take(&step));
        tracing::debug!(
            image = reference,
            layer = step.layer,
            status = step.status,
            "pulling"
        );
    }
    tell(&tally.done());
    images.resolve_local(reference).await?.ok_or_else(|| {
        Error::Runtime(thv_runtime::Error::Invalid {
            what: "image".into(),
            detail: format!("{reference} was pulled and is not there"),
        })
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

/// What is recorded of `verdict`, which was found at `now`.
pub(crate) fn provenance(verdict: Verdict, now: GoTime) -> ProvenanceRecord {
    let (verdict, detail, signer) = match verdict {
        Verdict::Verified(signer) => {
            let signer = ImageSigner {
                identity: signer.identity,
                repository: signer.repository,
                repository_ref: signer.repository_ref,
                runner_environment: signer.runner_environment,
                issuer: signer.issuer,
            };
            (ProvenanceVerdict::Verified, String::new(), Some(signer))
        }
        Verdict::Absent => (ProvenanceVerdict::Unsigned, String::new(), None),
        Verdict::Undeclared => (ProvenanceVerdict::Undeclared, String::new(), None),
        Verdict::Unreachable { detail } => (ProvenanceVerdict::Unreachable, detail, None),
        _ => (ProvenanceVerdict::Unknown, String::new(), None),
    };
    ProvenanceRecord {
        verdict,
        checked_at: now,
        detail,
        signer,
    }
}

/// What is shown of a workload's image.
pub(crate) fn record(companion: &Companion) -> Option<ImageRecord> {
    let mut record = ImageRecord {
        provenance: companion.provenance.clone(),
        ..ImageRecord::default()
    };
    match companion.resolved.as_ref()? {
        ResolvedImage::Manifest(digest) => record.digest.clone_from(digest),
        ResolvedImage::Local(id) => record.id.clone_from(id),
    }
    Some(record)
}

/// What a runtime knows the image of `config` by, which is `resolved` where that was settled.
pub(crate) fn known_as(resolved: Option<&ResolvedImage>, reference: &str) -> String {
    match resolved {
        Some(ResolvedImage::Manifest(digest)) => format!("{}@{digest}", repository(reference)),
        Some(ResolvedImage::Local(id)) => id.clone(),
        None => reference.to_owned(),
    }
}

/// What is deployed for `reference`: what it was when it was saved. An image that was built here is named by its tag as long
/// as that is still the one, so that the engine's own lists say what runs.
pub(crate) async fn to_deploy(
    images: Option<Arc<dyn Images>>,
    gate: Option<&dyn ImageGate>,
    resolved: &ResolvedImage,
    reference: &str,
) -> Result<String> {
    let id = match resolved {
        ResolvedImage::Manifest(digest) => {
            let by_digest = format!("{}@{digest}", repository(reference));
            // Somebody cleaned up: the digest says what is to be pulled again.
            if let Some(images) = images
                && images.resolve_local(&by_digest).await?.is_none()
            {
                let unwatched = Watched {
                    images: &*images,
                    watcher: None,
                    gate,
                };
                pull(&unwatched, &by_digest).await?;
            }
            return Ok(by_digest);
        }
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

    #[test]
    fn latest_is_asked_for_again_where_it_was_pulled() {
        let local = |digests: &[&str]| {
            let mut image = LocalImage::new("sha256:1");
            image.repo_digests = digests.iter().map(ToString::to_string).collect();
            image
        };
        let pulled = local(&["a.example/x@sha256:2"]);
        assert!(may_have_moved("a.example/x:latest", &pulled));
        assert!(may_have_moved("a.example/x", &pulled));
        assert!(!may_have_moved("a.example/x:1", &pulled), "a version stays");
        assert!(!may_have_moved("a.example/x@sha256:2", &pulled));
        assert!(!may_have_moved("a.example/x", &local(&[])), "it was built here");
        assert!(
            !may_have_moved("a.example/y", &pulled),
            "it has the name of what was built here"
        );
    }
}
