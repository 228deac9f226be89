//! Registries, asked for what tags name.

use async_trait::async_trait;
use thv_core::RegistryCredentials;

use crate::client::manifest::{self, ACCEPT, Platform};
use crate::client::transport::Transport;
use crate::client::{ClientConfig, Descriptor, Fault, Index, Manifest};
use crate::{Digest, Reference, Resolve, Result};

/// The specification's own limit of a manifest.
const MAX_MANIFEST: usize = 4 << 20;
/// An image's configuration.
const MAX_CONFIG: usize = 4 << 20;

/// A client of image registries: reads manifests and small blobs.
///
/// Manifests, blobs and tokens are bounded in size and time, and content is compared with its digest. A registry is talked
/// to with TLS unless it is on loopback or listed as insecure. Its credentials are shown to it and to its own token service
/// only, and not before it asks.
#[derive(Debug)]
pub struct RegistryClient {
    transport: Transport,
    config: ClientConfig,
}

impl RegistryClient {
    /// A client as `config` says. Nothing is read or asked before the first use.
    pub fn new(config: ClientConfig) -> Self {
        Self {
            transport: Transport::new(config.clone()),
            config,
        }
    }

    pub(crate) fn timeout(&self) -> std::time::Duration {
        self.config.timeout
    }

    /// The manifest that `target`, a tag or a digest, names in the repository of `image`.
    pub(crate) async fn manifest(&self, image: &Reference, target: &str) -> Result<Manifest, Fault> {
        let path = format!("manifests/{target}");
        let answer = self.transport.get(image, &path, ACCEPT, MAX_MANIFEST).await?;
        let digest = Digest::of(&answer.body);
        if let Some(claimed) = &answer.claimed
            && claimed.starts_with("sha256:")
            && *claimed != digest.to_string()
        {
            return Err(Fault::Bad(format!(
                "it says that its manifest is {}, which it is not",
                crate::error::short(claimed)
            )));
        }
        if target.contains(':') && target != digest.to_string() {
            return Err(Fault::Bad(format!(
                "what it gives for {target} is something else"
            )));
        }
        Ok(Manifest {
            digest,
            bytes: answer.body,
        })
    }

    /// A blob of at most `limit` bytes.
    pub(crate) async fn blob(
        &self,
        image: &Reference,
        digest: &Digest,
        limit: usize,
    ) -> Result<Vec<u8>, Fault> {
        let path = format!("blobs/{digest}");
        let answer = self.transport.get(image, &path, "*/*", limit).await?;
        if Digest::of(&answer.body) != *digest {
            return Err(Fault::Bad(format!(
                "what it gives for {digest} is something else"
            )));
        }
        Ok(answer.body)
    }

    /// What refers to `digest`: by the registry's list, or by the tag that stands for it where there is none.
    pub(crate) async fn referrers(
        &self,
        image: &Reference,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, Fault> {
        let path = format!("referrers/{digest}");
        let accept = "application/vnd.oci.image.index.v1+json";
        let bytes = match self.transport.get(image, &path, accept, MAX_MANIFEST).await {
            Ok(answer) => answer.body,
            // Registries without the list say so in different ways.
            Err(Fault::NotFound | Fault::Bad(_)) => {
                match self.manifest(image, &format!("sha256-{}", digest.hex())).await {
                    Ok(manifest) => manifest.bytes,
                    Err(Fault::NotFound) => return Ok(Vec::new()),
                    Err(fault) => return Err(fault),
                }
            }
            Err(fault) => return Err(fault),
        };
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|_| Fault::Bad("its list of referrers is no index".into()))?;
        Ok(index.manifests.unwrap_or_default())
    }

    async fn resolved(&self, image: &Reference) -> Result<Digest, Fault> {
        let platform = &self.config.platform;
        let target = match (image.digest(), image.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let named = self.manifest(image, &target).await?;
        let mut index = named.read()?;
        if let Some(entries) = &index.manifests {
            let entry = manifest::for_platform(entries, platform)?.digest()?;
            index = self.manifest(image, &entry.to_string()).await?.read()?;
        }
        // What the index says is not what runs: the image's own configuration is.
        let Some(config) = &index.config else {
            return Err(Fault::Bad("its index names another index".into()));
        };
        let config = self.blob(image, &config.digest()?, MAX_CONFIG).await?;
        let made_for: Platform = serde_json::from_slice(&config)
            .map_err(|_| Fault::Bad("the image's configuration is none".into()))?;
        if !made_for.is(platform) {
            return Err(manifest::wrong_platform(platform, made_for.to_string()));
        }
        Ok(named.digest)
    }
}

#[async_trait]
impl Resolve for RegistryClient {
    async fn resolve(&self, reference: &Reference) -> Result<Digest> {
        let limit = self.config.timeout;
        tokio::time::timeout(limit, self.resolved(reference))
            .await
            .unwrap_or(Err(Fault::TimedOut(limit)))
            .map_err(|fault| fault.of(reference))
    }

    async fn credentials(&self, reference: &Reference) -> Option<RegistryCredentials> {
        if self.transport.with_credentials(reference).is_none() {
            // Whoever does not ask for credentials is shown none.
            let target = match (reference.digest(), reference.tag()) {
                (Some(digest), _) => digest.to_string(),
                (None, tag) => tag.unwrap_or("latest").to_owned(),
            };
            let asked = self.manifest(reference, &target);
            let _ = tokio::time::timeout(self.config.timeout, asked).await;
        }
        if self.transport.with_credentials(reference) != Some(true) {
            return None;
        }
        self.transport.credentials().find(reference.registry()).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use thv_core::Env;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::Error;

    /// What comes of a registry and a token service that answer with these heads.
    async fn resolved(registry: &str, tokens: &'static str) -> Error {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = registry.replace("REALM", &format!("http://{address}/token"));
        let serving = async {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let read = client.read(&mut request).await.unwrap();
                let head = if request[..read].starts_with(b"GET /token") {
                    tokens
                } else {
                    &registry
                };
                let answer = format!("HTTP/1.1 {head}Content-Length: 0\r\nConnection: close\r\n\r\n");
                client.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let mut config = ClientConfig::from_env(Env::default()).unwrap();
        config.timeout = Duration::from_mins(1);
        let client = RegistryClient::new(config);
        let image = format!("{address}/their/tool:1").parse().unwrap();
        tokio::select! {
            () = serving => unreachable!("it serves without end"),
            answer = client.resolve(&image) => answer.unwrap_err(),
        }
    }

    #[tokio::test]
    async fn a_registry_that_was_asked_too_often_says_how_long_to_wait() {
        for (head, expected) in [
            ("429 X\r\nRetry-After: 17\r\n", Some(Duration::from_secs(17))),
            ("429 X\r\n", None),
            // A date is not a number of seconds, in neither form.
            ("429 X\r\nRetry-After: Mon, 30 Nov 2026 12:00:00 GMT\r\n", None),
            ("429 X\r\nRetry-After: 1796040000\r\n", None),
        ] {
            let error = resolved(head, "").await;
            assert!(error.is_retryable(), "{error:?}");
            let Error::RateLimited { retry_after, .. } = error else {
                panic!("{head}: {error:?}");
            };
            assert_eq!(retry_after, expected, "{head}");
        }
    }

    /// It is no refusal of whoever asks: another time it may give a token.
    #[tokio::test]
    async fn a_token_service_that_fails_or_was_asked_too_often_does_not_refuse() {
        const ASKS: &str = "401 X\r\nWWW-Authenticate: Bearer realm=\"REALM\"\r\n";
        for (head, code, retryable) in [
            ("429 X\r\nRetry-After: 3\r\n", "registry_rate_limited", true),
            ("503 X\r\n", "registry_unavailable", true),
            ("403 X\r\n", "registry_unauthorized", false),
        ] {
            let error = resolved(ASKS, head).await;
            assert_eq!(error.code(), code, "{head}: {error:?}");
            assert_eq!(error.is_retryable(), retryable, "{head}");
        }
    }
}
