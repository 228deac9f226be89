//! A certificate for a server on loopback.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use sigstore_verify::crypto::KeyPair;
use sigstore_verify::types::DerCertificate;

use super::certificate::{Wish, signed, tlv};
use super::log::base64;

const DAY: Duration = Duration::from_hours(24);
const SERVER: [u8; 10] = [6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];

/// As PEM: an authority's certificate, that of a server at 127.0.0.1, and the server's key.
pub(crate) fn tls() -> [String; 3] {
    let root = KeyPair::generate_ecdsa_p256().expect("a key");
    let secret =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).expect("a key");
    let key = KeyPair::from_pkcs8_der(secret.as_ref()).expect("a key");
    let (from, until) = (SystemTime::now() - DAY, SystemTime::now() + 30 * DAY);
    let wish = |subject, key, extensions| Wish {
        subject,
        issuer: "tls.example",
        key,
        from,
        until,
        extensions,
    };
    let authority = signed(
        &wish(
            "tls.example",
            &root,
            vec![
                ("2.5.29.19", true, vec![0x30, 3, 1, 1, 0xff]),
                ("2.5.29.15", true, vec![3, 2, 2, 4]),
            ],
        ),
        &root,
    );
    let certificate = signed(
        &wish(
            "server.example",
            &key,
            vec![
                ("2.5.29.15", true, vec![3, 2, 7, 0x80]),
                ("2.5.29.37", false, tlv(0x30, &SERVER)),
                ("2.5.29.17", false, tlv(0x30, &tlv(0x87, &[127, 0, 0, 1]))),
            ],
        ),
        &root,
    );
    let key = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        base64(secret.as_ref())
    );
    [
        DerCertificate::new(authority).to_pem(),
        DerCertificate::new(certificate).to_pem(),
        key,
    ]
}
