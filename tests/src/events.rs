//! A stream of server-sent events, read by hand: the SSE transport is gone from the client that the tests use.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::{Response, WAIT, request};

/// A session over the SSE transport.
#[derive(Debug)]
pub struct SseSession {
    port: u16,
    lines: Lines<BufReader<OwnedReadHalf>>,
    endpoint: String,
    _to: tokio::net::tcp::OwnedWriteHalf,
}

impl SseSession {
    /// Opens `/sse` and awaits the endpoint to post to.
    ///
    /// # Panics
    /// When there is none.
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("the port is open");
        let (from, mut to) = stream.into_split();
        let head =
            format!("GET /sse HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: text/event-stream\r\n\r\n");
        to.write_all(head.as_bytes()).await.expect("the request is taken");
        let lines = BufReader::new(from).lines();
        let mut session = Self {
            port,
            lines,
            endpoint: String::new(),
            _to: to,
        };
        let endpoint = session.data().await;
        // A path, or an absolute URL of this very proxy.
        let origin = format!("http://127.0.0.1:{port}");
        endpoint
            .strip_prefix(&origin)
            .unwrap_or(&endpoint)
            .clone_into(&mut session.endpoint);
        session
    }

    /// Where messages are posted to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Posts a message.
    pub async fn post(&self, message: &Value) -> Response {
        let headers = [("content-type", "application/json")];
        request(self.port, "POST", &self.endpoint, &headers, message.to_string()).await
    }

    /// Posts a request and awaits the answer with its id.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn ask(&mut self, message: &Value) -> Value {
        let response = self.post(message).await;
        assert_eq!(response.status, 202, "{}", response.text());
        loop {
            let answer: Value = serde_json::from_str(&self.data().await).expect("events are JSON");
            if answer["id"] == message["id"] {
                return answer;
            }
        }
    }

    async fn data(&mut self) -> String {
        let next = async {
            loop {
                let line = self
                    .lines
                    .next_line()
                    .await
                    .expect("the stream goes on")
                    .expect("the stream goes on");
                if let Some(data) = line.strip_prefix("data:") {
                    return data.trim().to_owned();
                }
            }
        };
        tokio::time::timeout(WAIT, next).await.expect("an event")
    }
}
