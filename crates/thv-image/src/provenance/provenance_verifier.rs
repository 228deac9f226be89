//! Looks for an image's signatures in its own registry.

use std::sync::Arc;

use async_trait::async_trait;
use sigstore_verify::types::{Artifact, Bundle, Sha256Hash};

use crate::client::{Descriptor, Fault, Index};
use crate::error::short;
use crate::provenance::findings::Findings;
use crate::provenance::trust::Trust;
use crate::provenance::{TrustRoots, check, cosign};
use crate::{Digest, ExpectedIdentity, Reference, RegistryClient, Result, Signer, Verdict, Verify};

/// Bundles are of a type that begins so.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// Signatures of cosign that refer to their image, instead of having its digest as their tag.
const COSIGN_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// One bundle.
const MAX_BUNDLE: usize = 10 << 20;
/// One payload names a digest, and little else.
const MAX_PAYLOAD: usize = 64 << 10;

/// Verifies signatures that are beside an image in its registry: those of cosign, by tag and by referrer, and bundles
/// (v0.1 to v0.3; of messages and attestations) by referrer. No other service is asked; roots of trust are at hand.
#[derive(Debug)]
pub struct ProvenanceVerifier {
    client: Arc<RegistryClient>,
    roots: TrustRoots,
}

impl ProvenanceVerifier {
    /// One that asks through `client` and trusts `roots`.
    pub fn new(client: Arc<RegistryClient>, roots: TrustRoots) -> Self {
        Self { client, roots }
    }
}

#[async_trait]
impl Verify for ProvenanceVerifier {
    async fn verify(
        &self,
        reference: &Reference,
        digest: &Digest,
        expected: &ExpectedIdentity,
    ) -> Result<Verdict> {
        if expected.names_nobody() {
            return Ok(Verdict::Undeclared);
        }
        let trust = match self.roots.get(&expected.sigstore_url).await {
            Ok(trust) => trust,
            Err(error) if self.roots.is_own() => return Err(error),
            Err(error) => {
                return Ok(Verdict::Unreachable {
                    detail: error.to_string(),
                });
            }
        };
        let mut findings = Findings::default();
        let limit = self.client.timeout();
        let mut search = Search {
            client: &self.client,
            image: reference,
            digest,
            expected,
            trust: &trust,
            findings: &mut findings,
        };
        if tokio::time::timeout(limit, search.all()).await.is_err() {
            findings.fault(Fault::TimedOut(limit));
        }
        findings.verdict(reference)
    }
}

struct Search<'a> {
    client: &'a RegistryClient,
    image: &'a Reference,
    digest: &'a Digest,
    expected: &'a ExpectedIdentity,
    trust: &'a Trust,
    findings: &'a mut Findings,
}

impl Search<'_> {
    async fn all(&mut self) {
        let tag = format!("sha256-{}.sig", self.digest.hex());
        match self.client.manifest(self.image, &tag).await {
            Ok(manifest) => match manifest.read() {
                Ok(signatures) => self.payloads(&signatures).await,
                Err(fault) => self.findings.fault(fault),
            },
            Err(Fault::NotFound) => {}
            Err(fault) => self.findings.fault(fault),
        }
        if self.findings.is_right() {
            return;
        }
        match self.client.referrers(self.image, self.digest).await {
            Ok(referrers) => {
                for referrer in &referrers {
                    if self.findings.is_right() || !self.referrer(referrer).await {
                        return;
                    }
                }
            }
            Err(fault) => self.findings.fault(fault),
        }
    }

    /// One that refers to the image; whether to go on.
    async fn referrer(&mut self, referrer: &Descriptor) -> bool {
        let kind = referrer.artifact_type.as_str();
        // Lists of some registries have no types.
        let perhaps = kind.is_empty() || kind.starts_with("application/vnd.oci.");
        if !(perhaps || kind.starts_with(BUNDLE) || kind == COSIGN_ARTIFACT) {
            return true;
        }
        if !self.findings.next() {
            return false;
        }
        let manifest = async {
            let digest = referrer.digest()?;
            self.client
                .manifest(self.image, &digest.to_string())
                .await?
                .read()
        };
        match manifest.await {
            Ok(manifest) => {
                let about = manifest.subject.as_ref().map(|subject| subject.digest.as_str());
                if about != Some(self.digest.to_string().as_str()) {
                    self.findings
                        .add(Err("a signature is listed that is about another image".into()));
                    return true;
                }
                self.payloads(&manifest).await;
                self.bundles(&manifest).await;
            }
            Err(fault) => self.findings.fault(fault),
        }
        true
    }

    /// The layers that are payloads of cosign.
    async fn payloads(&mut self, manifest: &Index) {
        for layer in manifest
            .layers
            .iter()
            .filter(|layer| layer.media_type == cosign::PAYLOAD)
        {
            if self.findings.is_right() || !self.findings.next() {
                return;
            }
            let Some(payload) = self.content(layer, MAX_PAYLOAD).await else {
                continue;
            };
            let outcome = cosign::names(&payload, self.digest)
                .and_then(|()| cosign::bundle(layer, &payload))
                .and_then(|bundle| self.checked(&bundle, || Artifact::Blob(&payload)));
            self.findings.add(outcome);
        }
    }

    /// The layers that are bundles.
    async fn bundles(&mut self, manifest: &Index) {
        let of_bundle = |kind: &str| kind.starts_with(BUNDLE);
        for layer in manifest
            .layers
            .iter()
            .filter(|layer| of_bundle(&layer.media_type))
        {
            if self.findings.is_right() || !self.findings.next() {
                return;
            }
            let Some(content) = self.content(layer, MAX_BUNDLE).await else {
                continue;
            };
            let outcome = parse(&content).and_then(|bundle| {
                let digest = *self.digest.as_bytes();
                self.checked(&bundle, || Artifact::from(Sha256Hash::new(digest)))
            });
            self.findings.add(outcome);
        }
    }

    async fn content(&mut self, layer: &Descriptor, limit: usize) -> Option<Vec<u8>> {
        let limit = limit.min(self.findings.limit());
        let fetched = async {
            let digest = layer.digest()?;
            self.client.blob(self.image, &digest, limit).await
        };
        match fetched.await {
            Ok(content) => {
                self.findings.read(content.len());
                Some(content)
            }
            Err(fault) => {
                self.findings.fault(fault);
                None
            }
        }
    }

    /// Whether it holds and is by whom it should be.
    fn checked<'a>(&self, bundle: &Bundle, artifact: impl Fn() -> Artifact<'a>) -> Result<Signer, String> {
        let signer = check::check(self.trust, bundle, artifact)?;
        let differs = signer
            .difference(self.expected)
            .or_else(|| check::attestation_differs(bundle, self.expected.attestation.as_ref()));
        match differs {
            Some(difference) => Err(difference),
            None => Ok(signer),
        }
    }
}

/// A bundle from outside.
fn parse(content: &[u8]) -> Result<Bundle, String> {
    let text = std::str::from_utf8(content).map_err(|_| "its bundle is no text")?;
    Bundle::from_json(text)
        .map_err(|error| format!("its bundle cannot be read: {}", short(&error.to_string())))
}
