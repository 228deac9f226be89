//! A log with one entry at a time: of certificates, or of signatures.

use std::time::SystemTime;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sigstore_verify::crypto::KeyPair;
use sigstore_verify::types::SignatureBytes;

use super::certificate::spki;

const ORIGIN: &str = "log.example";

#[derive(Debug)]
pub(super) struct Log {
    key: KeyPair,
    id: Vec<u8>,
}

impl Log {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate_ecdsa_p256().expect("a key");
        let id = sha256(&spki(&key));
        Self { key, id }
    }

    /// Its entry in a trusted root.
    pub(super) fn trusted(&self, since: &str) -> Value {
        json!({
            "baseUrl": "https://log.example",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": base64(&spki(&self.key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": { "start": since },
            },
            "logId": { "keyId": base64(&self.id) },
        })
    }

    /// A list with one signed timestamp of a certificate, in the form of TLS.
    pub(super) fn promise(&self, certificate: &[u8], issuer: &[u8]) -> Vec<u8> {
        let millis = now_millis().to_be_bytes();
        let length = certificate.len().to_be_bytes();
        let mut signed = vec![0, 0];
        signed.extend(millis);
        signed.extend([0, 1]);
        signed.extend(sha256(issuer));
        signed.extend(&length[length.len() - 3..]);
        signed.extend(certificate);
        signed.extend([0, 0]);
        let signature = self.sign(&signed);
        let mut promise = vec![0];
        promise.extend(&self.id);
        promise.extend(millis);
        promise.extend([0, 0, 4, 3]);
        promise.extend(prefixed(&signature));
        prefixed(&prefixed(&promise))
    }

    /// An entry with this body, at `seconds`: with a promise, and where `proved` with a proof that it is in the log.
    pub(super) fn entry(&self, kind: &str, body: &Value, seconds: u64, proved: bool) -> Value {
        let body = body.to_string();
        let encoded = base64(body.as_bytes());
        let id: String = self
            .id
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let promised =
            format!(r#"{{"body":"{encoded}","integratedTime":{seconds},"logID":"{id}","logIndex":0}}"#);
        let mut entry = json!({
            "logIndex": "0",
            "logId": { "keyId": base64(&self.id) },
            "kindVersion": { "kind": kind, "version": "0.0.1" },
            "integratedTime": seconds.to_string(),
            "inclusionPromise": { "signedEntryTimestamp": base64(&self.sign(promised.as_bytes())) },
            "canonicalizedBody": encoded,
        });
        if proved {
            let root = sha256(&[&[0], body.as_bytes()].concat());
            let note = format!("{ORIGIN}\n1\n{}\n", base64(&root));
            let signature = [&self.id[..4], &self.sign(note.as_bytes())].concat();
            entry["inclusionProof"] = json!({
                "logIndex": "0",
                "rootHash": base64(&root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": { "envelope": format!("{note}\n\u{2014} {ORIGIN} {}\n", base64(&signature)) },
            });
        }
        entry
    }

    fn sign(&self, what: &[u8]) -> Vec<u8> {
        self.key.sign(what).expect("signed").into_bytes()
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    SignatureBytes::from_bytes(bytes).to_base64()
}

/// With its length before it, in two bytes.
fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length, bytes].concat()
}

fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("before the end of time")
}
