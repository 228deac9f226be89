//! Whose signatures count.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sigstore_trust_root::{SigstoreInstance, TrustedRoot};
use sigstore_verify::Verifier;

use tokio::io::AsyncReadExt as _;

use crate::error::short;
use crate::{Error, Result};

/// The public root: also where none is named.
const PUBLIC: &str = "tuf-repo-cdn.sigstore.dev";
const GITHUB: &str = "tuf-repo.github.com";
/// More is no trusted root.
const MAX_ROOT: usize = 1 << 20;

/// The roots of trust: those of the public instance and of GitHub, which are part of the program, or one of the user's own
/// in their place. No root is fetched.
#[derive(Debug, Clone, Default)]
pub struct TrustRoots {
    own: Own,
}

#[derive(Debug, Clone, Default)]
enum Own {
    #[default]
    None,
    Read(Arc<Trust>),
    File(PathBuf),
}

/// A root, and what a signature under it needs besides a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    pub(crate) root: TrustedRoot,
    /// An entry in a transparency log. Where the root has no log, a timestamp of its authority.
    pub(crate) logged: bool,
    /// A promise of a certificate transparency log in the certificate.
    pub(crate) certificate_logged: bool,
}

impl TrustRoots {
    /// The public root and GitHub's.
    pub fn embedded() -> Self {
        Self::default()
    }

    /// Only this root, in the form of `trusted_root.json`, whatever a registry entry names.
    ///
    /// # Errors
    /// `TrustRoot` when it cannot be read, or trusts nobody.
    pub fn from_json(name: &str, json: &str) -> Result<Self> {
        let refuse = |detail: String| Error::TrustRoot {
            root: name.to_owned(),
            detail,
        };
        if json.len() > MAX_ROOT {
            return Err(refuse("it is too large".into()));
        }
        let root = TrustedRoot::from_json(json).map_err(|error| refuse(short(&error.to_string())))?;
        Verifier::new(&root).map_err(|error| refuse(short(&error.to_string())))?;
        if root.certificate_authorities.is_empty() {
            return Err(refuse("it has no certificate authority".into()));
        }
        if root.tlogs.is_empty() && root.timestamp_authorities.is_empty() {
            return Err(refuse(
                "it has neither a transparency log nor a timestamp authority".into(),
            ));
        }
        Ok(Self {
            own: Own::Read(Arc::new(Trust::of(root))),
        })
    }

    /// Only the root in the file at `path`, which is read when it is needed.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self {
            own: Own::File(path.into()),
        }
    }

    /// Whether the user chose it: then that it cannot be used is an error whatever the policy.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self.own, Own::None)
    }

    /// The root that `sigstore_url` names.
    pub(crate) async fn get(&self, sigstore_url: &str) -> Result<Arc<Trust>> {
        match &self.own {
            Own::None => embedded(sigstore_url),
            Own::Read(own) => Ok(own.clone()),
            Own::File(path) => {
                let name = path.display().to_string();
                let json = read(path).await.map_err(|error| Error::TrustRoot {
                    root: name.clone(),
                    detail: error.to_string(),
                })?;
                match Self::from_json(&name, &json)?.own {
                    Own::Read(own) => Ok(own),
                    Own::None | Own::File(_) => embedded(sigstore_url),
                }
            }
        }
    }
}

async fn read(path: &Path) -> std::io::Result<String> {
    // A pipe in its place would never end.
    if !tokio::fs::metadata(path).await?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(MAX_ROOT as u64 + 1).read_to_string(&mut text).await?;
    Ok(text)
}

fn embedded(sigstore_url: &str) -> Result<Arc<Trust>> {
    let host = sigstore_url.strip_prefix("https://").unwrap_or(sigstore_url);
    let instance = match host.trim_end_matches('/') {
        "" | PUBLIC => SigstoreInstance::PublicGood,
        GITHUB => SigstoreInstance::GitHub,
        other => {
            return Err(Error::TrustRoot {
                root: short(other),
                detail: format!("it is neither {PUBLIC} nor {GITHUB}"),
            });
        }
    };
    let root = TrustedRoot::from_embedded(instance).map_err(|error| Error::TrustRoot {
        root: host.to_owned(),
        detail: short(&error.to_string()),
    })?;
    let mut trust = Trust::of(root);
    // Never less because of what a root happens to lack.
    let public = instance == SigstoreInstance::PublicGood;
    (trust.logged, trust.certificate_logged) = (public, public);
    Ok(Arc::new(trust))
}

impl Trust {
    fn of(root: TrustedRoot) -> Self {
        Self {
            logged: !root.tlogs.is_empty(),
            certificate_logged: !root.ctlogs.is_empty(),
            root,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_root_is_named_or_the_public_one() {
        let roots = TrustRoots::embedded();
        for name in ["", PUBLIC, "https://tuf-repo-cdn.sigstore.dev/"] {
            let trust = roots.get(name).await.expect(name);
            assert!(trust.logged && trust.certificate_logged);
        }
        let github = roots.get(GITHUB).await.expect("GitHub's");
        assert!(!github.logged && !github.certificate_logged);
        assert_eq!(
            roots.get("evil.example").await.expect_err("a stranger's").code(),
            "trust_root"
        );
    }

    #[test]
    fn a_root_that_trusts_nobody_is_refused() {
        let empty = r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;
        for json in ["", "{}", "[]", empty] {
            assert!(TrustRoots::from_json("mine", json).is_err(), "{json} passed");
        }
    }
}
