//! TLS with an engine: the certificates that Docker's command line uses, and no others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::files;

/// Certificates and keys are far smaller.
const MAX_FILE: u64 = 1 << 20;

/// The files with which an engine is recognised, and by which it recognises us. Docker's names for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Material {
    /// Who signed the engine's certificate. Nobody else is trusted.
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    /// Whether there may be no client certificate: a context can be without one.
    client_is_optional: bool,
}

impl Material {
    /// `ca.pem`, `cert.pem` and `key.pem` in this folder.
    pub(crate) fn required_in(folder: &Path) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            client_is_optional: false,
        }
    }

    /// As [`required_in`](Self::required_in), but the client certificate may be missing.
    pub(crate) fn in_context(folder: &Path) -> Self {
        Self {
            client_is_optional: true,
            ..Self::required_in(folder)
        }
    }

    /// Reads the files. Nothing of a key is in the reason for a failure.
    pub(crate) fn connector(&self) -> Result<TlsConnector, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca, "CA certificate")? {
            roots
                .add(certificate)
                .map_err(|e| format!("CA certificate {}: {e}", self.ca.display()))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots);
        let config = if self.client_is_optional && !self.cert.exists() && !self.key.exists() {
            config.with_no_client_auth()
        } else {
            let chain = certificates(&self.cert, "client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(&read(&self.key, "client key")?).map_err(|_| {
                let shown = self.key.display();
                format!("client key {shown}: it has no private key that is not encrypted")
            })?;
            config.with_client_auth_cert(chain, key).map_err(|e| {
                let (cert, key) = (self.cert.display(), self.key.display());
                format!("client certificate {cert} with key {key}: {e}")
            })?
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// Why the two do not trust each other, if that is what is behind this failure.
    pub(crate) fn distrust(&self, failure: &(dyn std::error::Error + 'static)) -> Option<String> {
        Some(match in_chain(failure)? {
            rustls::Error::AlertReceived(alert) => format!(
                "it refuses the client certificate {} (alert {alert:?})",
                self.cert.display()
            ),
            cause @ rustls::Error::InvalidCertificate(_) => {
                format!("{cause}; trusted is only what {} signed", self.ca.display())
            }
            cause => format!("no TLS with it: {cause}"),
        })
    }
}

/// What rustls said, wherever it is wrapped.
fn in_chain<'a>(failure: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(failure);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error is not the source of itself, but what it wraps is skipped by its `source`.
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn certificates(file: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = file.display();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file, what)?).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("{what} {shown}: it has no certificate")),
        Ok(found) => Ok(found),
        Err(e) => Err(format!("{what} {shown}: {e}")),
    }
}

fn read(file: &Path, what: &str) -> Result<Vec<u8>, String> {
    files::read(file, MAX_FILE).map_err(|e| format!("{what} {}: {e}", file.display()))
}
