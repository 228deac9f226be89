//! Which authorities were valid when something was signed.
//!
//! The verifier takes every certificate of an authority's chain as a trust anchor, and anchors have neither a time nor an
//! issuer to it: an authority whose certificates have run out, or do not belong together, would still vouch. So the root is
//! narrowed first to what was valid then.

use jiff02::Timestamp;
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::crypto::{
    CertificateInfo, KeyAlgorithm, SigningScheme, VerificationKey, parse_certificate_info,
};
use sigstore_verify::types::{DerCertificate, HashAlgorithm, SignatureBytes, TimeRange};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

/// `root` with the authorities and logs alone that were valid at all of `times`.
pub(crate) fn valid_at(root: &TrustedRoot, times: &[Timestamp]) -> TrustedRoot {
    let mut root = root.clone();
    let within = |window: Option<TimeRange>| {
        times
            .iter()
            .all(|time| window.is_none_or(|window| window.contains(*time)))
    };
    root.certificate_authorities.retain(|authority| {
        within(authority.valid_for)
            && holds(
                authority
                    .cert_chain
                    .certificates
                    .iter()
                    .map(|entry| &entry.raw_bytes),
                times,
            )
    });
    root.timestamp_authorities.retain(|authority| {
        within(authority.valid_for)
            && holds(
                authority
                    .cert_chain
                    .certificates
                    .iter()
                    .map(|entry| &entry.raw_bytes),
                times,
            )
    });
    root.tlogs.retain(|log| within(log.public_key.valid_for));
    root.ctlogs.retain(|log| within(log.public_key.valid_for));
    root
}

/// Each certificate was valid at all of `times`, and each is signed by the next one.
fn holds<'a>(chain: impl Iterator<Item = &'a DerCertificate>, times: &[Timestamp]) -> bool {
    let mut links = Vec::new();
    for certificate in chain {
        let Some(link) = Link::read(certificate) else {
            return false;
        };
        if !times
            .iter()
            .all(|time| (link.info.not_before..=link.info.not_after).contains(time))
        {
            return false;
        }
        links.push(link);
    }
    !links.is_empty() && links.windows(2).all(|pair| pair[0].is_signed_by(&pair[1]))
}

struct Link {
    certificate: Certificate,
    info: CertificateInfo,
}

impl Link {
    fn read(der: &DerCertificate) -> Option<Self> {
        Some(Self {
            certificate: Certificate::from_der(der.as_bytes()).ok()?,
            info: parse_certificate_info(der).ok()?,
        })
    }

    fn is_signed_by(&self, issuer: &Self) -> bool {
        let signed = &self.certificate;
        if signed.tbs_certificate.issuer != issuer.certificate.tbs_certificate.subject {
            return false;
        }
        let algorithm = signed.signature_algorithm.oid.to_string();
        let Some(scheme) = scheme(&algorithm, issuer.info.key_algorithm) else {
            return false;
        };
        let (Ok(content), Some(signature)) = (signed.tbs_certificate.to_der(), signed.signature.as_bytes())
        else {
            return false;
        };
        VerificationKey::from_spki_with_scheme(&issuer.info.public_key, scheme)
            .and_then(|key| key.verify(content, &SignatureBytes::from_bytes(signature)))
            .is_ok()
    }
}

/// The scheme of a certificate's signature, by its object identifier.
fn scheme(oid: &str, key: KeyAlgorithm) -> Option<SigningScheme> {
    let hash = match oid {
        "1.3.101.112" => return (key == KeyAlgorithm::Ed25519).then_some(SigningScheme::Ed25519),
        // ECDSA and RSA PKCS#1, with SHA-256, -384 and -512.
        "1.2.840.10045.4.3.2" | "1.2.840.113549.1.1.11" => HashAlgorithm::Sha2256,
        "1.2.840.10045.4.3.3" | "1.2.840.113549.1.1.12" => HashAlgorithm::Sha2384,
        "1.2.840.10045.4.3.4" | "1.2.840.113549.1.1.13" => HashAlgorithm::Sha2512,
        _ => return None,
    };
    key.resolve_signing_scheme(hash).ok()
}

#[cfg(test)]
mod tests {
    use sigstore_trust_root::SigstoreInstance;

    use super::*;

    fn at(start: Timestamp, years: i64) -> Timestamp {
        Timestamp::from_second(start.as_second() + years * 365 * 86_400).expect("a time")
    }

    #[test]
    fn the_embedded_authorities_hold_within_their_windows_and_not_after_their_certificates() {
        for instance in [SigstoreInstance::PublicGood, SigstoreInstance::GitHub] {
            let root = TrustedRoot::from_embedded(instance).expect("it is embedded");
            let certificates = root
                .certificate_authorities
                .iter()
                .map(|it| (&it.cert_chain, it.valid_for));
            let timestamps = root
                .timestamp_authorities
                .iter()
                .map(|it| (&it.cert_chain, it.valid_for));
            for (chain, window) in certificates.chain(timestamps) {
                let start = window.expect("a window").start;
                let chain = || chain.certificates.iter().map(|entry| &entry.raw_bytes);
                assert!(holds(chain(), &[start]), "{instance:?} {start}");
                assert!(!holds(chain(), &[start, at(start, 100)]), "{instance:?} {start}");
            }
        }
    }

    #[test]
    fn a_chain_whose_parts_do_not_belong_together_does_not_hold() {
        let root = TrustedRoot::from_embedded(SigstoreInstance::PublicGood).expect("it is embedded");
        let authority = root
            .certificate_authorities
            .iter()
            .find(|authority| authority.cert_chain.certificates.len() > 1)
            .expect("a chain");
        let times = [authority.valid_for.expect("a window").start];
        let chain = || {
            authority
                .cert_chain
                .certificates
                .iter()
                .map(|entry| &entry.raw_bytes)
        };
        assert!(holds(chain(), &times));
        assert!(!holds(chain().rev(), &times));
    }
}
