//! The one way from a reference to a digest that may run.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use thv_core::RegistryCredentials;

use crate::{Digest, Error, ExpectedIdentity, Policy, Reference, Resolve, Result, Verdict, Verify};

/// Decides which image a reference means, and whether it may run.
///
/// Contract: what is admitted is one digest, and that is what has to be pulled and deployed. Dropping the future has no
/// effect that stays.
#[async_trait]
pub trait ImageGate: Debug + Send + Sync + 'static {
    /// Resolves `reference` and looks at its provenance as `policy` says. `expected` is who should have signed it, where
    /// somebody declared that.
    ///
    /// # Errors
    /// `Denied` for a signature that is there and wrong, `NotVerified` where the policy wants more than was found, and
    /// those of [`Resolve::resolve`].
    async fn admit(
        &self,
        reference: &Reference,
        expected: Option<&ExpectedIdentity>,
        policy: Policy,
    ) -> Result<Admitted>;

    /// As [`Resolve::credentials`].
    async fn credentials(&self, reference: &Reference) -> Option<RegistryCredentials> {
        let _ = reference;
        None
    }
}

/// An image that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admitted {
    /// What has to be pulled and deployed.
    pub digest: Digest,
    /// What was found out; none where nothing was looked at.
    pub verdict: Option<Verdict>,
    /// What the user should be told.
    pub warning: Option<String>,
}

impl Admitted {
    /// Decides under `policy` on what was found out.
    ///
    /// # Errors
    /// `NotVerified`.
    pub fn decide(reference: &Reference, digest: Digest, verdict: Verdict, policy: Policy) -> Result<Self> {
        let detail = match &verdict {
            Verdict::Verified(_) => None,
            Verdict::Absent => Some("it is not signed".to_owned()),
            Verdict::Unreachable { detail } => Some(detail.clone()),
            Verdict::Undeclared => Some("provenance server information not set".to_owned()),
        };
        let warning = match (detail, policy) {
            (None, _) | (Some(_), Policy::Disabled) => None,
            (Some(detail), Policy::Warn) => Some(format!(
                "image {} is not verified: {detail}",
                reference.familiar()
            )),
            (Some(detail), Policy::Enabled) => {
                return Err(Error::NotVerified {
                    reference: reference.familiar(),
                    detail,
                });
            }
        };
        Ok(Self {
            digest,
            verdict: Some(verdict),
            warning,
        })
    }
}

/// A gate made of its two halves.
#[derive(Debug, Clone)]
pub struct Gate {
    resolver: Arc<dyn Resolve>,
    verifier: Arc<dyn Verify>,
}

impl Gate {
    /// Resolves by `resolver`, verifies by `verifier`.
    pub fn new(resolver: Arc<dyn Resolve>, verifier: Arc<dyn Verify>) -> Self {
        Self { resolver, verifier }
    }
}

#[async_trait]
impl ImageGate for Gate {
    async fn admit(
        &self,
        reference: &Reference,
        expected: Option<&ExpectedIdentity>,
        policy: Policy,
    ) -> Result<Admitted> {
        if policy == Policy::Enabled && expected.is_none() {
            // Said before a registry is asked.
            return Err(Error::NotVerified {
                reference: reference.familiar(),
                detail: "provenance server information not set".into(),
            });
        }
        let digest = self.resolver.resolve(reference).await?;
        if policy == Policy::Disabled {
            return Ok(Admitted {
                digest,
                verdict: None,
                warning: None,
            });
        }
        let verdict = match expected {
            Some(expected) => self.verifier.verify(reference, &digest, expected).await?,
            None => Verdict::Undeclared,
        };
        Admitted::decide(reference, digest, verdict, policy)
    }

    async fn credentials(&self, reference: &Reference) -> Option<RegistryCredentials> {
        self.resolver.credentials(reference).await
    }
}
