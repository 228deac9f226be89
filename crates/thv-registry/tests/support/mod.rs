//! A small HTTP server on loopback, friendly or hostile.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Success with JSON.
    Json(String),
    /// Another status, with a body.
    Status(u16, String),
    /// Elsewhere.
    Redirect(String),
    /// Says that this many bytes come.
    Announces(u64),
    /// Sends white space without end.
    Endless,
    /// Nothing at all.
    Hangs,
}

type Handler = dyn Fn(&str) -> Reply + Send + Sync;

/// The server; it ends with the runtime of the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    sent: Arc<Mutex<usize>>,
}

impl Server {
    /// Answers each request target with what `handler` says.
    pub(crate) async fn start(handler: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            sent: Arc::default(),
        };
        let (asked, sent, handler): (_, _, Arc<Handler>) =
            (server.asked.clone(), server.sent.clone(), Arc::new(handler));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, handler.clone(), asked.clone(), sent.clone()));
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The targets of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// How many bytes of endless bodies went out.
    pub(crate) fn sent(&self) -> usize {
        *self.sent.lock().unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    handler: Arc<Handler>,
    asked: Arc<Mutex<Vec<String>>>,
    sent: Arc<Mutex<usize>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(target.clone());
    let start = |status: u16, length: u64, more: &str| {
        format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n"
        )
    };
    let answer = match handler(&target) {
        Reply::Json(body) => start(200, body.len() as u64, "") + &body,
        Reply::Status(status, body) => start(status, body.len() as u64, "") + &body,
        Reply::Redirect(to) => start(302, 0, &format!("Location: {to}\r\n")),
        Reply::Announces(length) => start(200, length, "") + "{",
        Reply::Hangs => {
            std::future::pending::<()>().await;
            return;
        }
        Reply::Endless => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
            let mut next = head.as_bytes().to_vec();
            while stream.write_all(&next).await.is_ok() {
                next = vec![b' '; 1024 * 1024];
                *sent.lock().unwrap() += next.len();
            }
            return;
        }
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// The `server.json` of an image.
pub(crate) fn server(name: &str) -> String {
    format!(
        r#"{{"name": "{name}", "packages": [{{"registryType": "oci", "identifier": "example/tool:1.0.0"}}]}}"#
    )
}

/// A document of such servers.
pub(crate) fn document(names: &[&str]) -> String {
    let servers: Vec<String> = names.iter().map(|name| server(name)).collect();
    format!(r#"{{"data": {{"servers": [{}]}}}}"#, servers.join(","))
}

/// A page of an API.
pub(crate) fn page(names: &[&str], next: &str) -> String {
    let servers: Vec<String> = names
        .iter()
        .map(|name| format!(r#"{{"server": {}, "_meta": {{}}}}"#, server(name)))
        .collect();
    format!(
        r#"{{"servers": [{}], "metadata": {{"nextCursor": "{next}", "count": {}}}}}"#,
        servers.join(","),
        names.len()
    )
}
