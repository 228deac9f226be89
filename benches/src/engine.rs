//! An engine by its own API, over its socket: the reference beside our adapter.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// An engine that answers.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// The engine at `THV_TEST_SOCKET`, by default `/var/run/docker.sock`.
    pub async fn find() -> Option<Self> {
        let socket = std::env::var_os("THV_TEST_SOCKET").unwrap_or_else(|| "/var/run/docker.sock".into());
        let engine = Self {
            socket: socket.into(),
        };
        UnixStream::connect(&engine.socket).await.ok()?;
        Some(engine)
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes an image of one program and nothing else.
    ///
    /// # Panics
    /// When the engine does not take it.
    pub async fn import(&self, program: &Path, repository: &str, tag: &str) -> String {
        let program = std::fs::read(program).expect("the program");
        let mut header = tar::Header::new_gnu();
        header.set_size(program.len() as u64);
        header.set_mode(0o755);
        let mut archive = tar::Builder::new(Vec::new());
        archive
            .append_data(&mut header, "echo-server", program.as_slice())
            .expect("memory takes it");
        let archive = archive.into_inner().expect("memory takes it");
        let path = format!(
            "/images/create?fromSrc=-&repo={repository}&tag={tag}&changes=ENTRYPOINT%20%5B%22%2Fecho-server%22%5D"
        );
        self.call(Method::POST, &path, "application/x-tar", archive).await;
        format!("{repository}:{tag}")
    }

    /// Pulls the manifest with this digest.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn pull(&self, repository: &str, digest: &str) {
        let path = format!("/images/create?fromImage={repository}&tag={digest}");
        let told = self.call(Method::POST, &path, "", Vec::new()).await;
        let told = String::from_utf8_lossy(&told);
        assert!(!told.contains("errorDetail"), "{told}");
    }

    /// Removes an image.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn remove_image(&self, reference: &str) {
        let path = format!("/images/{reference}?force=true");
        self.call(Method::DELETE, &path, "", Vec::new()).await;
    }

    /// Creates a container that reads its standard input.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn create(&self, name: &str, image: &str) -> Container {
        self.create_logged_by(name, image, "").await
    }

    /// As [`create`](Self::create), with this log driver; none is named where it is the engine's own.
    ///
    /// # Panics
    /// As [`create`](Self::create).
    pub async fn create_logged_by(&self, name: &str, image: &str, driver: &str) -> Container {
        let host = json!({ "LogConfig": { "Type": driver } });
        self.create_with(name, image, &host).await
    }

    /// As [`create`](Self::create), with this `HostConfig`.
    ///
    /// # Panics
    /// As [`create`](Self::create).
    pub async fn create_with(&self, name: &str, image: &str, host: &Value) -> Container {
        let config = json!({
            "Image": image, "OpenStdin": true, "StdinOnce": true,
            "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
            "HostConfig": host,
        });
        let path = format!("/containers/create?name={name}");
        let body = config.to_string().into_bytes();
        let answer = self.call(Method::POST, &path, "application/json", body).await;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        Container {
            engine: self.clone(),
            id: answer["Id"].as_str().expect("an id").to_owned(),
        }
    }

    /// All its containers, as it tells them.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn list(&self) -> Value {
        let told = self.call(Method::GET, "/containers/json?all=true", "", Vec::new());
        serde_json::from_slice(&told.await).expect("JSON")
    }

    /// Kills a container's program.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn kill(&self, container: &str) {
        let path = format!("/containers/{container}/kill");
        self.call(Method::POST, &path, "", Vec::new()).await;
    }

    async fn call(&self, method: Method, path: &str, kind: &str, body: Vec<u8>) -> Bytes {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "engine")
            .header(CONTENT_TYPE, kind);
        let response = self
            .send(request.body(Full::from(body)).expect("a request"))
            .await;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .expect("an answer")
            .to_bytes();
        assert!(
            status.is_success() || status == StatusCode::NOT_MODIFIED,
            "{path}: {status} {}",
            String::from_utf8_lossy(&body)
        );
        body
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.expect("the engine");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.expect("an answer")
    }
}

/// A container.
#[derive(Debug)]
pub struct Container {
    engine: Engine,
    id: String,
}

impl Container {
    /// Connects to its standard streams, starts it and has `message` answered.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn start(&self, message: &str) -> TokioIo<Upgraded> {
        let path = format!("/containers/{}/attach?stream=1&stdin=1&stdout=1", self.id);
        let request = Request::post(path)
            .header(HOST, "engine")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "tcp");
        let response = self
            .engine
            .send(request.body(Full::default()).expect("a request"))
            .await;
        let upgraded = hyper::upgrade::on(response).await.expect("a stream");
        let mut stream = TokioIo::new(upgraded);
        self.launch().await;
        stream
            .write_all(format!("{message}\n").as_bytes())
            .await
            .expect("written");
        // Frames: a kind, three zeros, a length of four bytes, and so many bytes.
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut head = [0; 8];
            stream.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            let begin = line.len();
            line.resize(begin + length as usize, 0);
            stream.read_exact(&mut line[begin..]).await.expect("a frame");
        }
        stream
    }

    /// Closes its standard input and has the engine stop it.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn stop(&self, mut stream: TokioIo<Upgraded>) {
        stream.shutdown().await.expect("closed");
        self.end().await;
    }

    /// Starts it, and nothing else.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn launch(&self) {
        let path = format!("/containers/{}/start", self.id);
        self.engine.call(Method::POST, &path, "", Vec::new()).await;
    }

    /// Has the engine stop it.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn end(&self) {
        let path = format!("/containers/{}/stop?t=30", self.id);
        self.engine.call(Method::POST, &path, "", Vec::new()).await;
    }

    /// Kills its program. Returns when the engine says that it has ended.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn kill(&self) {
        self.engine.kill(&self.id).await;
        let path = format!("/containers/{}/wait", self.id);
        self.engine.call(Method::POST, &path, "", Vec::new()).await;
    }

    /// Removes it.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn remove(&self) {
        let path = format!("/containers/{}?v=true&force=true", self.id);
        self.engine.call(Method::DELETE, &path, "", Vec::new()).await;
    }
}
