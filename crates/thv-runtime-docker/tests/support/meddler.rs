//! A socket in front of an engine's, or in place of one, where a test decides what becomes of each call.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::io::InspectReader;

/// What becomes of a call.
pub(crate) enum Do {
    /// The engine answers it.
    Forward,
    /// The same, but nothing more of the answer comes from when somebody says so, until somebody says otherwise.
    Held(watch::Receiver<bool>),
    /// This is the answer.
    Answer(u16, Value),
    /// That, once somebody says so.
    After(Arc<Notify>, Box<Do>),
    /// This is sent, and then nothing more.
    Stall(&'static str),
    /// This is sent, and then the connection ends.
    Send(&'static str),
    /// The connection ends; the engine heard nothing.
    CutBefore,
    /// The engine does it and answers; the connection ends before anybody hears the answer.
    CutAfter,
    /// The engine does it and answers; the connection ends in the middle of its answer.
    CutWithin,
}

/// Such a socket, until it is dropped.
#[derive(Debug)]
pub(crate) struct Meddler {
    path: PathBuf,
    serving: JoinHandle<()>,
    /// Each call and its whole request.
    seen: Arc<Mutex<Vec<(String, String)>>>,
    /// What the engine sent in answers that were forwarded.
    heard: Arc<Mutex<Vec<u8>>>,
    /// How many connections are open.
    open: Arc<AtomicUsize>,
}

/// One connection, among those that are open until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn one_of(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(all))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meddler {
    /// `decide` gets the number of the call and the call itself, `GET /containers/json?all=true`, without the version.
    pub(crate) fn open(
        path: &Path,
        engine: &Path,
        decide: impl Fn(usize, &str) -> Do + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let engine = engine.to_owned();
        let all = Arc::new(Mutex::new(Vec::new()));
        let (seen, decide, next) = (Arc::clone(&all), Arc::new(decide), Arc::new(AtomicUsize::new(0)));
        let heard = Arc::default();
        let hears = Arc::clone(&heard);
        let open = Arc::new(AtomicUsize::new(0));
        let opens = Arc::clone(&open);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (engine, seen, hears) = (engine.clone(), Arc::clone(&seen), Arc::clone(&hears));
                let (decide, next) = (Arc::clone(&decide), Arc::clone(&next));
                let open = Open::one_of(&opens);
                connections.spawn(async move {
                    let (mut client, _open) = (client, open);
                    let Some((call, request)) = read_request(&mut client).await else {
                        return;
                    };
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let text = String::from_utf8_lossy(&request).into_owned();
                    seen.lock().unwrap().push((call.clone(), text));
                    serve(client, &engine, request, decide(number, &call), &hears).await;
                });
            }
        });
        Self {
            path: path.to_owned(),
            serving,
            seen: all,
            heard,
            open,
        }
    }

    /// How many connections neither side has ended.
    pub(crate) fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(call, _)| call.clone()).collect()
    }

    /// What the engine sent so far in answers that were forwarded.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }

    /// The requests so far, with their bodies.
    pub(crate) fn requests(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(_, request)| request.clone()).collect()
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The answer to `/version` of an engine that is none.
pub(crate) fn version() -> Do {
    Do::Answer(
        200,
        serde_json::json!({"Version": "26.1", "ApiVersion": "1.45", "MinAPIVersion": "1.24"}),
    )
}

async fn serve(mut client: UnixStream, engine: &Path, request: Vec<u8>, what: Do, heard: &Mutex<Vec<u8>>) {
    let what = match what {
        Do::After(said, then) => {
            said.notified().await;
            *then
        }
        at_once => at_once,
    };
    match what {
        Do::After(..) => unreachable!("one thing is waited for"),
        Do::Forward => {
            let mut server = UnixStream::connect(engine).await.unwrap();
            server.write_all(&request).await.unwrap();
            let mut server =
                InspectReader::new(server, |bytes| heard.lock().unwrap().extend_from_slice(bytes));
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
        Do::Held(held) => {
            let mut server = UnixStream::connect(engine).await.unwrap();
            server.write_all(&request).await.unwrap();
            forward_held(client, server, held).await;
        }
        Do::Answer(status, body) => {
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = client.write_all(answer.as_bytes()).await;
        }
        Do::Stall(text) => {
            let _ = client.write_all(text.as_bytes()).await;
            // Until the client gives up.
            let _ = client.read_to_end(&mut Vec::new()).await;
        }
        Do::Send(text) => {
            let _ = client.write_all(text.as_bytes()).await;
        }
        Do::CutBefore => {}
        Do::CutAfter => drop(ask(engine, &request).await),
        Do::CutWithin => {
            let answer = ask(engine, &request).await;
            // The middle of the body; of the head where there is none.
            let head = head_of(&answer).unwrap_or(answer.len());
            let end = match answer.len() - head {
                0 => head / 2,
                body => head + body / 2,
            };
            let _ = client.write_all(&answer[..end]).await;
        }
    }
}

/// Passes on both ways, what the engine says only while it is not held.
async fn forward_held(client: UnixStream, server: UnixStream, mut held: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let back = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from_server.read(&mut buffer).await.unwrap_or(0);
            let let_go = held.wait_for(|held| !held).await.is_ok();
            if !let_go || read == 0 || to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        let _ = to_client.shutdown().await;
    };
    tokio::join!(there, back);
}

/// The engine's answer: its head, and what there is of a body that does not go on for ever.
async fn ask(engine: &Path, request: &[u8]) -> Vec<u8> {
    let mut server = UnixStream::connect(engine).await.unwrap();
    server.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(head) = head_of(&answer) {
            let words = String::from_utf8_lossy(&answer[..head]).to_lowercase();
            let has_body = words.contains("transfer-encoding:")
                || words
                    .lines()
                    .any(|line| line.starts_with("content-length:") && !line.ends_with(" 0"));
            if answer.len() > head || !has_body {
                return answer;
            }
        }
        match server.read(&mut buffer).await {
            Ok(read @ 1..) => answer.extend_from_slice(&buffer[..read]),
            _ => return answer,
        }
    }
}

/// Where the head of an answer ends.
fn head_of(answer: &[u8]) -> Option<usize> {
    answer
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// The call and the bytes of the whole request.
async fn read_request(client: &mut UnixStream) -> Option<(String, Vec<u8>)> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let mut whole = None;
    while whole.is_none_or(|length| request.len() < length) {
        let read = client.read(&mut buffer).await.ok().filter(|&read| read > 0)?;
        request.extend_from_slice(&buffer[..read]);
        if whole.is_none()
            && let Some(end) = request.windows(4).position(|end| end == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let body = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            whole = Some(end + 4 + body.unwrap_or(0));
        }
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let path = match path.strip_prefix("/v1.") {
        Some(rest) => &rest[rest.find('/')?..],
        None => path,
    };
    Some((format!("{method} {path}"), request))
}
