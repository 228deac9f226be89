//! Run configurations as values.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use thv_core::{RunConfig, WorkloadName};

use crate::{DocumentKind, DocumentName, Error, Keep, Result, StateStore};

/// Sugar over every [`StateStore`]. Nobody implements it.
#[async_trait]
pub trait StateStoreExt: StateStore {
    /// What `read` makes of each document of a kind, in the order of their names. It may block, and runs on several
    /// threads at once.
    async fn read_each<T: Send + 'static>(
        &self,
        kind: DocumentKind,
        read: impl for<'a> Fn(&'a DocumentName, Result<Arc<[u8]>>) -> T + Send + Sync + 'static,
    ) -> Result<Vec<(DocumentName, T)>> {
        let all = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&all);
        self.visit(
            kind,
            Box::new(move |name, bytes| {
                let value = read(&name, bytes);
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.push((name, value));
            }),
        )
        .await?;
        let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut collected = std::mem::take(&mut *collected);
        collected.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(collected)
    }

    /// The run configuration of `name` as it is stored, or `None`.
    async fn read_run_config(&self, name: &WorkloadName) -> Result<Option<RunConfig>> {
        let document = name.into();
        let Some(bytes) = self.read(DocumentKind::RunConfig, &document).await? else {
            return Ok(None);
        };
        RunConfig::from_json(&bytes)
            .map(Some)
            .map_err(|error| self.invalid(DocumentKind::RunConfig, &document, error.to_string()))
    }

    /// The error for a document that is there and cannot be used.
    fn invalid(&self, kind: DocumentKind, name: &DocumentName, detail: String) -> Error {
        Error::Invalid {
            kind,
            name: name.clone(),
            place: self.place(kind, name),
            detail,
        }
    }

    /// Replaces the run configuration of `name` by one rename.
    async fn write_run_config(&self, name: &WorkloadName, config: &RunConfig) -> Result<()> {
        self.write_run_config_under(name, config, Keep::nothing()).await
    }

    /// As [`write_run_config`](Self::write_run_config), under a lock that is kept until it is done.
    async fn write_run_config_under(
        &self,
        name: &WorkloadName,
        config: &RunConfig,
        keep: Keep,
    ) -> Result<()> {
        let bytes = config.to_json().into_bytes();
        self.replace(DocumentKind::RunConfig, &name.into(), bytes, keep)
            .await
    }

    /// Creates the run configuration of `name`; `Exists` when there is one.
    async fn create_run_config(&self, name: &WorkloadName, config: &RunConfig) -> Result<()> {
        self.create_run_config_under(name, config, Keep::nothing()).await
    }

    /// As [`create_run_config`](Self::create_run_config), under a lock that is kept until it is done.
    async fn create_run_config_under(
        &self,
        name: &WorkloadName,
        config: &RunConfig,
        keep: Keep,
    ) -> Result<()> {
        let bytes = config.to_json().into_bytes();
        self.create(DocumentKind::RunConfig, &name.into(), bytes, keep)
            .await
    }

    /// Deletes the run configuration of `name`.
    async fn delete_run_config(&self, name: &WorkloadName) -> Result<()> {
        self.delete_run_config_under(name, Keep::nothing()).await
    }

    /// As [`delete_run_config`](Self::delete_run_config), under a lock that is kept until it is done.
    async fn delete_run_config_under(&self, name: &WorkloadName, keep: Keep) -> Result<()> {
        self.delete(DocumentKind::RunConfig, &name.into(), keep).await
    }
}

impl<S: StateStore + ?Sized> StateStoreExt for S {}
