//! Documents in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::{DocumentKind, DocumentName, Error, Keep, Result, StateStore, Visit};

type Documents = BTreeMap<(DocumentKind, DocumentName), Arc<[u8]>>;

/// Documents that live as long as the value.
#[derive(Debug, Default)]
pub struct MemoryStateStore {
    documents: Mutex<Documents>,
}

impl MemoryStateStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn documents(&self) -> MutexGuard<'_, Documents> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateStore for MemoryStateStore {
    async fn read(&self, kind: DocumentKind, name: &DocumentName) -> Result<Option<Vec<u8>>> {
        Ok(self
            .documents()
            .get(&(kind, name.clone()))
            .map(|bytes| bytes.to_vec()))
    }

    async fn visit(&self, kind: DocumentKind, visit: Visit) -> Result<()> {
        let of_kind: Vec<_> = {
            let documents = self.documents();
            let of_kind = documents.iter().filter(|((of, _), _)| *of == kind);
            of_kind
                .map(|((_, name), bytes)| (name.clone(), Arc::clone(bytes)))
                .collect()
        };
        for (name, bytes) in of_kind {
            visit(name, Ok(bytes));
        }
        Ok(())
    }

    async fn replace(
        &self,
        kind: DocumentKind,
        name: &DocumentName,
        bytes: Vec<u8>,
        _keep: Keep,
    ) -> Result<()> {
        self.documents().insert((kind, name.clone()), bytes.into());
        Ok(())
    }

    async fn create(
        &self,
        kind: DocumentKind,
        name: &DocumentName,
        bytes: Vec<u8>,
        _keep: Keep,
    ) -> Result<()> {
        let mut documents = self.documents();
        if documents.contains_key(&(kind, name.clone())) {
            return Err(Error::Exists {
                kind,
                name: name.clone(),
            });
        }
        documents.insert((kind, name.clone()), bytes.into());
        Ok(())
    }

    async fn delete(&self, kind: DocumentKind, name: &DocumentName, _keep: Keep) -> Result<()> {
        self.documents().remove(&(kind, name.clone()));
        Ok(())
    }

    async fn list(&self, kind: DocumentKind) -> Result<Vec<DocumentName>> {
        let documents = self.documents();
        Ok(documents
            .keys()
            .filter(|(of, _)| *of == kind)
            .map(|(_, name)| name.clone())
            .collect())
    }
}
