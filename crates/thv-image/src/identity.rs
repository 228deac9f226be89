//! Who should have signed an image, and who did.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who should have signed, as a registry entry declares it. Only what is there is compared, exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ExpectedIdentity {
    /// The issuer of the signer's identity, such as `https://token.actions.githubusercontent.com`.
    #[serde(rename = "cert_issuer", skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// The source repository (`https://github.com/owner/name`).
    #[serde(rename = "repository_uri", skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// The ref that was built (`refs/tags/v1`).
    #[serde(rename = "repository_ref", skip_serializing_if = "String::is_empty")]
    pub repository_ref: String,
    /// Who signed: for GitHub's issuer the workflow's path within the repository (`/.github/workflows/release.yml`), else
    /// the whole name in the certificate.
    #[serde(rename = "signer_identity", skip_serializing_if = "String::is_empty")]
    pub signer: String,
    /// Where the build ran (`github-hosted`, `self-hosted`).
    #[serde(rename = "runner_environment", skip_serializing_if = "String::is_empty")]
    pub runner_environment: String,
    /// Whose root of trust: `tuf-repo-cdn.sigstore.dev` (also where it is empty) or `tuf-repo.github.com`.
    #[serde(rename = "sigstore_url", skip_serializing_if = "String::is_empty")]
    pub sigstore_url: String,
    /// What is attested, where that is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation: Option<ExpectedAttestation>,
}

/// What an attestation should say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ExpectedAttestation {
    /// Its type, such as `https://slsa.dev/provenance/v1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub predicate_type: String,
    /// All of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicate: Option<Value>,
}

impl ExpectedIdentity {
    /// Whether it names nobody: then any signature that its root of trust backs would do, which is no promise at all.
    pub fn names_nobody(&self) -> bool {
        self.issuer.is_empty()
            && self.repository.is_empty()
            && self.repository_ref.is_empty()
            && self.signer.is_empty()
            && self.runner_environment.is_empty()
    }
}

/// Who signed, from the claims of a certificate that was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Signer {
    /// The issuer of the identity.
    pub issuer: String,
    /// The source repository, where the certificate names one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// The ref that was built.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository_ref: String,
    /// Who signed, in the form of [`ExpectedIdentity::signer`].
    pub identity: String,
    /// Where the build ran.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runner_environment: String,
}

impl Signer {
    /// The first thing in which it differs from what is expected.
    pub(crate) fn difference(&self, expected: &ExpectedIdentity) -> Option<String> {
        [
            ("issuer", &expected.issuer, &self.issuer),
            ("repository", &expected.repository, &self.repository),
            ("ref", &expected.repository_ref, &self.repository_ref),
            ("signer", &expected.signer, &self.identity),
            (
                "runner environment",
                &expected.runner_environment,
                &self.runner_environment,
            ),
        ]
        .into_iter()
        .find(|(_, expected, found)| !expected.is_empty() && expected != found)
        .map(|(what, expected, found)| {
            format!(
                "its {what} is \"{}\", expected \"{}\"",
                crate::error::short(found),
                crate::error::short(expected)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_entry_is_read_as_it_is() {
        let expected: ExpectedIdentity = serde_json::from_str(
            r#"{"sigstore_url":"tuf-repo-cdn.sigstore.dev","repository_uri":"https://github.com/a/b",
                "signer_identity":"/.github/workflows/release.yml","runner_environment":"github-hosted",
                "cert_issuer":"https://token.actions.githubusercontent.com"}"#,
        )
        .expect("it is read");
        assert_eq!(expected.repository, "https://github.com/a/b");
        assert_eq!(expected.signer, "/.github/workflows/release.yml");
        assert!(!expected.names_nobody());
    }

    #[test]
    fn each_declared_part_has_to_match() {
        let signer = Signer {
            issuer: "i".into(),
            repository: "r".into(),
            repository_ref: "f".into(),
            identity: "s".into(),
            runner_environment: "e".into(),
        };
        let all = ExpectedIdentity {
            issuer: "i".into(),
            repository: "r".into(),
            repository_ref: "f".into(),
            signer: "s".into(),
            runner_environment: "e".into(),
            ..ExpectedIdentity::default()
        };
        assert_eq!(signer.difference(&all), None);
        assert_eq!(signer.difference(&ExpectedIdentity::default()), None);
        type Change = fn(&mut ExpectedIdentity);
        let changes: [Change; 5] = [
            |e| e.issuer.push('x'),
            |e| e.repository.push('x'),
            |e| e.repository_ref.push('x'),
            |e| e.signer.push('x'),
            |e| e.runner_environment.push('x'),
        ];
        for change in changes {
            let mut other = all.clone();
            change(&mut other);
            assert!(signer.difference(&other).is_some(), "{other:?}");
        }
    }
}
