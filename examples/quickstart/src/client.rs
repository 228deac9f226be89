//! As much of an MCP client over streamable HTTP as this example needs.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::Result;

const REVISION: &str = "2025-06-18";
const SESSION: &str = "mcp-session-id";
const MAX_ANSWER: usize = 1024 * 1024;

/// A session with a server.
pub(crate) struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    url: String,
    session: Option<String>,
    server: String,
}

impl Client {
    /// Initializes a session.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let http = Http::builder(TokioExecutor::new()).build_http();
        let mut client = Self {
            http,
            url: url.to_owned(),
            session: None,
            server: String::new(),
        };
        let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": REVISION, "capabilities": {},
            "clientInfo": { "name": "quickstart", "version": env!("CARGO_PKG_VERSION") },
        }});
        let response = client.post(&hello).await?;
        let session = response
            .headers()
            .get(SESSION)
            .map(|id| id.to_str().map(str::to_owned))
            .transpose()?;
        let result = result(response).await?;
        let info = &result["serverInfo"];
        client.server = format!(
            "{} {}",
            info["name"].as_str().unwrap_or("?"),
            info["version"].as_str().unwrap_or("?")
        );
        client.session = session;
        client
            .post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await?;
        Ok(client)
    }

    /// Name and version of the server.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Calls a tool with a text, and gives the text that it answers.
    pub(crate) async fn call(&self, tool: &str, text: &str) -> Result<String> {
        let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call",
            "params": { "name": tool, "arguments": { "text": text } } });
        let result = result(self.post(&call).await?).await?;
        let text = result["content"][0]["text"].as_str();
        Ok(text
            .ok_or_else(|| format!("a result without text: {result}"))?
            .to_owned())
    }

    async fn post(&self, message: &Value) -> Result<Response<Incoming>> {
        let mut request = Request::post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", REVISION);
        if let Some(session) = &self.session {
            request = request.header(SESSION, session);
        }
        let response = self
            .http
            .request(request.body(Full::from(message.to_string()))?)
            .await?;
        match response.status() {
            StatusCode::OK | StatusCode::ACCEPTED => Ok(response),
            status => Err(format!("the proxy answered {status}").into()),
        }
    }
}

/// The result in an answer, which is JSON or a stream of events with the answer as its last one.
async fn result(response: Response<Incoming>) -> Result<Value> {
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await?
        .to_bytes();
    let text = std::str::from_utf8(&body)?;
    let last = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("data:"))
        .unwrap_or(text);
    let mut answer: Value = serde_json::from_str(last)?;
    match answer.get("error") {
        Some(error) => Err(format!("the server answered with an error: {error}").into()),
        None => Ok(answer["result"].take()),
    }
}
