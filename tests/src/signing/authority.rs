//! Who makes certificates, and what a user trusts of it.

use std::time::{Duration, SystemTime};

use serde_json::json;
use sigstore_verify::crypto::KeyPair;

use super::certificate::{Wish, logged, signed, tlv};
use super::log::{Log, base64};
use super::signature::Workflow;

const DAY: Duration = Duration::from_hours(24);
/// Since when its logs and certificates are trusted.
const SINCE: &str = "2020-01-01T00:00:00Z";
const CODE_SIGNING: [u8; 10] = [6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3];

/// An authority: a root, an issuer below it, and two logs.
#[derive(Debug)]
pub struct Authority {
    issuer: KeyPair,
    /// DER of the issuer's certificate, and of the root's.
    chain: [Vec<u8>; 2],
    certificates: Log,
    pub(super) signatures: Log,
}

/// A key with its certificate.
pub(super) struct Leaf {
    pub(super) key: KeyPair,
    pub(super) certificate: Vec<u8>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// One that is valid now.
    ///
    /// # Panics
    /// When there is no randomness.
    pub fn new() -> Self {
        Self::valid_until(SystemTime::now() + 30 * DAY)
    }

    /// One whose issuer's certificate ran out a year ago, while the trusted root says that it is trusted still.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn expired() -> Self {
        Self::valid_until(SystemTime::now() - 365 * DAY)
    }

    fn valid_until(until: SystemTime) -> Self {
        let pair = || KeyPair::generate_ecdsa_p256().expect("a key");
        let (root, issuer) = (pair(), pair());
        let from = SystemTime::now() - 1000 * DAY;
        let certificate = |subject, key, until| {
            let extensions = vec![
                ("2.5.29.19", true, vec![0x30, 3, 1, 1, 0xff]),
                ("2.5.29.15", true, vec![3, 2, 2, 4]),
            ];
            let wish = Wish {
                subject,
                issuer: "root.example",
                key,
                from,
                until,
                extensions,
            };
            signed(&wish, &root)
        };
        let chain = [
            certificate("issuer.example", &issuer, until),
            certificate("root.example", &root, SystemTime::now() + 300 * DAY),
        ];
        Self {
            issuer,
            chain,
            certificates: Log::new(),
            signatures: Log::new(),
        }
    }

    /// The trusted root of this authority and of `other`, as JSON.
    ///
    /// # Panics
    /// Never: they are JSON.
    pub fn trusted_root_with(&self, other: &Self) -> String {
        let read = |root: String| -> serde_json::Value { serde_json::from_str(&root).expect("JSON") };
        let (mut root, other) = (read(self.trusted_root()), read(other.trusted_root()));
        for part in ["tlogs", "ctlogs", "certificateAuthorities"] {
            let more = other[part].as_array().expect("a list").clone();
            root[part].as_array_mut().expect("a list").extend(more);
        }
        root.to_string()
    }

    /// The trusted root of this authority, as JSON.
    pub fn trusted_root(&self) -> String {
        let certificates: Vec<_> = self
            .chain
            .iter()
            .map(|der| json!({ "rawBytes": base64(der) }))
            .collect();
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.signatures.trusted(SINCE)],
            "ctlogs": [self.certificates.trusted(SINCE)],
            "certificateAuthorities": [{
                "subject": { "organization": "example", "commonName": "root.example" },
                "uri": "https://issuer.example",
                "certChain": { "certificates": certificates },
                "validFor": { "start": SINCE },
            }],
        })
        .to_string()
    }

    /// A certificate for a run of `workflow`, valid for ten minutes around now.
    pub(super) fn leaf(&self, workflow: &Workflow) -> Leaf {
        let key = KeyPair::generate_ecdsa_p256().expect("a key");
        let name = format!(
            "{}{}@{}",
            workflow.repository, workflow.path, workflow.repository_ref
        );
        let text = |value: &str| tlv(0x0c, value.as_bytes());
        let extensions = vec![
            ("2.5.29.15", true, vec![3, 2, 7, 0x80]),
            ("2.5.29.37", false, tlv(0x30, &CODE_SIGNING)),
            ("2.5.29.17", true, tlv(0x30, &tlv(0x86, name.as_bytes()))),
            ("1.3.6.1.4.1.57264.1.8", false, text(&workflow.issuer)),
            ("1.3.6.1.4.1.57264.1.11", false, text(&workflow.runner)),
            ("1.3.6.1.4.1.57264.1.12", false, text(&workflow.repository)),
            ("1.3.6.1.4.1.57264.1.14", false, text(&workflow.repository_ref)),
        ];
        let wish = Wish {
            subject: "leaf.example",
            issuer: "issuer.example",
            key: &key,
            from: SystemTime::now() - Duration::from_mins(5),
            until: SystemTime::now() + Duration::from_mins(5),
            extensions,
        };
        let certificate = logged(&wish, &self.issuer, &self.certificates);
        Leaf { key, certificate }
    }
}
