//! Run configurations as values.

use async_trait::async_trait;
use thv_core::{RunConfig, WorkloadName};

use crate::{DocumentKind, Error, Result, StateStore};

/// Sugar over every [`StateStore`]. Nobody implements it.
#[async_trait]
pub trait StateStoreExt: StateStore {
    /// The run configuration of `name` as it is stored, or `None`.
    async fn read_run_config(&self, name: &WorkloadName) -> Result<Option<RunConfig>> {
        let document = name.into();
        let Some(bytes) = self.read(DocumentKind::RunConfig, &document).await? else {
            return Ok(None);
        };
        RunConfig::from_json(&bytes)
            .map(Some)
            .map_err(|error| Error::Invalid {
                kind: DocumentKind::RunConfig,
                name: document,
                detail: error.to_string(),
            })
    }

    /// Replaces the run configuration of `name` by one rename.
    async fn write_run_config(&self, name: &WorkloadName, config: &RunConfig) -> Result<()> {
        self.replace(
            DocumentKind::RunConfig,
            &name.into(),
            config.to_json().into_bytes(),
        )
        .await
    }

    /// Creates the run configuration of `name`; `Exists` when there is one.
    async fn create_run_config(&self, name: &WorkloadName, config: &RunConfig) -> Result<()> {
        self.create(
            DocumentKind::RunConfig,
            &name.into(),
            config.to_json().into_bytes(),
        )
        .await
    }

    /// Deletes the run configuration of `name`.
    async fn delete_run_config(&self, name: &WorkloadName) -> Result<()> {
        self.delete(DocumentKind::RunConfig, &name.into()).await
    }
}

impl<S: StateStore + ?Sized> StateStoreExt for S {}
