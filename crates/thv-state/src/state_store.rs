//! The trait that every store implements.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{DocumentKind, DocumentName, Result};

/// The largest document that a store reads, in bytes: 16 MiB.
pub const MAX_DOCUMENT: u64 = 16 << 20;

/// A document with its name; one that cannot be read is its own failure.
pub type NamedDocument = (DocumentName, Result<Vec<u8>>);

/// Documents by kind and name.
///
/// # Contract
///
/// - `replace` and `create` are atomic and durable: on return the document survives a crash, and nobody ever reads a part
///   of it. A failure leaves what was there.
/// - `create` is exclusive: of several at once exactly one succeeds.
/// - `delete` of what is absent is `Ok`.
/// - Reads change nothing.
/// - Every method is cancel-safe: dropped, it has either happened or not.
#[async_trait]
pub trait StateStore: Debug + Send + Sync + 'static {
    /// The document, or `None`.
    async fn read(&self, kind: DocumentKind, name: &DocumentName) -> Result<Option<Vec<u8>>>;

    /// All documents of a kind in the order of their names, read at once.
    async fn read_all(&self, kind: DocumentKind) -> Result<Vec<NamedDocument>>;

    /// Replaces the document, or creates it.
    async fn replace(&self, kind: DocumentKind, name: &DocumentName, bytes: Vec<u8>) -> Result<()>;

    /// Creates the document; `Exists` when there is one.
    async fn create(&self, kind: DocumentKind, name: &DocumentName, bytes: Vec<u8>) -> Result<()>;

    /// Deletes the document.
    async fn delete(&self, kind: DocumentKind, name: &DocumentName) -> Result<()>;

    /// The names of all documents of a kind, in order.
    async fn list(&self, kind: DocumentKind) -> Result<Vec<DocumentName>>;
}
