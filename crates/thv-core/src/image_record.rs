//! What is known of the image that a workload runs.

use serde::{Deserialize, Serialize};

use crate::gojson::GoTime;

/// The image that each start of a workload deploys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRecord {
    /// The digest of its manifest (`sha256:…`). Empty: it was built on its engine.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The engine's id of it, where it was built there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// What was found out about who made it, if anybody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ProvenanceRecord>,
}

/// What was found out about who made an image, when it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenanceRecord {
    /// What came of it.
    pub verdict: ProvenanceVerdict,
    /// When it was looked at.
    pub checked_at: GoTime,
    /// Why it is not verified.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Whose signature was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<ImageSigner>,
}

/// What came of looking for an image's provenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProvenanceVerdict {
    /// It is signed by whom it should be.
    Verified,
    /// There is no signature.
    Unsigned,
    /// It could not be found out.
    Unreachable,
    /// Nobody said who should have signed it.
    Undeclared,
    /// One that a newer program knows.
    #[serde(other)]
    Unknown,
}

impl ProvenanceVerdict {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unsigned => "unsigned",
            Self::Unreachable => "unreachable",
            Self::Undeclared => "undeclared",
            Self::Unknown => "unknown",
        }
    }
}

/// Who signed an image, as the verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSigner {
    /// For GitHub's issuer the workflow's path within the repository, else the whole name.
    pub identity: String,
    /// The source repository.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// The ref that was built.
    #[serde(rename = "ref", skip_serializing_if = "String::is_empty")]
    pub repository_ref: String,
    /// Where the build ran.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runner_environment: String,
    /// Who vouches for the identity.
    pub issuer: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_keys_that_programs_read() {
        let record = ImageRecord {
            digest: "sha256:00".into(),
            id: String::new(),
            provenance: Some(ProvenanceRecord {
                verdict: ProvenanceVerdict::Verified,
                checked_at: "2026-08-21T10:12:13Z".parse().unwrap(),
                detail: String::new(),
                signer: Some(ImageSigner {
                    identity: "/.github/workflows/release.yml".into(),
                    repository: "https://github.com/a/b".into(),
                    issuer: "https://issuer.example".into(),
                    ..ImageSigner::default()
                }),
            }),
        };
        let text = crate::gojson::to_string(&record).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"digest":"sha256:00","provenance":{"verdict":"verified","checked_at":"2026-08-21T10:12:13Z","#,
                r#""signer":{"identity":"/.github/workflows/release.yml","repository":"https://github.com/a/b","#,
                r#""issuer":"https://issuer.example"}}}"#
            )
        );
        assert_eq!(serde_json::from_str::<ImageRecord>(&text).unwrap(), record);
        let newer = text.replace("verified", "blessed");
        let read: ImageRecord = serde_json::from_str(&newer).unwrap();
        assert_eq!(read.provenance.unwrap().verdict, ProvenanceVerdict::Unknown);
    }
}
