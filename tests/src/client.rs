//! An MCP client that nobody here wrote.

use std::time::Duration;

use rmcp::model::{CallToolRequestParams, ClientRequest, PingRequest, ProtocolVersion};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceExt};
use serde_json::Value;

/// What a client waits for an answer.
const ANSWER: Duration = Duration::from_mins(2);

/// A session over streamable HTTP.
#[derive(Debug)]
pub struct Client {
    service: RunningService<RoleClient, ()>,
}

impl Client {
    /// Initializes a session at an URL as `list` shows it.
    ///
    /// # Panics
    /// When that fails.
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url)
            .await
            .unwrap_or_else(|error| panic!("initialize at {url}: {error}"))
    }

    /// Initializes a session.
    pub async fn try_connect(url: &str) -> Result<Self, String> {
        let transport = StreamableHttpClientTransport::from_uri(url.to_owned());
        let service = in_time(().serve(transport)).await?;
        Ok(Self { service })
    }

    /// Begins to speak revision 2026-07-28, which has no sessions.
    ///
    /// # Panics
    /// When that fails.
    pub async fn connect_stateless(url: &str) -> Self {
        let transport = StreamableHttpClientTransport::from_uri(url.to_owned());
        let lifecycle = ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        };
        let service = in_time(().serve_with_lifecycle(transport, lifecycle)).await;
        let service = service.unwrap_or_else(|error| panic!("server/discover at {url}: {error}"));
        Self { service }
    }

    /// The revision that client and server have agreed on.
    pub fn revision(&self) -> String {
        let info = self.service.peer_info();
        info.map(|info| info.protocol_version.to_string())
            .unwrap_or_default()
    }

    /// The server's name, as it introduced itself.
    pub fn server(&self) -> String {
        self.service
            .peer_info()
            .and_then(|info| info.server_info.clone())
            .map(|server| server.name)
            .unwrap_or_default()
    }

    /// The names of its tools.
    ///
    /// # Panics
    /// When it does not say.
    pub async fn tools(&self) -> Vec<String> {
        let tools = in_time(self.service.list_all_tools()).await.expect("tools/list");
        tools.into_iter().map(|tool| tool.name.into_owned()).collect()
    }

    /// Calls a tool and gives the text it answers.
    ///
    /// # Panics
    /// When the call fails.
    pub async fn call(&self, tool: &str, arguments: Value) -> String {
        self.try_call(tool, arguments)
            .await
            .unwrap_or_else(|error| panic!("tools/call {tool}: {error}"))
    }

    /// Calls a tool and gives the text it answers; an error is the server's or the transport's.
    pub async fn try_call(&self, tool: &str, arguments: Value) -> Result<String, String> {
        let mut call = CallToolRequestParams::new(tool.to_owned());
        call.arguments = arguments.as_object().cloned();
        let result = in_time(self.service.call_tool(call)).await?;
        let text = result
            .content
            .iter()
            .filter_map(|content| content.as_text())
            .map(|text| text.text.as_str());
        let text = text.collect::<Vec<_>>().join("\n");
        if result.is_error == Some(true) {
            Err(text)
        } else {
            Ok(text)
        }
    }

    /// Pings the server.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn ping(&self) {
        let ping = ClientRequest::PingRequest(PingRequest::default());
        in_time(self.service.send_request(ping)).await.expect("ping");
    }

    /// Ends the session.
    pub async fn close(self) {
        // A server that is gone by now has ended it too.
        let _ = in_time(self.service.cancel()).await;
    }
}

async fn in_time<T, E: std::fmt::Display>(work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    // The client's futures are large.
    match tokio::time::timeout(ANSWER, Box::pin(work)).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {ANSWER:?}")),
    }
}
