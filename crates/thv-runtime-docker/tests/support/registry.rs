//! A registry on loopback with one image, whose connection breaks when a test wants it to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{sha256, tar, unique_name};

/// Such a registry, until it is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    /// `127.0.0.1:port/name:1`.
    pub(crate) reference: String,
    /// How often the layer was asked for.
    pub(crate) asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

struct Content {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
    layer_digest: String,
    /// So often the layer breaks off in the middle.
    breaks: usize,
    asked: Arc<AtomicUsize>,
}

impl Registry {
    pub(crate) async fn start(breaks: usize) -> Self {
        let name = unique_name();
        // Nobody has this layer yet, and it does not fit into one read.
        let mut words = 0_u64;
        let noise: Vec<u8> = sha256(name.as_str().as_bytes())
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
        let asked = Arc::new(AtomicUsize::new(0));
        let content = Arc::new(Content {
            manifest,
            config,
            layer,
            layer_digest,
            breaks,
            asked: Arc::clone(&asked),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let content = Arc::clone(&content);
                connections.spawn(async move { content.answer(client).await });
            }
        });
        Self {
            reference: format!("{address}/{name}:1"),
            asked,
            serving,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

impl Content {
    /// One request of a connection, which ends then.
    async fn answer(&self, mut client: TcpStream) -> Option<()> {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = client.read(&mut buffer).await.ok().filter(|&read| read > 0)?;
            request.extend_from_slice(&buffer[..read]);
        }
        let head = String::from_utf8_lossy(&request).into_owned();
        let (method, rest) = head.split_once(' ')?;
        let path = rest.split(' ').next()?;
        let digest = |bytes: &[u8]| format!("sha256:{}", sha256(bytes));
        let is_layer = path.ends_with(&self.layer_digest);
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
        let broken = is_layer && method == "GET" && self.asked.fetch_add(1, Ordering::Relaxed) < self.breaks;
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
        }
        Some(())
    }
}
