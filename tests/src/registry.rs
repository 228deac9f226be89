//! An image registry on loopback, as unhelpful as a test wants it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::image::{Image, digest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a registry answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryAnswer {
    /// It knows no image.
    NotFound,
    /// It wants to know who asks.
    Unauthorized,
    /// Whatever the name, it has the echo server, with this version.
    Echo(&'static str),
    /// Whatever the name, it has the echo server under these tags, each being its version. What ends with `-mute` never
    /// answers.
    Versions(&'static [&'static str]),
}

/// A registry that ends when it is dropped.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

/// Path → type and content.
type Content = BTreeMap<String, (&'static str, Vec<u8>)>;

impl Registry {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is no port, or the static echo server is needed and was not asked for before.
    pub async fn start(answer: RegistryAnswer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let serving = tokio::spawn(serve(listener, answer, requests.clone()));
        Self {
            port,
            requests,
            serving,
        }
    }

    /// A repository of it.
    pub fn repository(&self, path: &str) -> String {
        format!("127.0.0.1:{}/{path}", self.port)
    }

    /// An image of [`RegistryAnswer::Versions`] by its digest.
    pub fn by_digest(&self, path: &str, version: &str) -> String {
        let manifest = version_image(version).manifest().to_string();
        format!("{}@{}", self.repository(path), digest(manifest.as_bytes()))
    }

    /// What was asked so far: method and path.
    pub fn requests(&self) -> Vec<String> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, answer: RegistryAnswer, requests: Arc<Mutex<Vec<String>>>) {
    let content = Arc::new(match answer {
        RegistryAnswer::Echo(version) => content("manifest", &Image::new(version)),
        RegistryAnswer::Versions(versions) => versions
            .iter()
            .flat_map(|version| content(version, &version_image(version)))
            .collect(),
        _ => Content::new(),
    });
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (content, requests) = (content.clone(), requests.clone());
        connections.spawn(async move {
            // Whoever hangs up has what it wanted.
            let _ = one(stream, answer, &content, &requests).await;
        });
    }
}

/// One request for each connection: no client is in a hurry here.
async fn one(
    stream: TcpStream,
    answer: RegistryAnswer,
    content: &Content,
    requests: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(format!("{method} {path}"));

    let asked = path.rsplit_once('/').map_or(path, |(before, last)| {
        // Any name and any tag will do; a digest is a digest.
        let is_tag = before.ends_with("/manifests") && !last.starts_with("sha256:");
        match answer {
            RegistryAnswer::Echo(_) if is_tag => "manifest",
            // What refers to an image is not that image.
            _ if before.ends_with("/referrers") => "",
            _ => last,
        }
    });
    let (status, kind, body) = match (answer, content.get(asked)) {
        (RegistryAnswer::Unauthorized, _) => ("401 Unauthorized", "application/json", error("UNAUTHORIZED")),
        _ if path == "/v2/" => ("200 OK", "application/json", b"{}".to_vec()),
        (_, Some((kind, body))) => ("200 OK", *kind, body.clone()),
        _ => ("404 Not Found", "application/json", error("MANIFEST_UNKNOWN")),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
         docker-distribution-api-version: registry/2.0\r\ndocker-content-digest: {}\r\n\
         www-authenticate: Basic realm=\"private\"\r\n\r\n",
        body.len(),
        digest(&body)
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(&body).await?;
    }
    stream.flush().await?;
    stream.shutdown().await
}

fn version_image(version: &str) -> Image {
    let mute = version.ends_with("-mute");
    Image::with_args(version, if mute { &["--no-answer"] } else { &[] })
}

fn content(tag: &str, image: &Image) -> Content {
    let manifest = image.manifest().to_string().into_bytes();
    Content::from([
        (tag.to_owned(), (MANIFEST, manifest.clone())),
        (digest(&manifest), (MANIFEST, manifest)),
        (
            digest(&image.config),
            ("application/octet-stream", image.config.clone()),
        ),
        (
            digest(&image.layer),
            ("application/octet-stream", image.layer.clone()),
        ),
    ])
}

fn error(code: &str) -> Vec<u8> {
    format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#).into_bytes()
}
