//! One signature: whether it holds, and who made it.

use serde::Deserialize;
use serde_json::Value;
use sigstore_verify::crypto::CertificateInfo;
use sigstore_verify::types::{Artifact, Bundle, SignatureContent};
use sigstore_verify::{VerificationPolicy, VerificationResult, Verifier};

use crate::error::short;
use crate::provenance::authority;
use crate::provenance::trust::Trust;
use crate::{ExpectedAttestation, Signer};

const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
/// Nobody is in so many logs.
const MAX_ENTRIES: usize = 16;

/// Checks that `bundle` signs `artifact` under `trust`, and says who did; or why it does not.
pub(crate) fn check<'a>(
    trust: &Trust,
    bundle: &Bundle,
    artifact: impl Fn() -> Artifact<'a>,
) -> Result<Signer, String> {
    let material = &bundle.verification_material;
    let stamps = material.timestamp_verification_data.rfc3161_timestamps.len();
    if material.tlog_entries.len() > MAX_ENTRIES || stamps > MAX_ENTRIES {
        return Err("its bundle has too many log entries or timestamps".into());
    }
    let mut policy = VerificationPolicy::any_identity();
    if !trust.logged {
        policy = policy.skip_tlog_unsafe();
    }
    if !trust.certificate_logged {
        policy = policy.skip_sct();
    }
    let verify = |root| -> Result<VerificationResult, String> {
        let verifier = Verifier::new(root).map_err(|error| short(&error.to_string()))?;
        let result = verifier.verify(artifact(), bundle, &policy);
        result.map_err(|error| short(&error.to_string()))
    };
    // First to learn when it was signed, then with those alone who were valid then.
    let times = verify(&trust.root)?.verified_timestamps().to_vec();
    let valid = authority::valid_at(&trust.root, &times);
    if times.is_empty() || valid.certificate_authorities.is_empty() {
        return Err("the authority of its certificate was not valid when it was signed".into());
    }
    let result = verify(&valid)?;
    let complete = result.certificate_verified()
        && !result.verified_timestamps().is_empty()
        && (result.tlog_verified() || !trust.logged)
        && (result.sct_verified() || !trust.certificate_logged)
        && (!trust.logged || !material.tlog_entries.is_empty())
        && (trust.logged || stamps > 0);
    if !complete {
        return Err("its bundle lacks what the root of trust asks for".into());
    }
    result
        .certificate()
        .map(signer)
        .ok_or_else(|| "it has no certificate".to_owned())
}

/// The claims of a certificate.
fn signer(certificate: &CertificateInfo) -> Signer {
    let claims = &certificate.ci_claims;
    let old = &claims.deprecated_github;
    let issuer = certificate.issuer.clone().unwrap_or_default();
    let github = issuer == GITHUB_ISSUER;
    let repository = claims
        .source_repository_uri
        .clone()
        .or_else(|| {
            let old = old.workflow_repository.as_ref().filter(|_| github)?;
            Some(format!("https://github.com/{old}"))
        })
        .unwrap_or_default();
    let name = certificate
        .identity
        .as_ref()
        .map(|identity| identity.as_str().to_owned())
        .unwrap_or_default();
    let identity = if github {
        workflow(&name, &repository)
    } else {
        name
    };
    Signer {
        issuer,
        repository_ref: claims
            .source_repository_ref
            .clone()
            .or_else(|| old.workflow_ref.clone())
            .unwrap_or_default(),
        runner_environment: claims.runner_environment.clone().unwrap_or_default(),
        repository,
        identity,
    }
}

/// `https://github.com/a/b/.github/workflows/x.yml@refs/…` of repository `https://github.com/a/b` is
/// `/.github/workflows/x.yml`; a workflow of another repository keeps its name.
fn workflow(name: &str, repository: &str) -> String {
    let name = name.split('@').next().unwrap_or(name);
    match name.strip_prefix(repository) {
        Some(path) if !repository.is_empty() && path.starts_with('/') => path.to_owned(),
        _ => name.to_owned(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

/// What differs between what is attested and what should be. Only where both sides say something.
pub(crate) fn attestation_differs(bundle: &Bundle, expected: Option<&ExpectedAttestation>) -> Option<String> {
    let expected = expected?;
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
        return None;
    };
    let Ok(statement) = serde_json::from_slice::<Statement>(envelope.payload.as_bytes()) else {
        return Some("its attestation cannot be read".into());
    };
    if !expected.predicate_type.is_empty() && expected.predicate_type != statement.predicate_type {
        return Some(format!(
            "it attests \"{}\", expected \"{}\"",
            short(&statement.predicate_type),
            short(&expected.predicate_type)
        ));
    }
    match &expected.predicate {
        Some(predicate) if *predicate != statement.predicate => {
            Some("what it attests is not what is declared".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use sigstore_verify::types::{ArtifactDigest, HashAlgorithm, SignatureBytes};

    use super::*;
    use crate::TrustRoots;

    /// See the README beside it.
    const PUBLISHED: &str = include_str!("../../tests/data/npm-sigstore-2.0.0.bundle.json");
    /// What the npm registry says that the package is.
    const INTEGRITY: &str =
        "RtTi90xIdzFmQAAKb9+Ki1nx4IR2Z5c+mFn3dN0xuPHgk3gTt3f7ZqKsZ9UFQP40ZAlm7un8LMyjhwgrTIXNPA==";

    async fn published(bundle: &str, integrity: &str) -> Result<Signer, String> {
        let trust = TrustRoots::embedded().get("").await.expect("the public root");
        let bundle = Bundle::from_json(bundle).map_err(|error| error.to_string())?;
        let digest = SignatureBytes::from_base64(integrity)
            .expect("base64")
            .into_bytes();
        let digest = ArtifactDigest::new(HashAlgorithm::Sha2512, digest).expect("a digest");
        check(&trust, &bundle, || Artifact::from(digest.clone()))
    }

    #[tokio::test]
    async fn a_published_bundle_holds_under_the_embedded_root() {
        let signer = published(PUBLISHED, INTEGRITY).await.expect("it holds");
        assert_eq!(signer.issuer, GITHUB_ISSUER);
        assert_eq!(signer.repository, "https://github.com/sigstore/sigstore-js");
        assert_eq!(signer.identity, "/.github/workflows/release.yml");
        assert_eq!(signer.repository_ref, "refs/heads/main");
        assert_eq!(signer.runner_environment, "github-hosted");
    }

    #[tokio::test]
    async fn a_published_bundle_holds_for_nothing_else_and_not_when_it_is_changed() {
        let other = INTEGRITY.replacen("Rt", "Ru", 1);
        published(PUBLISHED, &other).await.expect_err("another package");
        let value: Value = serde_json::from_str(PUBLISHED).expect("JSON");
        let changes: [(&str, Value); 4] = [
            (
                "/verificationMaterial/tlogEntries/0/integratedTime",
                "1692000000".into(),
            ),
            ("/verificationMaterial/tlogEntries/0/logIndex", "1".into()),
            ("/verificationMaterial/tlogEntries", Value::Array(Vec::new())),
            (
                "/verificationMaterial/x509CertificateChain/certificates",
                Value::Array(Vec::new()),
            ),
        ];
        for (pointer, change) in changes {
            let mut forged = value.clone();
            *forged.pointer_mut(pointer).expect(pointer) = change;
            published(&forged.to_string(), INTEGRITY)
                .await
                .expect_err(pointer);
        }
    }

    #[tokio::test]
    async fn a_bundle_with_more_log_entries_than_there_are_logs_is_not_looked_at() {
        let mut value: Value = serde_json::from_str(PUBLISHED).expect("JSON");
        let entries = value
            .pointer_mut("/verificationMaterial/tlogEntries")
            .expect("entries");
        let one = entries[0].clone();
        *entries = Value::Array(vec![one; MAX_ENTRIES + 1]);
        let refused = published(&value.to_string(), INTEGRITY).await;
        assert!(refused.expect_err("too many").contains("too many"));
    }

    #[test]
    fn what_is_attested_is_compared_where_both_sides_say_something() {
        let bundle = Bundle::from_json(PUBLISHED).expect("a bundle");
        let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
            panic!("it is no attestation");
        };
        let said: Statement = serde_json::from_slice(envelope.payload.as_bytes()).expect("a statement");
        let differs = |predicate_type: &str, predicate: Option<Value>| {
            let expected = ExpectedAttestation {
                predicate_type: predicate_type.to_owned(),
                predicate,
            };
            attestation_differs(&bundle, Some(&expected))
        };
        assert_eq!(attestation_differs(&bundle, None), None);
        assert_eq!(differs("", None), None);
        assert_eq!(differs(&said.predicate_type, Some(said.predicate.clone())), None);
        assert!(differs("https://slsa.dev/provenance/v99", None).is_some_and(|why| why.contains("v99")));
        let mut other = said.predicate;
        other["buildType"] = "of somebody else".into();
        assert!(differs(&said.predicate_type, Some(other)).is_some());
    }

    /// See the README beside it.
    const RELEASED: &str = include_str!("../../tests/data/github-communique-0.1.9.bundle.json");
    const RELEASED_FILE: &str = "b958c6046bab52febf958c94974e1ffcc450bff78c28d7233e179bfd73828912";

    async fn released(bundle: &str, root: &str) -> Result<Signer, String> {
        let trust = TrustRoots::embedded().get(root).await.expect("a root");
        let bundle = Bundle::from_json(bundle).map_err(|error| error.to_string())?;
        let digest: crate::Digest = format!("sha256:{RELEASED_FILE}").parse().expect("a digest");
        let digest = sigstore_verify::types::Sha256Hash::new(*digest.as_bytes());
        check(&trust, &bundle, || Artifact::from(digest))
    }

    #[tokio::test]
    async fn a_time_that_an_authority_stamped_holds_where_the_root_has_no_log() {
        let signer = released(RELEASED, "tuf-repo.github.com").await.expect("it holds");
        assert_eq!(signer.identity, "https://dotcom.releases.github.com");
        let refused = released(RELEASED, "")
            .await
            .expect_err("the public root wants a log");
        assert!(!refused.is_empty());

        let value: Value = serde_json::from_str(RELEASED).expect("JSON");
        let stamps = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
        let stamp = value
            .pointer(stamps)
            .and_then(|all| all[0]["signedTimestamp"].as_str());
        let der = SignatureBytes::from_base64(stamp.expect("a timestamp"))
            .expect("base64")
            .into_bytes();
        let with = |der: &[u8]| {
            let stamp = SignatureBytes::from_bytes(der).to_base64();
            serde_json::json!([{ "signedTimestamp": stamp }])
        };
        // A second of its time, in its text form, is another one; then cut off, then no timestamp at all.
        let mut later = der.clone();
        let year = later.windows(3).position(|part| part == b"202").expect("a year");
        later[year + 3] ^= 1;
        for (what, stamp) in [
            ("another time", with(&later)),
            ("half of it", with(&der[..der.len() / 2])),
            ("none", serde_json::json!([])),
            (
                "too many",
                Value::Array(vec![with(&der)[0].clone(); MAX_ENTRIES + 1]),
            ),
        ] {
            let mut forged = value.clone();
            *forged.pointer_mut(stamps).expect("timestamps") = stamp;
            let refused = released(&forged.to_string(), "tuf-repo.github.com").await;
            assert!(!refused.expect_err(what).is_empty(), "{what}: it says why");
        }
    }

    #[test]
    fn a_workflow_is_named_within_its_own_repository_only() {
        let repository = "https://github.com/a/b";
        let of = |name: &str| workflow(name, repository);
        assert_eq!(
            of("https://github.com/a/b/.github/workflows/x.yml@refs/heads/main"),
            "/.github/workflows/x.yml"
        );
        assert_eq!(
            of("https://github.com/a/bc/.github/workflows/x.yml@refs/heads/main"),
            "https://github.com/a/bc/.github/workflows/x.yml"
        );
        assert_eq!(workflow("/x@y", ""), "/x");
    }
}
