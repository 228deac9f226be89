//! The trait that every store implements.

use std::any::Any;
use std::fmt;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{DocumentKind, DocumentName, Result};

/// The largest document that a store reads, in bytes.
pub const MAX_DOCUMENT: u64 = thv_core::MAX_DOCUMENT_SIZE as u64;

/// What is done with each document of a kind, on threads that may be blocked. One that cannot be read is its own failure.
///
/// The same allocation as before is the same text: a store that keeps what it has read gives it again.
pub type Visit = Box<dyn Fn(DocumentName, Result<Arc<[u8]>>) + Send + Sync>;

/// What a write holds until it is over.
///
/// A write that has reached the operating system cannot be called back when its future is dropped. The lock that it is
/// made under must not be free before it has happened, or it would happen in the middle of somebody else's work.
#[derive(Clone, Default)]
pub struct Keep(Option<Arc<dyn Any + Send + Sync>>);

impl Keep {
    /// Nothing: for what no lock protects.
    pub fn nothing() -> Self {
        Self(None)
    }

    /// `held` is not dropped before the write is over.
    pub fn until_done(held: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Some(held))
    }
}

impl Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keep")
            .field("something", &self.0.is_some())
            .finish()
    }
}

/// Documents by kind and name.
///
/// # Contract
///
/// - `replace` and `create` are atomic and durable: on return the document survives a crash, and nobody ever reads a part
///   of it. A failure leaves what was there.
/// - `create` is exclusive: of several at once exactly one succeeds.
/// - `delete` of what is absent is `Ok`.
/// - Reads change nothing.
/// - A write whose future is dropped has happened, or never will, by the time that its [`Keep`] is dropped.
///
/// It is implemented under [`async_trait`](crate::async_trait). A wrapper passes every method on, those with a default too: `#[deny(clippy::missing_trait_methods)]` finds what is
/// forgotten.
#[async_trait]
pub trait StateStore: Debug + Send + Sync + 'static {
    /// The document, or `None`.
    async fn read(&self, kind: DocumentKind, name: &DocumentName) -> Result<Option<Vec<u8>>>;

    /// Reads all documents of a kind, in any order and on several threads if the store likes: each thread has one of them
    /// in memory at a time.
    async fn visit(&self, kind: DocumentKind, visit: Visit) -> Result<()>;

    /// Replaces the document, or creates it.
    async fn replace(
        &self,
        kind: DocumentKind,
        name: &DocumentName,
        bytes: Vec<u8>,
        keep: Keep,
    ) -> Result<()>;

    /// Creates the document; `Exists` when there is one.
    async fn create(&self, kind: DocumentKind, name: &DocumentName, bytes: Vec<u8>, keep: Keep)
    -> Result<()>;

    /// Deletes the document.
    async fn delete(&self, kind: DocumentKind, name: &DocumentName, keep: Keep) -> Result<()>;

    /// The names of all documents of a kind, in order.
    async fn list(&self, kind: DocumentKind) -> Result<Vec<DocumentName>>;

    /// The file of a document, to be named in messages; `None` where documents are no files.
    fn place(&self, _kind: DocumentKind, _name: &DocumentName) -> Option<PathBuf> {
        None
    }
}
