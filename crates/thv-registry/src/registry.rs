//! The seam: whoever knows MCP servers by name.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Catalogue, Entry, Result, Source};

/// A registry of MCP servers.
///
/// # Contract
/// - A name is found exactly, or by its last part (`fetch` finds `io.github.stacklok/fetch`) when the name has no `/`.
///   Several of them are [`Ambiguous`](crate::Error::Ambiguous); none is [`NotFound`](crate::Error::NotFound), and only
///   a registry that answered says so.
/// - What is read from outside is bounded in size, nesting, number and time, and each entry is checked: an image is an
///   image reference, a remote server's URL is one, a name has no characters that mean something elsewhere.
/// - Nothing but a cache is written. A future that is dropped leaves nothing behind.
#[async_trait]
pub trait Registry: Debug + Send + Sync + 'static {
    /// Where it is.
    fn source(&self) -> &Source;

    /// All that the registry has, at best from a cache.
    ///
    /// # Errors
    /// [`Unavailable`](crate::Error::Unavailable) and what else [`Error`](crate::Error) says of a whole registry.
    async fn catalogue(&self) -> Result<Arc<Catalogue>>;

    /// What can be told without asking anybody elsewhere, old answers included; for what must not wait, as a completion
    /// of names. Nothing is written.
    async fn kept(&self) -> Option<Arc<Catalogue>> {
        match self.source() {
            Source::Embedded | Source::File(_) | Source::Memory => self.catalogue().await.ok(),
            Source::Url(_) | Source::Api(_) => None,
        }
    }

    /// The entry of that name, full or short.
    ///
    /// # Errors
    /// [`NotFound`](crate::Error::NotFound), [`Ambiguous`](crate::Error::Ambiguous),
    /// [`Unusable`](crate::Error::Unusable), and those of the registry.
    async fn get(&self, name: &str) -> Result<Arc<Entry>> {
        self.catalogue().await?.get(name)
    }

    /// All entries in the order of their names.
    ///
    /// # Errors
    /// Those of the registry.
    async fn list(&self) -> Result<Vec<Arc<Entry>>> {
        Ok(self.catalogue().await?.entries().cloned().collect())
    }

    /// The entries whose name, description or tags contain `query`, in the order of their names.
    ///
    /// # Errors
    /// Those of the registry.
    async fn search(&self, query: &str) -> Result<Vec<Arc<Entry>>> {
        Ok(self.catalogue().await?.search(query))
    }

    /// Makes the next answer a new one, where there is a cache. Whether there is one is the answer.
    fn forget(&self) -> bool {
        false
    }
}
