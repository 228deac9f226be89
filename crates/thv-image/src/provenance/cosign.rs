//! Signatures as cosign attaches them to an image: a payload that names the image's digest, and annotations beside it.

use serde::Deserialize;
use serde_json::json;
use sigstore_verify::types::{Bundle, DerCertificate, SignatureBytes};

use crate::Digest;
use crate::client::Descriptor;
use crate::error::short;

/// A layer that is such a payload.
pub(crate) const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LogEntry {
    signed_entry_timestamp: String,
    payload: Logged,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logged {
    body: String,
    integrated_time: i64,
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    api_version: String,
    kind: String,
}

#[derive(Deserialize)]
struct Timestamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    signed: String,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The bundle that says the same as the annotations of `layer`, whose content is `payload`; or why there is none.
pub(crate) fn bundle(layer: &Descriptor, payload: &[u8]) -> Result<Bundle, String> {
    let annotation = |name: &str| layer.annotation(name).filter(|value| !value.is_empty());
    let signature = annotation(SIGNATURE).ok_or("its signature is missing")?;
    let certificate = annotation(CERTIFICATE).ok_or("it is signed by a key, without a certificate")?;
    let certificate =
        DerCertificate::from_pem(certificate.trim()).map_err(|_| "its certificate cannot be read")?;
    let mut entries = Vec::new();
    if let Some(text) = annotation(LOG_ENTRY) {
        let entry: LogEntry = serde_json::from_str(text).map_err(|_| "its log entry cannot be read")?;
        entries.push(log_entry(&entry)?);
    }
    let mut stamps = Vec::new();
    if let Some(text) = annotation(TIMESTAMP) {
        let stamp: Timestamp = serde_json::from_str(text).map_err(|_| "its timestamp cannot be read")?;
        stamps.push(json!({ "signedTimestamp": stamp.signed }));
    }
    let digest = SignatureBytes::from_bytes(Digest::of(payload).as_bytes()).to_base64();
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": {
            "x509CertificateChain": { "certificates": [{ "rawBytes": certificate.to_base64() }] },
            "tlogEntries": entries,
            "timestampVerificationData": { "rfc3161Timestamps": stamps },
        },
        "messageSignature": {
            "messageDigest": { "algorithm": "SHA2_256", "digest": digest },
            "signature": signature,
        },
    });
    Bundle::from_json(&bundle.to_string()).map_err(|error| short(&error.to_string()))
}

fn log_entry(entry: &LogEntry) -> Result<serde_json::Value, String> {
    let logged = &entry.payload;
    let body = SignatureBytes::from_base64(&logged.body).map_err(|_| "its log entry cannot be read")?;
    let body: Body = serde_json::from_slice(body.as_bytes()).map_err(|_| "its log entry cannot be read")?;
    let id = sigstore_verify::types::Sha256Hash::from_hex(&logged.log_id)
        .map_err(|_| "its log entry names no log")?;
    Ok(json!({
        "logIndex": logged.log_index.to_string(),
        "logId": { "keyId": id.to_base64() },
        "kindVersion": { "kind": body.kind, "version": body.api_version },
        "integratedTime": logged.integrated_time.to_string(),
        "inclusionPromise": { "signedEntryTimestamp": entry.signed_entry_timestamp },
        "canonicalizedBody": logged.body,
    }))
}

/// What a payload signs; or why that is not `digest`.
pub(crate) fn names(payload: &[u8], digest: &Digest) -> Result<(), String> {
    let payload: Payload = serde_json::from_slice(payload).map_err(|_| "what it signs cannot be read")?;
    let kind = payload.critical.kind;
    if !matches!(
        kind.as_str(),
        "cosign container image signature" | "atomic container signature"
    ) {
        return Err(format!("it signs a \"{}\"", short(&kind)));
    }
    let named = payload.critical.image.digest;
    if named == digest.to_string() {
        Ok(())
    } else {
        Err(format!("it signs another image, {}", short(&named)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_signs_the_image_that_it_names_and_nothing_else() {
        let digest = Digest::of(b"a manifest");
        let payload = |kind: &str, named: &str| {
            let payload = json!({ "critical": {
                "identity": { "docker-reference": "example/echo" },
                "image": { "docker-manifest-digest": named },
                "type": kind,
            }, "optional": null });
            names(payload.to_string().as_bytes(), &digest)
        };
        let ours = digest.to_string();
        for kind in ["cosign container image signature", "atomic container signature"] {
            assert_eq!(payload(kind, &ours), Ok(()), "{kind}");
            let other = payload(kind, &Digest::of(b"another").to_string());
            assert!(other.is_err_and(|why| why.contains("another image")));
            assert!(payload(kind, "").is_err());
        }
        let other = payload("a photograph", &ours);
        assert!(other.is_err_and(|why| why.contains("a photograph")));
        assert!(names(b"{}", &digest).is_err());
    }
}
