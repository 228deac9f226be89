//! The engine's API without our client, and a socket that can be cut.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

/// One exchange; the status and the body.
pub(crate) async fn api(socket: &Path, method: &str, path: &str, body: &Value) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    // HTTP/1.0: the answer is not in chunks, and its end is the end of the connection.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Creates a container, starts it, and gives its id.
pub(crate) async fn start_container(socket: &Path, name: &str, body: &Value) -> String {
    let (status, answer) = api(
        socket,
        "POST",
        &format!("/v1.41/containers/create?name={name}"),
        body,
    )
    .await;
    assert_eq!(status, 201, "{answer}");
    let id = serde_json::from_str::<Value>(&answer).unwrap()["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (status, answer) = api(
        socket,
        "POST",
        &format!("/v1.41/containers/{id}/start"),
        &Value::Null,
    )
    .await;
    assert_eq!(status, 204, "{answer}");
    id
}

/// A socket in front of the engine's. Dropping it is an engine that goes away.
#[derive(Debug)]
pub(crate) struct Front {
    path: PathBuf,
    serving: JoinHandle<()>,
}

impl Front {
    pub(crate) fn open(path: &Path, engine: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let engine = engine.to_owned();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut server = UnixStream::connect(&engine).await.unwrap();
                connections.spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            path: path.to_owned(),
            serving,
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}
