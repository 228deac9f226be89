//! Images in memory: for tests of those who resolve and verify.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::{Digest, Error, ExpectedIdentity, Reference, Resolve, Result, Signer, Verdict, Verify};

/// A registry in memory: tags that can be moved, and signers of digests. No cryptography: what it is told is so.
#[derive(Debug, Default)]
pub struct MemoryImageRegistry {
    tags: Mutex<BTreeMap<Reference, Digest>>,
    signers: Mutex<BTreeMap<Digest, Vec<Signer>>>,
    away: Mutex<Option<String>>,
}

impl MemoryImageRegistry {
    /// One without images.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `reference` name `digest` from now on.
    pub fn tag(&self, reference: &Reference, digest: Digest) {
        lock(&self.tags).insert(reference.clone(), digest);
    }

    /// Records a signature of `digest` by `signer`.
    pub fn sign(&self, digest: Digest, signer: Signer) {
        lock(&self.signers).entry(digest).or_default().push(signer);
    }

    /// From now on nothing can be asked, for this reason; `None`: it is back.
    pub fn away(&self, reason: Option<&str>) {
        *lock(&self.away) = reason.map(str::to_owned);
    }
}

fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Resolve for MemoryImageRegistry {
    async fn resolve(&self, reference: &Reference) -> Result<Digest> {
        if let Some(reason) = &*lock(&self.away) {
            return Err(Error::Unavailable {
                registry: reference.registry().to_owned(),
                reference: reference.familiar(),
                detail: reason.clone(),
            });
        }
        if let Some(digest) = reference.digest() {
            return Ok(*digest);
        }
        lock(&self.tags)
            .get(reference)
            .copied()
            .ok_or_else(|| Error::NotFound {
                reference: reference.familiar(),
            })
    }
}

#[async_trait]
impl Verify for MemoryImageRegistry {
    async fn verify(
        &self,
        reference: &Reference,
        digest: &Digest,
        expected: &ExpectedIdentity,
    ) -> Result<Verdict> {
        if let Some(reason) = &*lock(&self.away) {
            return Ok(Verdict::Unreachable {
                detail: reason.clone(),
            });
        }
        let signers = lock(&self.signers).get(digest).cloned().unwrap_or_default();
        let mut detail = None;
        for signer in signers {
            match signer.difference(expected) {
                None => return Ok(Verdict::Verified(signer)),
                Some(difference) => detail = Some(difference),
            }
        }
        match detail {
            None => Ok(Verdict::Absent),
            Some(detail) => Err(Error::Denied {
                reference: reference.familiar(),
                detail,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Gate, ImageGate, Policy};

    fn reference() -> Reference {
        "a.example/b:1".parse().expect("a reference")
    }

    fn by(issuer: &str) -> ExpectedIdentity {
        ExpectedIdentity {
            issuer: issuer.into(),
            ..ExpectedIdentity::default()
        }
    }

    #[tokio::test]
    async fn the_policy_decides_on_what_is_absent_and_never_on_what_is_wrong() {
        let images = Arc::new(MemoryImageRegistry::new());
        let gate = Gate::new(images.clone(), images.clone());
        let digest = Digest::of(b"1");
        images.tag(&reference(), digest);
        let expected = by("me");
        let admit = async |policy, expected| gate.admit(&reference(), expected, policy).await;

        let absent = admit(Policy::Warn, Some(&expected)).await.expect("a warning");
        assert!(absent.warning.is_some() && absent.digest == digest);
        let undeclared = admit(Policy::Warn, None).await.expect("a warning");
        assert!(undeclared.warning.is_some());
        for expected in [Some(&expected), None] {
            let refused = admit(Policy::Enabled, expected).await.expect_err("no signature");
            assert_eq!(refused.code(), "image_not_verified");
        }

        let other = Signer {
            issuer: "you".into(),
            ..Signer::default()
        };
        images.sign(digest, other);
        for policy in [Policy::Warn, Policy::Enabled] {
            let refused = admit(policy, Some(&expected)).await.expect_err("another signer");
            assert_eq!(refused.code(), "image_denied");
        }
        let unseen = admit(Policy::Disabled, Some(&expected))
            .await
            .expect("not looked at");
        assert_eq!(unseen.verdict, None);

        let right = Signer {
            issuer: "me".into(),
            ..Signer::default()
        };
        images.sign(digest, right.clone());
        for policy in [Policy::Warn, Policy::Enabled] {
            let admitted = admit(policy, Some(&expected)).await.expect("signed");
            assert_eq!(admitted.verdict, Some(Verdict::Verified(right.clone())));
            assert_eq!(admitted.warning, None);
        }
    }
}
