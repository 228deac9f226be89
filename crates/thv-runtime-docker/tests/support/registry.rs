//! A registry on loopback with one image, whose connection breaks when a test wants it to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{sha256, tar, unique_name};

/// Such a registry, until it is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    /// `127.0.0.1:port/name:1`.
    pub(crate) reference: String,
    /// How often a layer was asked for.
    pub(crate) asked: Arc<AtomicUsize>,
    name: String,
    content: watch::Sender<Arc<Content>>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Content {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
    layer_digest: String,
    trouble: Trouble,
    asked: Arc<AtomicUsize>,
}

/// What becomes of a layer on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// So often it breaks off in the middle.
    Breaks(usize),
    /// It stops in the middle, until there is another version.
    Stalls,
    /// Nobody gets as far: too many have asked for the image.
    Limited,
}

impl Content {
    fn new(seed: &str, trouble: Trouble, asked: Arc<AtomicUsize>) -> Self {
        // Nobody has this layer yet, and it does not fit into one read.
        let mut words = 0_u64;
        let noise: Vec<u8> = sha256(seed.as_bytes())
            .bytes()
            .cycle()
            .take(8 << 20)
            .map(|byte| {
                words = words
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(u64::from(byte) | 1);
                (words >> 33) as u8
            })
            .collect();
        let layer = tar([("noise", noise.as_slice(), 0o644)]);
        let layer_digest = format!("sha256:{}", sha256(&layer));
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        })
        .to_string()
        .into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": config.len(), "digest": format!("sha256:{}", sha256(&config)),
            },
            "layers": [{
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
                "size": layer.len(), "digest": layer_digest,
            }],
        })
        .to_string()
        .into_bytes();
        Self {
            manifest,
            config,
            layer,
            layer_digest,
            trouble,
            asked,
        }
    }
}

impl Registry {
    pub(crate) async fn start(trouble: Trouble) -> Self {
        let name = unique_name().to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let first = Content::new(&name, trouble, Arc::clone(&asked));
        let (content, current) = watch::channel(Arc::new(first));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let mut changes = current.clone();
                let content = Arc::clone(&changes.borrow_and_update());
                connections.spawn(async move { content.answer(client, changes).await });
            }
        });
        Self {
            reference: format!("{address}/{name}:1"),
            asked,
            name,
            content,
            serving,
        }
    }

    /// The reference means another version from now on.
    pub(crate) fn offer(&self, version: &str, trouble: Trouble) {
        let seed = format!("{}{version}", self.name);
        let next = Content::new(&seed, trouble, Arc::clone(&self.asked));
        self.content.send_replace(Arc::new(next));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

const TLS_HANDSHAKE: u8 = 22;
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

impl Content {
    /// One request of a connection, which ends then.
    async fn answer(&self, mut client: TcpStream, mut changes: watch::Receiver<Arc<Self>>) -> Option<()> {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = client.read(&mut buffer).await.ok().filter(|&read| read > 0)?;
            if request.is_empty() && buffer[0] == TLS_HANDSHAKE {
                // Engines try that first, and would wait ten seconds for an answer.
                return None;
            }
            request.extend_from_slice(&buffer[..read]);
        }
        let head = String::from_utf8_lossy(&request).into_owned();
        let (method, rest) = head.split_once(' ')?;
        let path = rest.split(' ').next()?;
        let digest = |bytes: &[u8]| format!("sha256:{}", sha256(bytes));
        let is_layer = path.ends_with(&self.layer_digest);
        if path.contains("/manifests/") && matches!(self.trouble, Trouble::Limited) {
            const WORDS: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
            let head = format!(
                "HTTP/1.1 429 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nRetry-After: 17\r\n\
                 Connection: close\r\n\r\n",
                WORDS.len()
            );
            let words = if method == "HEAD" { "" } else { WORDS };
            return client.write_all(format!("{head}{words}").as_bytes()).await.ok();
        }
        let body: &[u8] = if path == "/v2/" {
            b"{}"
        } else if path.contains("/manifests/") {
            &self.manifest
        } else if path.ends_with(&digest(&self.config)) {
            &self.config
        } else if is_layer {
            &self.layer
        } else {
            client
                .write_all(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await
                .ok()?;
            return None;
        };
        let times = if is_layer && method == "GET" {
            self.asked.fetch_add(1, Ordering::Relaxed)
        } else {
            usize::MAX
        };
        let broken = match self.trouble {
            Trouble::Breaks(breaks) => times < breaks,
            Trouble::Stalls => times < usize::MAX,
            Trouble::Limited => false,
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nDocker-Content-Digest: {}\r\nContent-Length: {}\r\n\
             Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
            if is_layer {
                self.layer_digest.clone()
            } else {
                digest(body)
            },
            body.len()
        );
        client.write_all(head.as_bytes()).await.ok()?;
        if method != "HEAD" {
            let sent = if broken { body.len() / 2 } else { body.len() };
            client.write_all(&body[..sent]).await.ok()?;
            if broken && matches!(self.trouble, Trouble::Stalls) {
                changes.changed().await.ok()?;
            }
        }
        Some(())
    }
}
