//! An image registry on loopback that can be filled, and that can be made to misbehave.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use sigstore_verify::types::SignatureBytes;

use crate::image::{Image, digest};
use crate::signing::{Attached, INDEX, MANIFEST, Signature};

/// What the token service gives to who may read.
const TOKEN: &str = "a-token-of-the-test";

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// This status.
    Status(u16),
    /// No answer, until it recovers and hangs up.
    Hang,
    /// A header that says another digest.
    WrongDigest,
    /// An answer of this many bytes.
    Large(usize),
    /// Half of the answer, and no word that there was more.
    Half,
    /// Half of the answer, and then the end of the connection.
    Cut,
    /// Half of the answer, and then nothing until it recovers and hangs up.
    Stall,
    /// As many other bytes.
    OtherBytes,
    /// The same said with other bytes, and a header with their digest.
    Respelled,
}

/// A registry that has what it is given, in whatever repository; it ends when it is dropped.
#[derive(Debug)]
pub struct ImageStore {
    port: u16,
    state: Arc<Mutex<State>>,
    /// How many requests there were.
    count: watch::Sender<usize>,
    serving: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Tag or digest → type and content.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    referrers: BTreeMap<String, Vec<Value>>,
    lists_referrers: bool,
    troubles: Vec<(String, Trouble)>,
    /// What has to be asked for, and then which tag names which digest.
    moves: Vec<(String, String, String)>,
    requests: Vec<String>,
    /// The `Authorization` headers of the same requests.
    seen: Vec<String>,
    /// Who may read, as an `Authorization` header, and where a token is to be had.
    reader: Option<(String, String)>,
    recovered: watch::Sender<()>,
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
        let count = watch::Sender::new(0);
        let serving = tokio::spawn(serve(listener, state.clone(), count.clone()));
        Self {
            port,
            state,
            count,
            serving: vec![serving],
        }
    }

    /// The same registry on the same port of loopback in the network namespace of the process `pid` too.
    ///
    /// # Panics
    /// When that namespace cannot be entered, or the port is taken there.
    pub fn also_in_network_of(&mut self, pid: u32) {
        let port = self.port;
        // A thread of its own, which never comes back from there.
        let listening = std::thread::spawn(move || {
            let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("a namespace");
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).expect("it is root's");
            let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port");
            listener.set_nonblocking(true).expect("a socket");
            listener
        });
        let listener = listening.join().expect("it listens");
        let listener = TcpListener::from_std(listener).expect("a socket");
        let serving = serve(listener, self.state.clone(), self.count.clone());
        self.serving.push(tokio::spawn(serving));
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
        self.put_echo_with(tag, version, &[])
    }

    /// The same, started with these arguments.
    ///
    /// # Panics
    /// As [`put_echo`](Self::put_echo).
    pub fn put_echo_with(&self, tag: &str, version: &str, args: &[&str]) -> String {
        self.lock().put_image(tag, &Image::with_args(version, args))
    }

    /// The same with a layer that no engine has; its digest, and its layer's.
    ///
    /// # Panics
    /// As [`put_echo`](Self::put_echo).
    pub fn put_echo_of_its_own(&self, tag: &str, version: &str) -> (String, String) {
        let image = Image::with_layer_of_its_own(version);
        (self.lock().put_image(tag, &image), digest(&image.layer))
    }

    /// The same with labels.
    ///
    /// # Panics
    /// As [`put_echo`](Self::put_echo).
    pub fn put_echo_labelled(&self, tag: &str, version: &str, args: &[&str], labels: Value) -> String {
        self.lock()
            .put_image(tag, &Image::labelled(version, args, labels))
    }

    /// The same with so many bytes beside the server.
    ///
    /// # Panics
    /// As [`put_echo`](Self::put_echo).
    pub fn put_echo_of_size(&self, tag: &str, version: &str, size: usize) -> String {
        self.lock().put_image(tag, &Image::of_size(version, size))
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
        let attached = Attached::of(signature);
        let mut state = self.lock();
        for blob in &attached.blobs {
            state.blobs.insert(digest(blob), blob.clone());
        }
        state.put_manifest(attached.tag.as_deref(), MANIFEST, &attached.manifest);
        if attached.tag.is_none() {
            let list = state.referrers.entry(signature.about.clone()).or_default();
            list.push(attached.listed);
        }
    }

    /// Lets `tag` name the manifest with `digest` as soon as something is asked for whose path has `part` in it.
    pub fn moves_when_asked(&self, part: &str, tag: &str, digest: &str) {
        let moved = (part.to_owned(), tag.to_owned(), digest.to_owned());
        self.lock().moves.push(moved);
    }

    /// What a tag names.
    pub fn digest_of(&self, tag: &str) -> Option<String> {
        self.lock()
            .manifests
            .get(tag)
            .map(|(_, manifest)| digest(manifest))
    }

    /// Returns when something was asked for whose path has `part` in it.
    ///
    /// # Panics
    /// When that does not happen in a minute.
    pub async fn asked(&self, part: &str) {
        let mut count = self.count.subscribe();
        let asked = count.wait_for(|_| self.requests().iter().any(|request| request.contains(part)));
        let asked = tokio::time::timeout(Duration::from_mins(1), asked).await;
        asked.expect("asked in a minute").expect("the registry lives");
    }

    /// From now on requests whose path has `part` in it go wrong in this way.
    pub fn trouble(&self, part: &str, trouble: Trouble) {
        self.lock().troubles.push((part.to_owned(), trouble));
    }

    /// From now on nothing goes wrong. Connections that hang are closed: an engine waits for them as long as they last.
    pub fn recover(&self) {
        let mut state = self.lock();
        state.troubles.clear();
        state.recovered.send_replace(());
    }

    /// From now on only this user reads, with a token from the token service at `realm`; none: this registry's own.
    pub fn is_read_by(&self, user: &str, password: &str, realm: Option<&str>) {
        let pair = SignatureBytes::from_bytes(format!("{user}:{password}").as_bytes()).to_base64();
        let own = format!("http://127.0.0.1:{}/token", self.port);
        let realm = realm.map_or(own, str::to_owned);
        self.lock().reader = Some((format!("Basic {pair}"), realm));
    }

    /// What was asked so far: method and path.
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    /// The `Authorization` headers that were shown so far, empty where there was none.
    pub fn was_shown(&self) -> Vec<String> {
        self.lock().seen.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for ImageStore {
    fn drop(&mut self) {
        for serving in &self.serving {
            serving.abort();
        }
    }
}

impl State {
    fn put_image(&mut self, tag: &str, image: &Image) -> String {
        self.blobs.insert(digest(&image.config), image.config.clone());
        self.blobs.insert(digest(&image.layer), image.layer.clone());
        self.put_manifest(Some(tag), MANIFEST, &image.manifest())
    }

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

    /// What has to be answered to who comes without what is wanted.
    fn challenge(&self, path: &str, authorization: &str) -> Option<String> {
        let (reader, realm) = self.reader.as_ref()?;
        if path.starts_with("/token") {
            return (authorization != reader).then(|| r#"Basic realm="test""#.to_owned());
        }
        let is_known = authorization == format!("Bearer {TOKEN}");
        (!is_known).then(|| format!(r#"Bearer realm="{realm}",service="test""#))
    }

    fn moves_for(&mut self, path: &str) {
        let due: Vec<_> = self
            .moves
            .extract_if(.., |(part, ..)| path.contains(part.as_str()))
            .collect();
        for (_, tag, digest) in due {
            if let Some(manifest) = self.manifests.get(&digest).cloned() {
                self.manifests.insert(tag, manifest);
            }
        }
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

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>, count: watch::Sender<usize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (state, count) = (state.clone(), count.clone());
        connections.spawn(async move {
            // Whoever hangs up has what it wanted.
            let _ = one(stream, &state, &count).await;
        });
    }
}

/// One request for each connection: no client is in a hurry here.
async fn one(stream: TcpStream, state: &Mutex<State>, count: &watch::Sender<usize>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let (mut line, mut authorization) = (String::new(), String::new());
    while stream.read_line(&mut line).await? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            value.trim().clone_into(&mut authorization);
        }
        line.clear();
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (found, trouble, mut recovered, challenge) = {
        let mut state = lock(state);
        state.requests.push(format!("{method} {path}"));
        state.seen.push(authorization.clone());
        state.moves_for(path);
        let trouble = state.troubles.iter().find(|(part, _)| path.contains(part));
        let trouble = trouble.map(|(_, trouble)| *trouble);
        let challenge = state.challenge(path, &authorization);
        let found = if path.starts_with("/token") {
            Some((
                "application/json".to_owned(),
                json!({ "token": TOKEN }).to_string().into_bytes(),
            ))
        } else {
            state.find(path)
        };
        (found, trouble, state.recovered.subscribe(), challenge)
    };
    count.send_modify(|count| *count += 1);
    let error = || ("application/json".to_owned(), br#"{"errors":[]}"#.to_vec());
    let (mut status, (kind, mut body)) = match found {
        Some(found) => (200, found),
        None => (404, error()),
    };
    let mut more = String::new();
    if let Some(challenge) = challenge {
        (status, body) = (401, error().1);
        more = format!("www-authenticate: {challenge}\r\n");
    }
    let (mut shown, mut cut) = (digest(&body), usize::MAX);
    match trouble {
        Some(Trouble::Hang) => {
            // It fails only when the registry is gone.
            let _ = recovered.changed().await;
            return Ok(());
        }
        Some(Trouble::Status(other)) => (status, body) = (other, error().1),
        Some(Trouble::WrongDigest) => shown = digest(b"something else"),
        Some(Trouble::Large(size)) => body.resize(size, b' '),
        Some(Trouble::Half) => body.truncate(body.len() / 2),
        Some(Trouble::OtherBytes) => body.fill(b' '),
        Some(Trouble::Respelled) => {
            body.push(b' ');
            shown = digest(&body);
        }
        Some(Trouble::Cut | Trouble::Stall) => cut = body.len() / 2,
        None => {}
    }
    let head = format!(
        "HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
         docker-distribution-api-version: registry/2.0\r\ndocker-content-digest: {shown}\r\n{more}\r\n",
        body.len(),
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(&body[..cut.min(body.len())]).await?;
    }
    stream.flush().await?;
    if trouble == Some(Trouble::Stall) {
        // It fails only when the registry is gone.
        let _ = recovered.changed().await;
    }
    stream.shutdown().await
}
