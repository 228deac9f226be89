//! A signature over an image's digest, in the forms in which registries have it.

use std::time::SystemTime;

use serde_json::{Value, json};
use sigstore_verify::types::{DerCertificate, pae};
use thv::image::ExpectedIdentity;

use super::Authority;
use super::authority::Leaf;
use super::log::{base64, sha256};

const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Whose signature it is: a run of a workflow.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// Who vouches for the run.
    pub issuer: String,
    /// The repository (`https://github.com/owner/name`).
    pub repository: String,
    /// The workflow's file in it.
    pub path: String,
    /// What was built.
    pub repository_ref: String,
    /// Where.
    pub runner: String,
}

impl Default for Workflow {
    fn default() -> Self {
        Self {
            issuer: "https://token.actions.githubusercontent.com".into(),
            repository: "https://github.com/acme/echo".into(),
            path: "/.github/workflows/release.yml".into(),
            repository_ref: "refs/tags/v1".into(),
            runner: "github-hosted".into(),
        }
    }
}

impl Workflow {
    /// What a registry entry declares to have this as its signer.
    pub fn expected(&self) -> ExpectedIdentity {
        let mut expected = ExpectedIdentity::default();
        expected.issuer.clone_from(&self.issuer);
        expected.repository.clone_from(&self.repository);
        expected.repository_ref.clone_from(&self.repository_ref);
        expected.signer.clone_from(&self.path);
        expected.runner_environment.clone_from(&self.runner);
        expected
    }
}

/// How a signature is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// cosign's, found by its tag.
    CosignTag,
    /// cosign's, as what refers to the image.
    CosignReferrer,
    /// A bundle v0.1 of a message.
    BundleV1,
    /// A bundle v0.2 of a message.
    BundleV2,
    /// A bundle v0.3 of a message.
    BundleV3,
    /// A bundle v0.3 of an attestation.
    Attestation,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CosignTag,
        Self::CosignReferrer,
        Self::BundleV1,
        Self::BundleV2,
        Self::BundleV3,
        Self::Attestation,
    ];
}

/// What is to be stored in a registry. Everything may be changed before.
#[derive(Debug, Clone)]
pub struct Signature {
    /// How it is attached.
    pub form: Form,
    /// The digest of the image to which it is attached.
    pub about: String,
    /// The layer's content: cosign's payload, or the bundle.
    pub content: Vec<u8>,
    /// The layer's annotations.
    pub annotations: Value,
}

impl Authority {
    /// Signs `digest` as `workflow`.
    ///
    /// # Panics
    /// When the time is before 1970.
    pub fn sign(&self, form: Form, digest: &str, workflow: &Workflow) -> Signature {
        let leaf = self.leaf(workflow);
        let (content, annotations) = match form {
            Form::CosignTag | Form::CosignReferrer => self.cosign(&leaf, digest),
            Form::BundleV1 => (self.message(&leaf, digest, 1), json!({})),
            Form::BundleV2 => (self.message(&leaf, digest, 2), json!({})),
            Form::BundleV3 => (self.message(&leaf, digest, 3), json!({})),
            Form::Attestation => (self.attestation(&leaf, digest), json!({})),
        };
        Signature {
            form,
            about: digest.to_owned(),
            content,
            annotations,
        }
    }

    fn cosign(&self, leaf: &Leaf, digest: &str) -> (Vec<u8>, Value) {
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": "registry.example/acme/echo" },
                "image": { "docker-manifest-digest": digest },
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = payload.to_string().into_bytes();
        let signature = leaf.sign(&payload);
        let entry = self.signatures.entry(
            "hashedrekord",
            &leaf.record(&sha256(&payload), &signature),
            now(),
            false,
        );
        let logged = json!({
            "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            "Payload": {
                "body": entry["canonicalizedBody"],
                "integratedTime": entry["integratedTime"].as_str().and_then(|text| text.parse::<u64>().ok()),
                "logIndex": 0,
                "logID": hex_of(&entry["logId"]["keyId"]),
            },
        });
        let annotations = json!({
            "dev.cosignproject.cosign/signature": base64(&signature),
            "dev.sigstore.cosign/certificate": leaf.pem(),
            "dev.sigstore.cosign/bundle": logged.to_string(),
        });
        (payload, annotations)
    }

    /// A bundle that signs the manifest itself, of which the digest is enough.
    fn message(&self, leaf: &Leaf, digest: &str, version: u8) -> Vec<u8> {
        let digest = unhex(digest.trim_start_matches("sha256:"));
        let signature = leaf.sign_digest(&digest);
        let entry = self.signatures.entry(
            "hashedrekord",
            &leaf.record(&digest, &signature),
            now(),
            version > 1,
        );
        let content = json!({
            "messageDigest": { "algorithm": "SHA2_256", "digest": base64(&digest) },
            "signature": base64(&signature),
        });
        leaf.bundle(version, &entry, ("messageSignature", content))
    }

    fn attestation(&self, leaf: &Leaf, digest: &str) -> Vec<u8> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": "echo", "digest": { "sha256": digest.trim_start_matches("sha256:") } }],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": { "buildDefinition": {} },
        });
        let payload = statement.to_string().into_bytes();
        let signature = leaf.sign(&pae(IN_TOTO, &payload));
        let envelope = json!({
            "payloadType": IN_TOTO,
            "payload": base64(&payload),
            "signatures": [{ "sig": base64(&signature) }],
        });
        let hash = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": hex(&sha256(bytes)) });
        let record = json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": hash(envelope.to_string().as_bytes()),
                "payloadHash": hash(&payload),
                "signatures": [{ "signature": base64(&signature), "verifier": base64(leaf.pem().as_bytes()) }],
            },
        });
        let entry = self.signatures.entry("dsse", &record, now(), true);
        leaf.bundle(3, &entry, ("dsseEnvelope", envelope))
    }
}

impl Leaf {
    fn sign(&self, what: &[u8]) -> Vec<u8> {
        self.key.sign(what).expect("signed").into_bytes()
    }

    fn sign_digest(&self, digest: &[u8]) -> Vec<u8> {
        let digest = digest.try_into().expect("32 bytes");
        let signature = self
            .key
            .sign_digest(&sigstore_verify::types::Sha256Hash::new(digest));
        signature.expect("signed").into_bytes()
    }

    fn pem(&self) -> String {
        DerCertificate::new(self.certificate.clone()).to_pem()
    }

    /// What the log records of a signature over `digest`.
    fn record(&self, digest: &[u8], signature: &[u8]) -> Value {
        json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": hex(digest) } },
                "signature": {
                    "content": base64(signature),
                    "publicKey": { "content": base64(self.pem().as_bytes()) },
                },
            },
        })
    }

    fn bundle(&self, version: u8, entry: &Value, (name, content): (&str, Value)) -> Vec<u8> {
        let certificate = json!({ "rawBytes": base64(&self.certificate) });
        let (kind, who) = match version {
            3 => (
                "application/vnd.dev.sigstore.bundle.v0.3+json".to_owned(),
                ("certificate", certificate),
            ),
            other => (
                format!("application/vnd.dev.sigstore.bundle+json;version=0.{other}"),
                ("x509CertificateChain", json!({ "certificates": [certificate] })),
            ),
        };
        let mut bundle = json!({
            "mediaType": kind,
            "verificationMaterial": { "tlogEntries": [entry] },
        });
        bundle["verificationMaterial"][who.0] = who.1;
        bundle[name] = content;
        bundle.to_string().into_bytes()
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect()
}

fn hex_of(base64: &Value) -> String {
    let text = base64.as_str().expect("text");
    let bytes = sigstore_verify::types::SignatureBytes::from_base64(text).expect("base64");
    hex(bytes.as_bytes())
}
