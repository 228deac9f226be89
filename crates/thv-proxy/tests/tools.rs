//! Tools that clients do not see, or see under other names.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use common::{finish, read_until, run_server, wire};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use thv_core::{ProxyMode, ToolOverride};
use thv_proxy::{Body, BridgeConfig, Layer, ProxyService, ServeOptions, StdioBridge, ToolPolicy, serve};
use tokio_util::sync::CancellationToken;

/// `secret` is not there, and `fetch` is called `get`.
fn policy() -> ToolPolicy {
    let get = ToolOverride {
        name: "get".into(),
        description: "Gets".into(),
        ..ToolOverride::default()
    };
    let filter = ["get", "plain"].map(String::from);
    ToolPolicy::new(&filter, &BTreeMap::from([("fetch".to_owned(), get)])).unwrap()
}

/// A bridge whose server answers with the params of the request.
async fn filtered(mode: ProxyMode) -> SocketAddr {
    let (io, wire) = wire();
    tokio::spawn(run_server(wire));
    let config = BridgeConfig {
        mode,
        ..BridgeConfig::default()
    };
    let layers = [Layer::tool_lists(policy()), Layer::tool_calls(policy(), 1 << 20)];
    let service = StdioBridge::new(io, config)
        .unwrap()
        .into_service()
        .within(&layers);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(
        listener,
        service,
        ServeOptions::default(),
        CancellationToken::new(),
    ));
    address
}

fn post(url: &str, body: &str) -> reqwest::RequestBuilder {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client
        .post(url)
        .header("content-type", "application/json")
        .body(body.to_owned())
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"tools":[{"name":"fetch"},{"name":"secret"},{"name":"plain"}]}}"#;
const SEEN: &str = r#"{"tools":[{"name":"get","description":"Gets"},{"name":"plain"}]}"#;

fn call(name: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{name},"arguments":{{}}}}}}"#)
}

#[tokio::test]
async fn lists_are_filtered_as_json_and_as_events() {
    let url = format!("http://{}/mcp", filtered(ProxyMode::StreamableHttp).await);
    for accept in ["application/json", "application/json, text/event-stream"] {
        let text = finish(post(&url, LIST).header("accept", accept)).await.text;
        assert!(text.contains(SEEN), "{text}");
        assert_eq!(
            text.starts_with("event: message\ndata: "),
            accept.contains("stream")
        );
    }
}

#[tokio::test]
async fn calls_reach_the_server_under_its_names_and_no_other_tool_is_there() {
    let url = format!("http://{}/mcp", filtered(ProxyMode::StreamableHttp).await);
    for (name, reached) in [
        (r#""get""#, r#""name":"fetch""#),
        (r#""g\u0065t""#, r#""name":"fetch""#),
        (r#""plain""#, r#""name":"plain""#),
        (r#""fetch""#, "tool not found"),
        (r#""secret""#, "tool not found"),
        (r#""s\u0065cret""#, "tool not found"),
        (r#""plain","name":"secret""#, "tool not found"),
        ("7", "tool not found"),
        (r#""\ud800""#, "tool not found"),
        (r#""plain\udfff""#, "tool not found"),
    ] {
        let request = post(&url, &call(name)).header("accept", "application/json, text/event-stream");
        let answer = finish(request).await;
        assert!(
            answer.status == 200 && answer.text.contains(reached),
            "{name}: {}",
            answer.text
        );
    }
    let hidden = call(r#""plain""#);
    for (from, to) in [
        (r#""name":"#, r#""n\u0061me":"secret","name":"#),
        (r#""name":"#, r#""Name":"secret","name":"#),
        (r#""name":"#, r#""NAM\u0045":"secret","name":"#),
        (r#""method":"#, r#""Method":"ping","method":"#),
        ("tools/call", r"tools\/call"),
        (r#""jsonrpc":"2.0","#, ""),
        (r#""id":1"#, r#""id":1,"method":"ping""#),
    ] {
        let answer = finish(post(&url, &hidden.replace(from, to))).await;
        assert_eq!(answer.status, 400, "{to}: {}", answer.text);
    }
    let put = post(&url, &call(r#""secret""#)).build().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let put = client
        .put(url)
        .body(put.body().unwrap().as_bytes().unwrap().to_vec());
    assert_eq!(finish(put).await.status, 405);
}

#[tokio::test]
async fn the_stream_of_an_sse_client_is_filtered() {
    let address = filtered(ProxyMode::Sse).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut stream = client.get(format!("http://{address}/sse")).send().await.unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\n\n").await;
    let endpoint = seen
        .strip_prefix("event: endpoint\ndata: ")
        .unwrap()
        .trim()
        .to_owned();
    assert_eq!(finish(post(&endpoint, LIST)).await.status, 202);
    read_until(&mut stream, &mut seen, SEEN).await;
    assert!(!seen.contains("secret"), "{seen}");
    let refused = finish(post(&endpoint, &call(r#""secret""#))).await;
    assert!(
        refused.status == 400 && refused.text.contains("-32602"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn the_name_in_the_headers_is_the_one_that_is_called() {
    let url = format!("http://{}/mcp", filtered(ProxyMode::StreamableHttp).await);
    let message = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get","_meta":{
        "io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    for (names, expected) in [
        (&["get"][..], 200),
        (&["fetch"], 400),
        (&["plain"], 400),
        (&["get", "plain"], 400),
        (&["get", "get"], 400),
        (&[], 400),
    ] {
        let mut request = post(&url, message)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call");
        for name in names {
            request = request.header("mcp-name", *name);
        }
        let answer = finish(request).await;
        assert_eq!(answer.status, expected, "{names:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_not_asked_for_and_not_passed_on() {
    let list = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"secret"}]}}"#;
    for (kind, coding, status) in [
        ("application/json", "gzip", 502),
        ("text/event-stream", "br", 502),
        ("application/json", "identity", 200),
        ("Application/JSON", "identity", 200),
        ("Text/Event-Stream", "identity", 200),
        // Some clients read what says to be something else.
        ("text/plain", "identity", 200),
    ] {
        let server = ProxyService::new(move |request: Request<Body>| async move {
            assert_eq!(request.headers()["accept-encoding"], "identity");
            let text = if kind.to_lowercase().ends_with("stream") {
                format!("data: {list}\n\n")
            } else {
                list.to_owned()
            };
            let response = Response::builder()
                .header("content-type", "text/plain")
                .header("content-type", kind)
                .header("content-encoding", coding);
            response.body(Body::full(text)).unwrap()
        });
        let request = Request::get("/").header("accept-encoding", "gzip");
        let service = server.within(&[Layer::tool_lists(policy())]);
        let answer = service.ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), status, "{kind} {coding}");
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }
}
