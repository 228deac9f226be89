//! Images of an engine.

use std::fmt;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use thv_core::RegistryCredentials;

use crate::Result;

/// The images that an engine holds. Which image is wanted, and whether it may run, is decided elsewhere.
///
/// An engine that does not answer is [`Unavailable`](crate::Error::Unavailable), and what is no reference
/// [`Invalid`](crate::Error::Invalid), from each method.
///
/// It is implemented under [`async_trait`](crate::async_trait). A wrapper passes every method on, those with a default too: `#[deny(clippy::missing_trait_methods)]` finds what is
/// forgotten.
#[async_trait]
pub trait Images: fmt::Debug + Send + Sync + 'static {
    /// Whether the engine has `reference` (tag, digest or image id).
    async fn present(&self, reference: &str) -> Result<bool>;

    /// What `reference` is on this engine, without asking any registry.
    async fn resolve_local(&self, reference: &str) -> Result<Option<LocalImage>>;

    /// Has the engine pull `reference` (`name@sha256:…` or `name:tag`) for `platform` (`linux/amd64`; `None`: the
    /// engine's). Progress is a stream that ends with the pull; dropping it abandons the pull.
    ///
    /// # Errors
    /// At once or as the last item of the stream: `ImageNotFound`; `PullFailed` when the registry cannot be reached or broke off;
    /// `RateLimited`; `Denied` when it wants to know who asks.
    async fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
    ) -> Result<BoxStream<'static, Result<PullProgress>>>;

    /// As [`pull`](Self::pull), and shows the registry these credentials if it asks for some. By default they are not used.
    async fn pull_as(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: &RegistryCredentials,
    ) -> Result<BoxStream<'static, Result<PullProgress>>> {
        let _ = credentials;
        self.pull(reference, platform).await
    }

    /// Keeps what `reference` is under `name` (letters, digits, `.`, `_`, `-`): clean-ups of unused images leave it alone
    /// until it is released. Nothing to do where nothing is ever cleaned up.
    async fn keep(&self, reference: &str, name: &str) -> Result<()> {
        let _ = (reference, name);
        Ok(())
    }

    /// Releases what is kept under `name`; nothing kept is Ok. The image stays as long as it has another name or is used.
    async fn release(&self, name: &str) -> Result<()> {
        let _ = name;
        Ok(())
    }

    /// Loads images from a tar archive (`docker save` form); returns their references.
    async fn load(&self, archive: BoxStream<'static, std::io::Result<bytes::Bytes>>) -> Result<Vec<String>>;
}

/// An image on an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalImage {
    /// The engine's id of it (`sha256:…`, of the configuration).
    pub id: String,
    /// The manifests under which it was pulled (`name@sha256:…`).
    pub repo_digests: Vec<String>,
    /// Its tags.
    pub repo_tags: Vec<String>,
}

impl LocalImage {
    /// An image with nothing but its id.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            repo_digests: Vec::new(),
            repo_tags: Vec::new(),
        }
    }
}

/// A step of a pull. The default says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullProgress {
    /// The layer, where the step is about one.
    pub layer: Option<String>,
    /// What it means.
    pub step: PullStep,
    /// What happens, in the engine's words.
    pub status: String,
    /// Bytes done.
    pub current: Option<u64>,
    /// Bytes in all; `None` where that is not known.
    pub total: Option<u64>,
}

/// What a step of a pull means for its layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullStep {
    /// The layer is known of, and nothing else changed.
    #[default]
    Other,
    /// So many bytes of it have come.
    Downloading,
    /// All its bytes have come.
    Downloaded,
    /// It is there.
    Done,
}
