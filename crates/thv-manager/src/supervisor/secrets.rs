//! The secrets of a server, and which ones they were.

use std::collections::BTreeMap;

use thv_core::{RunConfig, SecretReference};
use thv_secrets::ExposeSecret;

use super::Supervisor;
use crate::{Error, Result};

impl Supervisor {
    /// The environment variables that carry secrets; only ever in memory.
    pub(super) async fn secrets(&self, config: &RunConfig) -> Result<BTreeMap<String, String>> {
        let mut resolved = BTreeMap::new();
        for text in &config.secrets {
            let reference = SecretReference::parse(text).map_err(|e| Error::Invalid {
                what: "secrets".into(),
                detail: e.to_string(),
            })?;
            let value = self
                .parts
                .secrets
                .get(reference.name())
                .await
                .map_err(|source| Error::Secret {
                    name: self.name.to_string(),
                    secret: reference.name().to_owned(),
                    source,
                })?;
            resolved.insert(reference.target().to_owned(), value.expose_secret().to_owned());
        }
        Ok(resolved)
    }

    /// How often each of them has changed by now; nothing where that is not known.
    pub(super) async fn secret_revisions(&self, config: &RunConfig) -> BTreeMap<String, u64> {
        if config.secrets.is_empty() {
            return BTreeMap::new();
        }
        let revisions = match self.parts.secrets.revisions().await {
            Ok(revisions) => revisions,
            Err(error) => {
                tracing::warn!(%error, "whether its secrets are still the same later cannot be told");
                None
            }
        };
        let references = config.secrets.iter().map(|text| SecretReference::parse(text));
        let used: Vec<_> = references.flatten().collect();
        revisions.map_or_else(BTreeMap::new, |revisions| {
            revisions.of(used.iter().map(SecretReference::name))
        })
    }
}
