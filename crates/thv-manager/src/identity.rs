//! From a registry's words about provenance to what is compared.

use thv_image::{ExpectedAttestation, ExpectedIdentity};
use thv_registry::Provenance;

/// Who should have signed an image, by its registry entry.
pub fn expected_identity(provenance: &Provenance) -> ExpectedIdentity {
    let mut expected = ExpectedIdentity::default();
    expected.issuer.clone_from(&provenance.cert_issuer);
    expected.repository.clone_from(&provenance.repository_uri);
    expected.repository_ref.clone_from(&provenance.repository_ref);
    expected.signer.clone_from(&provenance.signer_identity);
    expected
        .runner_environment
        .clone_from(&provenance.runner_environment);
    expected.sigstore_url.clone_from(&provenance.sigstore_url);
    expected.attestation = provenance.attestation.as_ref().map(|declared| {
        let mut attestation = ExpectedAttestation::default();
        attestation.predicate_type.clone_from(&declared.predicate_type);
        // One that cannot be read is compared all the same, and then nothing is equal to it.
        attestation.predicate = declared
            .predicate
            .as_ref()
            .map(|json| serde_json::from_str(json.get()).unwrap_or_default());
        attestation
    });
    expected
}
