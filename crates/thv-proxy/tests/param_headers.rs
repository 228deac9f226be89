//! Headers that say what arguments of a tool's call say, since revision 2026-07-28.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::played::Played;
use common::wire;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use thv_proxy::{Body, BridgeConfig, ProxyService, StdioBridge};
use tokio::task::JoinHandle;

const REVISION: &str = "2026-07-28";
const MISMATCH: i64 = -32020;

/// A bridge whose server has said that it can do this.
async fn played(capabilities: Value) -> Played {
    let (io, mut wire) = wire();
    let bridge = StdioBridge::new(io, BridgeConfig::default()).unwrap();
    let answering = async {
        let asked = wire.next().await.unwrap();
        let result = json!({"protocolVersion": "2025-11-25", "capabilities": capabilities,
            "serverInfo": {"name": "fake", "version": "1"}});
        wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string())
            .await;
        assert_eq!(wire.next().await.unwrap()["method"], "notifications/initialized");
    };
    let (ready, ()) = tokio::join!(bridge.initialize(), answering);
    ready.unwrap();
    Played {
        service: bridge.clone().into_service(),
        bridge,
        wire,
    }
}

/// One tool whose argument `region` has a header.
fn tool() -> Value {
    json!({"name": "sql", "inputSchema": {"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}}}})
}

/// What a client gets: the status, and the code of its error or none.
type Outcome = (StatusCode, Option<i64>);

fn ask(
    service: &ProxyService,
    method: &str,
    params: &Value,
    headers: &[(&str, &str)],
) -> JoinHandle<Outcome> {
    let mut params = params.clone();
    params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientCapabilities": {}});
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let mut request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", REVISION)
        .header("mcp-method", method);
    if let Some(name) = params["name"].as_str() {
        request = request.header("mcp-name", name);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let asking = service.ask(request.body(Body::full(message.to_string())).unwrap());
    tokio::spawn(async move {
        let answer = asking.await;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&bytes).unwrap().trim();
        let text = text.strip_prefix("event: message\ndata: ").unwrap_or(text);
        let message: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(message["id"], 7, "{message}");
        (status, message["error"]["code"].as_i64())
    })
}

fn call(service: &ProxyService, region: &str, headers: &[(&str, &str)]) -> JoinHandle<Outcome> {
    let params = json!({"name": "sql", "arguments": {"region": region, "query": "q"}});
    ask(service, "tools/call", &params, headers)
}

/// The server is asked with `method`, and answers.
async fn answered(played: &mut Played, method: &str, result: Value) -> Value {
    let next = tokio::time::timeout(Duration::from_mins(1), played.wire.next()).await;
    let asked = next.expect("the server is asked").unwrap();
    assert_eq!(asked["method"], method, "{asked}");
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result});
    played.wire.write(&answer.to_string()).await;
    asked
}

const FINE: Outcome = (StatusCode::OK, None);
const REFUSED: Outcome = (StatusCode::BAD_REQUEST, Some(MISMATCH));

#[tokio::test]
async fn a_call_whose_headers_say_something_else_does_not_reach_the_server() {
    let mut played = played(json!({"tools": {}})).await;
    let listing = ask(&played.service, "tools/list", &json!({}), &[]);
    answered(&mut played, "tools/list", json!({"tools": [tool()]})).await;
    assert_eq!(listing.await.unwrap(), FINE);
    for headers in [
        &[][..],
        &[("mcp-param-region", "eu")],
        &[("mcp-param-region", "us"), ("mcp-param-region", "us")],
        &[("mcp-param-region", "=?base64?dXM?=")],
    ] {
        assert_eq!(
            call(&played.service, "us", headers).await.unwrap(),
            REFUSED,
            "{headers:?}"
        );
    }
    for headers in [
        &[("Mcp-Param-Region", "us"), ("mcp-param-unknown", "x")][..],
        &[("mcp-param-region", "=?base64?dXM=?=")],
    ] {
        let calling = call(&played.service, "us", headers);
        let asked = answered(&mut played, "tools/call", json!({})).await;
        assert_eq!(asked["params"]["arguments"]["region"], "us");
        assert_eq!(calling.await.unwrap(), FINE, "{headers:?}");
    }
}

#[tokio::test]
async fn for_a_tool_on_no_list_the_server_is_asked_once_and_again_when_its_tools_have_changed() {
    let mut played = played(json!({"tools": {"listChanged": true}})).await;
    let parts = [
        json!({"tools": [{"name": "other"}], "nextCursor": "more"}),
        json!({"tools": [tool()]}),
    ];
    let calls: Vec<_> = ["us", "eu", "us"]
        .map(|said| call(&played.service, "us", &[("mcp-param-region", said)]))
        .into();
    for (part, cursor) in parts.into_iter().zip([Value::Null, json!("more")]) {
        let asked = answered(&mut played, "tools/list", part).await;
        assert_eq!(asked["params"]["cursor"], cursor);
    }
    for _ in 0..2 {
        answered(&mut played, "tools/call", json!({})).await;
    }
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    assert_eq!(outcomes, [FINE, REFUSED, FINE]);

    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    played.wire.write(changed).await;
    // The answer to it comes behind that.
    let other = ask(&played.service, "prompts/list", &json!({}), &[]);
    answered(&mut played, "prompts/list", json!({})).await;
    other.await.unwrap();
    let calling = call(&played.service, "us", &[("mcp-param-region", "eu")]);
    answered(&mut played, "tools/list", json!({"tools": [{"name": "sql"}]})).await;
    answered(&mut played, "tools/call", json!({})).await;
    assert_eq!(calling.await.unwrap(), FINE, "it has no such header any more");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lists_no_tools_is_called_all_the_same() {
    // Nothing is asked of one that has not said that it has tools.
    let mut without = played(json!({})).await;
    let calling = call(&without.service, "us", &[("mcp-param-region", "eu")]);
    answered(&mut without, "tools/call", json!({})).await;
    assert_eq!(calling.await.unwrap(), FINE);

    for answers in [true, false] {
        let mut played = played(json!({"tools": {}})).await;
        for first in [true, false] {
            let calling = call(&played.service, "us", &[]);
            if first {
                let asked = played.wire.next().await.unwrap();
                assert_eq!(asked["method"], "tools/list");
                if answers {
                    let refusal =
                        json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": 1, "message": "no"}});
                    played.wire.write(&refusal.to_string()).await;
                } else {
                    let told = played.wire.next().await.unwrap();
                    assert_eq!(told["method"], "notifications/cancelled");
                }
            }
            answered(&mut played, "tools/call", json!({})).await;
            assert_eq!(calling.await.unwrap(), FINE);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_list_longer_than_for_an_answer() {
    let Played {
        service,
        bridge,
        mut wire,
    } = played(json!({"tools": {}})).await;
    // Its tools are others each time that it is asked for them.
    let server = tokio::spawn(async move {
        while let Some(message) = wire.next().await {
            let answer = match message["method"].as_str() {
                Some("tools/list") => json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}),
                Some("tools/call") => json!({"jsonrpc": "2.0", "id": message["id"], "result": {}}),
                _ => continue,
            };
            wire.write(&answer.to_string()).await;
        }
    });
    let begun = tokio::time::Instant::now();
    let calls: Vec<_> = (0..20).map(|_| call(&service, "us", &[])).collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(begun.elapsed().as_secs(), 60);
    bridge.shutdown().await;
    server.await.unwrap();
}
