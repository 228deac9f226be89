//! Whether an image is what its author published.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{Digest, ExpectedIdentity, Reference, Result, Signer};

/// What was found out about an image's provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is signed by whom it should be.
    Verified(Signer),
    /// There is no signature.
    Absent,
    /// It could not be found out: the registry does not answer, or there is no root of trust.
    Unreachable {
        /// Why.
        detail: String,
    },
    /// Nobody said who should have signed it.
    Undeclared,
}

/// Looks for signatures of a manifest and compares them with what is expected.
///
/// Contract: `Verified` means that one signature over exactly `digest` was made by `expected`, under a root of trust that
/// was valid when it was made. A signature that is there and does not hold is `Denied`, unless another one holds; that
/// none could be looked for is a verdict, not an error. Dropping the future has no effect that stays.
#[async_trait]
pub trait Verify: Debug + Send + Sync + 'static {
    /// The verdict on `digest` in the repository of `reference`.
    ///
    /// # Errors
    /// `Denied`.
    async fn verify(
        &self,
        reference: &Reference,
        digest: &Digest,
        expected: &ExpectedIdentity,
    ) -> Result<Verdict>;
}
