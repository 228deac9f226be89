//! X.509 certificates, as little of them as is needed.

use std::time::SystemTime;

use sigstore_verify::crypto::KeyPair;
use x509_cert::certificate::{Certificate, TbsCertificate, Version};
use x509_cert::der::asn1::{BitString, OctetString};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

use super::log::Log;

const ECDSA_WITH_SHA256: &str = "1.2.840.10045.4.3.2";
const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";

/// What a certificate says.
pub(super) struct Wish<'a> {
    pub(super) subject: &'a str,
    pub(super) issuer: &'a str,
    pub(super) key: &'a KeyPair,
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
    /// Object identifier, whether it is critical, DER.
    pub(super) extensions: Vec<(&'a str, bool, Vec<u8>)>,
}

/// DER of a certificate that `by` signs.
pub(super) fn signed(wish: &Wish<'_>, by: &KeyPair) -> Vec<u8> {
    sealed(content(wish), by)
}

/// The same with a promise of `log` in it.
pub(super) fn logged(wish: &Wish<'_>, by: &KeyPair, log: &Log) -> Vec<u8> {
    let mut content = content(wish);
    let list = log.promise(&content.to_der().expect("DER"), &spki(by));
    let inner = OctetString::new(list).expect("short").to_der().expect("DER");
    let promise = extension(SCT_LIST, false, inner);
    content.extensions.get_or_insert_default().push(promise);
    sealed(content, by)
}

/// The public key of a pair, as certificates have it.
pub(super) fn spki(key: &KeyPair) -> Vec<u8> {
    key.public_key_der().expect("a public key").into_bytes()
}

/// A DER value.
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=127 => out.push(length as u8),
        length @ 128..=255 => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

fn extension(id: &str, critical: bool, der: Vec<u8>) -> Extension {
    Extension {
        extn_id: ObjectIdentifier::new_unwrap(id),
        critical,
        extn_value: OctetString::new(der).expect("short"),
    }
}

fn algorithm() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid: ObjectIdentifier::new_unwrap(ECDSA_WITH_SHA256),
        parameters: None,
    }
}

fn content(wish: &Wish<'_>) -> TbsCertificate {
    let name = |text: &str| -> Name { format!("CN={text}").parse().expect("a name") };
    let time = |time: SystemTime| Time::try_from(time).expect("a time");
    let extensions = wish
        .extensions
        .iter()
        .map(|(id, critical, der)| extension(id, *critical, der.clone()))
        .collect();
    TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&[1]).expect("a number"),
        signature: algorithm(),
        issuer: name(wish.issuer),
        validity: Validity {
            not_before: time(wish.from),
            not_after: time(wish.until),
        },
        subject: name(wish.subject),
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(&spki(wish.key)).expect("a key"),
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    }
}

fn sealed(content: TbsCertificate, by: &KeyPair) -> Vec<u8> {
    let signature = by.sign(&content.to_der().expect("DER")).expect("signed");
    let certificate = Certificate {
        tbs_certificate: content,
        signature_algorithm: algorithm(),
        signature: BitString::from_bytes(signature.as_bytes()).expect("short"),
    };
    certificate.to_der().expect("DER")
}
