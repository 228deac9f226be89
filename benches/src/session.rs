//! A client of a proxy that looks at every answer.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has no figures")]

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::net::TcpStream;

/// One connection, with a session where there are some.
#[derive(Debug)]
pub struct Session {
    sender: http1::SendRequest<Full<Bytes>>,
    address: SocketAddr,
    path: &'static str,
    id: Option<http::HeaderValue>,
}

impl Session {
    /// Connects, and initializes where there are sessions.
    ///
    /// # Errors
    /// Says what went wrong.
    pub async fn open(address: SocketAddr, path: &'static str, opens: bool) -> Result<Self, String> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut session = Self {
            sender,
            address,
            path,
            id: None,
        };
        if opens {
            let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
            let response = session.post(hello.into()).await?;
            session.id = response.headers().get("mcp-session-id").cloned();
            read(response, b"result").await?;
            let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
            let response = session.post(initialized.into()).await?;
            let _ = response.into_body().collect().await;
        }
        Ok(session)
    }

    /// Has `payload` echoed by `tool` and checks the answer.
    ///
    /// # Errors
    /// Says what went wrong, or what was answered instead.
    pub async fn call(&mut self, number: usize, tool: &str, payload: &str) -> Result<(), String> {
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"text":"{payload}"}}}}}}"#
        );
        let response = self.post(message).await?;
        let answer = read(response, b"\"result\"").await?;
        let id = [format!("\"id\":{number}"), format!("\"id\": {number}")];
        let right = memmem::find(&answer, payload.as_bytes()).is_some()
            && id.iter().any(|id| memmem::find(&answer, id.as_bytes()).is_some());
        right.then_some(()).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
            format!("a wrong answer: {shown}")
        })
    }

    /// Has a call begun that goes on without end. Returns when its server is at it.
    ///
    /// # Errors
    /// Says what went wrong, or what was answered instead.
    pub async fn begin(mut self) -> Result<UnderWay, String> {
        let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"progress","arguments":{"steps":1000000,"ms":20},"_meta":{"progressToken":"p"}}}"#;
        let mut call = UnderWay {
            answer: self.post(call.into()).await?.into_body(),
            _session: self,
        };
        call.until(b"notifications/progress").await?;
        Ok(call)
    }

    async fn post(&mut self, message: String) -> Result<Response<Incoming>, String> {
        let mut request = Request::post(self.path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(Full::from(message))
            .unwrap();
        if let Some(id) = &self.id {
            request.headers_mut().insert("mcp-session-id", id.clone());
        }
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        if response.status().is_success() {
            Ok(response)
        } else {
            let status = response.status();
            let body = response
                .into_body()
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            Err(format!(
                "status {status}: {}",
                String::from_utf8_lossy(&body[..body.len().min(200)])
            ))
        }
    }
}

/// A call that its server is at.
#[derive(Debug)]
pub struct UnderWay {
    answer: Incoming,
    _session: Session,
}

impl UnderWay {
    /// Returns when it is answered with an error.
    ///
    /// # Errors
    /// Says what went wrong.
    pub async fn failed(mut self) -> Result<(), String> {
        self.until(b"\"error\"").await
    }

    async fn until(&mut self, expected: &[u8]) -> Result<(), String> {
        while let Some(frame) = self.answer.frame().await {
            let frame = frame.map_err(|error| error.to_string())?;
            let data = frame.into_data().unwrap_or_default();
            if memmem::find(&data, expected).is_some() {
                return Ok(());
            }
        }
        Err("the answer ended".to_owned())
    }
}

/// The whole body, which has to hold this.
async fn read(response: Response<Incoming>, expected: &[u8]) -> Result<Bytes, String> {
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    if memmem::find(&body, expected).is_some() {
        return Ok(body);
    }
    Err(format!(
        "no answer: {}",
        String::from_utf8_lossy(&body[..body.len().min(200)])
    ))
}
