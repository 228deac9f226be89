//! Images in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::{Error, Images, LocalImage, PullProgress, Result, RuntimeKind};

/// The images of a [`MemoryRuntime`](crate::MemoryRuntime): every reference, until
/// [`only`](Self::only) says which.
#[derive(Debug, Default)]
pub struct MemoryImages(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// `None`: every image is there.
    local: Option<BTreeSet<String>>,
    remote: BTreeSet<String>,
    /// What is kept, by the name under which it is.
    kept: BTreeMap<String, String>,
    times_kept: usize,
}

impl MemoryImages {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only these are there from now on.
    pub fn only(&self, references: impl IntoIterator<Item = String>) {
        self.lock().local = Some(references.into_iter().collect());
    }

    /// These can be pulled.
    pub fn offer(&self, references: impl IntoIterator<Item = String>) {
        self.lock().remote.extend(references);
    }

    /// What is kept now: name and reference.
    pub fn kept(&self) -> BTreeMap<String, String> {
        self.lock().kept.clone()
    }

    /// How often something was kept.
    pub fn times_kept(&self) -> usize {
        self.lock().times_kept
    }

    pub(super) fn has(&self, reference: &str) -> bool {
        self.lock()
            .local
            .as_ref()
            .is_none_or(|local| local.contains(reference))
    }
}

#[async_trait]
impl Images for MemoryImages {
    async fn present(&self, reference: &str) -> Result<bool> {
        Ok(self.has(reference))
    }

    async fn resolve_local(&self, reference: &str) -> Result<Option<LocalImage>> {
        let digest = reference.split_once('@').map(|(_, digest)| digest);
        Ok(self.has(reference).then(|| LocalImage {
            id: digest.map_or_else(|| format!("memory:{reference}"), str::to_owned),
            repo_digests: digest.map(|_| reference.to_owned()).into_iter().collect(),
            repo_tags: if digest.is_none() {
                vec![reference.to_owned()]
            } else {
                Vec::new()
            },
        }))
    }

    async fn pull(
        &self,
        reference: &str,
        _platform: Option<&str>,
    ) -> Result<BoxStream<'static, Result<PullProgress>>> {
        let mut known = self.lock();
        let there = known.local.as_ref().is_none_or(|local| local.contains(reference));
        if !there && !known.remote.contains(reference) {
            return Err(Error::ImageNotFound {
                image: reference.to_owned(),
                runtime: RuntimeKind::new("memory"),
                detail: "it was not offered for a pull".to_owned(),
            });
        }
        if let Some(local) = &mut known.local {
            local.insert(reference.to_owned());
        }
        let done = PullProgress {
            status: "pulled".to_owned(),
            ..PullProgress::default()
        };
        Ok(stream::iter([Ok(done)]).boxed())
    }

    async fn keep(&self, reference: &str, name: &str) -> Result<()> {
        if !self.has(reference) {
            return Err(Error::ImageNotFound {
                image: reference.to_owned(),
                runtime: RuntimeKind::new("memory"),
                detail: "it cannot be kept".to_owned(),
            });
        }
        let mut known = self.lock();
        known.kept.insert(name.to_owned(), reference.to_owned());
        known.times_kept += 1;
        Ok(())
    }

    async fn release(&self, name: &str) -> Result<()> {
        self.lock().kept.remove(name);
        Ok(())
    }

    async fn load(
        &self,
        mut archive: BoxStream<'static, std::io::Result<bytes::Bytes>>,
    ) -> Result<Vec<String>> {
        let mut text = Vec::new();
        while let Some(part) = archive.next().await {
            let part = part.map_err(|source| Error::Failed {
                runtime: RuntimeKind::new("memory"),
                action: "read an image archive".to_owned(),
                source: source.into(),
            })?;
            text.extend_from_slice(&part);
        }
        // An archive of this runtime is a list of references, one a line.
        let references: Vec<String> = String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect();
        if let Some(local) = &mut self.lock().local {
            local.extend(references.iter().cloned());
        }
        Ok(references)
    }
}
