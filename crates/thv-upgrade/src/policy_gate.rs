//! The seam for whoever has a say in what may run.

use std::fmt::Debug;

use async_trait::async_trait;
use thv_core::RunConfig;
use thv_image::{Digest, Verdict};

/// Has a say in whether an upgrade may happen.
///
/// Contract: asked after the new image was resolved and verified, and before it is pulled. A refusal leaves everything as
/// it was; its words are shown to the user. Nothing is changed by asking.
#[async_trait]
pub trait PolicyGate: Debug + Send + Sync + 'static {
    /// Nothing, or why not.
    async fn refusal(&self, upgrade: &Proposed<'_>) -> Option<String>;
}

/// What a policy decides on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Proposed<'a> {
    /// The configuration that is there.
    pub current: &'a RunConfig,
    /// The configuration that is to replace it.
    pub upgraded: &'a RunConfig,
    /// The manifest that would run.
    pub digest: &'a Digest,
    /// What was found out about who made it; none where that was not looked at.
    pub verdict: Option<&'a Verdict>,
}

/// Refuses nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

#[async_trait]
impl PolicyGate for AllowAll {
    async fn refusal(&self, _upgrade: &Proposed<'_>) -> Option<String> {
        None
    }
}
