//! From a tag to what it names now.

use std::fmt::Debug;

use async_trait::async_trait;

use thv_core::RegistryCredentials;

use crate::{Digest, Reference, Result};

/// Asks a registry what a reference names.
///
/// Contract: the digest is the one of the bytes that the registry gave (of the index, where the image is made for several
/// platforms), those bytes are a manifest, and the image can run on the platform that the implementation is for. A
/// reference that has a digest is answered with that digest, or with an error; its tag is not asked about. Dropping the
/// future has no effect that stays.
#[async_trait]
pub trait Resolve: Debug + Send + Sync + 'static {
    /// The digest of what `reference` names now.
    ///
    /// # Errors
    /// `NotFound`, `WrongPlatform`, `Unauthorized`, `Unavailable`, `TimedOut`, `BadAnswer`.
    async fn resolve(&self, reference: &Reference) -> Result<Digest>;

    /// What the registry of `reference` has to be shown by whoever pulls it; none where it gives the image to everybody, or is
    /// not to be trusted with what is known. By default none.
    async fn credentials(&self, reference: &Reference) -> Option<RegistryCredentials> {
        let _ = reference;
        None
    }
}
