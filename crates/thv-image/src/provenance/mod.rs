//! Provenance: signatures found, checked against a root of trust, and their signer compared.

mod authority;
mod check;
mod cosign;
mod findings;
mod provenance_verifier;
mod trust;

pub use provenance_verifier::ProvenanceVerifier;
pub use trust::TrustRoots;
