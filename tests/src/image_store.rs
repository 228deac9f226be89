//! An image registry on loopback that can be filled, and that can be made to misbehave.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::image::{Image, digest};
use crate::signing::{Form, Signature};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const COSIGN: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const COSIGN_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// This status.
    Status(u16),
    /// No answer, ever.
    Hang,
    /// A header that says another digest.
    WrongDigest,
    /// An answer of this many bytes.
    Large(usize),
    /// Half of the answer.
    Half,
}

/// A registry that has what it is given, in whatever repository; it ends when it is dropped.
#[derive(Debug)]
pub struct ImageStore {
    port: u16,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Tag or digest → type and content.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    referrers: BTreeMap<String, Vec<Value>>,
    lists_referrers: bool,
    troubles: Vec<(String, Trouble)>,
    requests: Vec<String>,
}

impl ImageStore {
    /// An empty one on a free port.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State {
            lists_referrers: true,
            ..State::default()
        }));
        let serving = tokio::spawn(serve(listener, state.clone()));
        Self { port, state, serving }
    }

    /// A repository of it.
    pub fn repository(&self, path: &str) -> String {
        format!("127.0.0.1:{}/{path}", self.port)
    }

    /// From now on it has no list of what refers to an image: there is a tag for that.
    pub fn without_referrers(&self) {
        self.lock().lists_referrers = false;
    }

    /// Lets `tag` name the echo server whose tool `version` answers `version`; its digest.
    ///
    /// # Panics
    /// When the static echo server was not asked for before.
    pub fn put_echo(&self, tag: &str, version: &str) -> String {
        let image = Image::new(version);
        let mut state = self.lock();
        state.blobs.insert(digest(&image.config), image.config.clone());
        state.blobs.insert(digest(&image.layer), image.layer.clone());
        state.put_manifest(Some(tag), MANIFEST, &image.manifest())
    }

    /// Lets `tag` name an image for `platform` (`linux/amd64`) with nothing in it; its digest.
    ///
    /// # Panics
    /// When `platform` is none.
    pub fn put_empty(&self, tag: &str, platform: &str) -> String {
        let (os, architecture) = platform.split_once('/').expect("a platform");
        let config = json!({ "os": os, "architecture": architecture, "config": { "Labels": { "tag": tag } },
            "rootfs": { "type": "layers", "diff_ids": [] } });
        let mut state = self.lock();
        let config = state.put_blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] });
        state.put_manifest(Some(tag), MANIFEST, &manifest)
    }

    /// Lets `tag` name an index of images for platforms; its digest.
    ///
    /// # Panics
    /// When a platform is none.
    pub fn put_index(&self, tag: &str, images: &[(&str, &str)]) -> String {
        let entries: Vec<_> = images
            .iter()
            .map(|(platform, digest)| {
                let (os, architecture) = platform.split_once('/').expect("a platform");
                json!({ "mediaType": MANIFEST, "digest": digest, "size": 1,
                    "platform": { "os": os, "architecture": architecture } })
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.lock().put_manifest(Some(tag), INDEX, &index)
    }

    /// Attaches a signature to the image that it is about.
    pub fn attach(&self, signature: &Signature) {
        let mut state = self.lock();
        let cosign = matches!(signature.form, Form::CosignTag | Form::CosignReferrer);
        let mut layer = state.put_blob(if cosign { COSIGN } else { BUNDLE }, &signature.content);
        layer["annotations"] = signature.annotations.clone();
        let config = state.put_blob("application/vnd.oci.empty.v1+json", b"{}");
        let mut manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        if signature.form == Form::CosignTag {
            let tag = format!("{}.sig", signature.about.replace(':', "-"));
            state.put_manifest(Some(&tag), MANIFEST, &manifest);
            return;
        }
        let kind = if cosign { COSIGN_ARTIFACT } else { BUNDLE };
        manifest["artifactType"] = kind.into();
        manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": signature.about, "size": 1 });
        let digest = state.put_manifest(None, MANIFEST, &manifest);
        let listed = json!({ "mediaType": MANIFEST, "digest": digest, "size": 1, "artifactType": kind });
        let list = state.referrers.entry(signature.about.clone()).or_default();
        list.push(listed);
    }

    /// From now on requests whose path has `part` in it go wrong in this way.
    pub fn trouble(&self, part: &str, trouble: Trouble) {
        self.lock().troubles.push((part.to_owned(), trouble));
    }

    /// What was asked so far: method and path.
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for ImageStore {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl State {
    fn put_blob(&mut self, kind: &str, content: &[u8]) -> Value {
        let digest = digest(content);
        self.blobs.insert(digest.clone(), content.to_vec());
        json!({ "mediaType": kind, "digest": digest, "size": content.len() })
    }

    fn put_manifest(&mut self, tag: Option<&str>, kind: &str, manifest: &Value) -> String {
        let content = manifest.to_string().into_bytes();
        let digest = digest(&content);
        for target in tag.into_iter().chain([digest.as_str()]) {
            self.manifests
                .insert(target.to_owned(), (kind.to_owned(), content.clone()));
        }
        digest
    }

    fn find(&self, path: &str) -> Option<(String, Vec<u8>)> {
        if path == "/v2/" {
            return Some(("application/json".into(), b"{}".to_vec()));
        }
        let (before, target) = path.rsplit_once('/')?;
        let list = |about: &str| {
            let entries = self.referrers.get(about).cloned().unwrap_or_default();
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
            Some((INDEX.to_owned(), index.to_string().into_bytes()))
        };
        match before.rsplit_once('/')?.1 {
            "blobs" => Some(("application/octet-stream".into(), self.blobs.get(target)?.clone())),
            "referrers" if self.lists_referrers => list(target),
            "manifests" => self.manifests.get(target).cloned().or_else(|| {
                let about = target.replacen('-', ":", 1);
                let stands_for_list = !self.lists_referrers && self.referrers.contains_key(&about);
                stands_for_list.then(|| list(&about)).flatten()
            }),
            _ => None,
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            // Whoever hangs up has what it wanted.
            let _ = one(stream, &state).await;
        });
    }
}

/// One request for each connection: no client is in a hurry here.
async fn one(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (found, trouble) = {
        let mut state = lock(state);
        state.requests.push(format!("{method} {path}"));
        let trouble = state.troubles.iter().find(|(part, _)| path.contains(part));
        (state.find(path), trouble.map(|(_, trouble)| *trouble))
    };
    let error = || ("application/json".to_owned(), br#"{"errors":[]}"#.to_vec());
    let (mut status, (kind, mut body)) = match found {
        Some(found) => (200, found),
        None => (404, error()),
    };
    let mut shown = digest(&body);
    match trouble {
        Some(Trouble::Hang) => std::future::pending().await,
        Some(Trouble::Status(other)) => (status, body) = (other, error().1),
        Some(Trouble::WrongDigest) => shown = digest(b"something else"),
        Some(Trouble::Large(size)) => body.resize(size, b' '),
        Some(Trouble::Half) => body.truncate(body.len() / 2),
        None => {}
    }
    let head = format!(
        "HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
         docker-distribution-api-version: registry/2.0\r\ndocker-content-digest: {shown}\r\n\r\n",
        body.len(),
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(&body).await?;
    }
    stream.flush().await?;
    stream.shutdown().await
}
