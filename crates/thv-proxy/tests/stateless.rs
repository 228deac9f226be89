//! Clients of the revision without sessions, 2026-07-28, with a server that is older.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Answer, Served, Wire, finish, read_until, with_server, with_wire};
use serde_json::{Value, json};
use thv_proxy::BridgeConfig;

const REVISION: &str = "2026-07-28";

/// Parameters with what every request of this revision has.
fn params(more: &Value) -> Value {
    let mut params = more.clone();
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    params
}

fn request(served: &Served, method: &str, more: &Value) -> reqwest::RequestBuilder {
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params(more)});
    let request = served
        .client
        .post(served.url("/mcp"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", REVISION)
        .header("mcp-method", method)
        .body(message.to_string());
    match more.get("name").or(more.get("uri")) {
        Some(name) => request.header("mcp-name", name.as_str().unwrap()),
        None => request,
    }
}

/// The message in an answer of one event, or of JSON.
fn message(answer: &Answer) -> Value {
    let text = answer.text.trim();
    let text = text.strip_prefix("event: message\ndata: ").unwrap_or(text);
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

/// As the server that can do everything: it is asked for its tools before the first call of one.
async fn list_nothing(wire: &mut Wire) {
    let asked = wire.next().await.unwrap();
    assert_eq!(asked["method"], "tools/list");
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"tools": []}});
    wire.write(&answer.to_string()).await;
}

/// What this end of the pipe does when it is a server that can do everything.
async fn initialize(wire: &mut Wire) {
    let asked = wire.next().await.unwrap();
    let result = json!({"protocolVersion": "2025-06-18", "serverInfo": {"name": "old", "version": "3"},
        "instructions": "be kind", "capabilities": {"tools": {"listChanged": true}, "prompts": {},
            "resources": {"subscribe": true, "listChanged": true}}});
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result});
    wire.write(&answer.to_string()).await;
    assert_eq!(wire.next().await.unwrap()["method"], "notifications/initialized");
}

#[tokio::test]
async fn a_request_needs_no_session_and_gets_what_is_new_in_its_answer() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let answering = async {
        initialize(&mut wire).await;
        list_nothing(&mut wire).await;
        let asked = wire.next().await.unwrap();
        assert_eq!(asked["method"], "tools/call");
        assert_eq!(asked["params"]["name"], "weather");
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"content": []}});
        wire.write(&answer.to_string()).await;
        let asked = wire.next().await.unwrap();
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no"}});
        wire.write(&answer.to_string()).await;
    };
    let asking = async {
        let call = request(
            &served,
            "tools/call",
            &json!({"name": "weather", "arguments": {}}),
        );
        let answer = finish(call).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!answer.headers.contains_key("mcp-session-id"));
        let expected =
            json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [], "resultType": "complete"}});
        assert_eq!(message(&answer), expected);
        let answer = finish(request(&served, "not/there", &json!({}))).await;
        assert_eq!(
            (answer.status, &message(&answer)["error"]["code"]),
            (404, &json!(-32601))
        );
    };
    tokio::join!(answering, asking);
    assert_eq!(served.bridge.stats().sessions, 0);
}

#[tokio::test]
async fn a_client_discovers_what_the_server_said_when_it_was_initialized() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let asking = finish(request(&served, "server/discover", &json!({})));
    let (answer, ()) = tokio::join!(asking, initialize(&mut wire));
    assert_eq!(answer.status, 200);
    let result = message(&answer)["result"].clone();
    let versions = json!(["2026-07-28", "2025-06-18", "2025-03-26", "2024-11-05"]);
    assert_eq!(result["supportedVersions"], versions);
    assert_eq!(
        (&result["resultType"], &result["instructions"]),
        (&json!("complete"), &json!("be kind"))
    );
    assert_eq!(result["capabilities"]["tools"], json!({"listChanged": true}));
    assert_eq!(
        result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "old"
    );
    assert!(result["ttlMs"].is_u64() && result["cacheScope"] == "private");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_the_code_of_the_protocol() {
    let served = with_server(BridgeConfig::default()).await;
    let bare = |body: Value, headers: &[(&str, &str)]| {
        let mut request = served.post_request(None, body.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
    };
    let version = ("mcp-protocol-version", REVISION);
    let (method, name) = (("mcp-method", "tools/call"), ("mcp-name", "t"));
    let call =
        json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params(&json!({"name": "t"}))});
    let mut future = call.clone();
    future["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2031-01-01");
    let mut lacking = call.clone();
    lacking["params"]["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": REVISION});
    let empty = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"});
    for (what, of_two) in [
        ("any of the two may be the server's", r#""name":"t","name":"u""#),
        ("the server reads it all the same", r#""n\u0061me":"u""#),
    ] {
        let text = call.to_string().replace(r#""name":"t""#, of_two);
        assert!(text.contains(of_two));
        let request = served.post_request(None, text).header(version.0, version.1);
        let answer = finish(request.header(method.0, method.1).header(name.0, name.1)).await;
        let code = &message(&answer)["error"]["code"];
        assert_eq!((answer.status, code), (400, &json!(-32020)), "{what}");
    }
    let escaped = call
        .to_string()
        .replace("io.modelcontextprotocol/", "io.modelcontextprotocol\\/");
    for (what, request, status, code) in [
        (
            "all is well",
            bare(call.clone(), &[version, method, name]),
            200,
            0,
        ),
        (
            "no header for the revision",
            bare(call.clone(), &[method, name]),
            400,
            -32020,
        ),
        (
            "another revision in the header",
            bare(
                call.clone(),
                &[("mcp-protocol-version", "2025-11-25"), method, name],
            ),
            400,
            -32020,
        ),
        (
            "no method in the headers",
            bare(call.clone(), &[version, name]),
            400,
            -32020,
        ),
        (
            "another method in the headers",
            bare(call.clone(), &[version, ("mcp-method", "tools/list"), name]),
            400,
            -32020,
        ),
        (
            "two methods in the headers",
            bare(call.clone(), &[version, method, method, name]),
            400,
            -32020,
        ),
        (
            "no name in the headers",
            bare(call.clone(), &[version, method]),
            400,
            -32020,
        ),
        (
            "another name in the headers",
            bare(call.clone(), &[version, method, ("mcp-name", "T")]),
            400,
            -32020,
        ),
        (
            "the name in Base64",
            bare(call.clone(), &[version, method, ("mcp-name", "=?base64?dA==?=")]),
            200,
            0,
        ),
        (
            "a revision that is to come",
            bare(future, &[("mcp-protocol-version", "2031-01-01"), method, name]),
            400,
            -32022,
        ),
        (
            "no capabilities",
            bare(lacking, &[version, method, name]),
            400,
            -32602,
        ),
        (
            "no metadata at all",
            bare(empty, &[version, ("mcp-method", "tools/list")]),
            400,
            -32602,
        ),
        (
            "an older message",
            bare(json!({"jsonrpc": "2.0", "id": 7, "method": "echo"}), &[]),
            200,
            0,
        ),
    ] {
        let answer = finish(request).await;
        let message = message(&answer);
        assert_eq!(
            (answer.status, &message["id"]),
            (status, &json!(7)),
            "{what}: {}",
            answer.text
        );
        assert_eq!(message["error"]["code"].as_i64().unwrap_or(0), code, "{what}");
        if code == -32022 {
            assert_eq!(message["error"]["data"]["requested"], "2031-01-01");
            assert_eq!(message["error"]["data"]["supported"][0], REVISION);
        }
    }
    let request = served.post_request(None, escaped).header(version.0, version.1);
    let answer = finish(request.header(method.0, method.1).header(name.0, name.1)).await;
    assert_eq!(
        answer.status, 200,
        "some write a slash with an escape: {}",
        answer.text
    );
}

#[tokio::test]
async fn what_the_revision_has_given_up_is_not_there() {
    let served = with_server(BridgeConfig::default()).await;
    for method in [
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
    ] {
        let answer = finish(request(&served, method, &json!({}))).await;
        assert_eq!(
            (answer.status, &message(&answer)["error"]["code"]),
            (404, &json!(-32601)),
            "{method}"
        );
    }
    for method in [reqwest::Method::GET, reqwest::Method::DELETE] {
        let request = served.client.request(method, served.url("/mcp"));
        let answer = finish(request.header("mcp-protocol-version", REVISION)).await;
        assert_eq!(
            (answer.status, answer.headers["allow"].to_str().unwrap()),
            (405, "POST")
        );
    }
}

#[tokio::test]
async fn a_client_that_goes_away_has_cancelled_its_call() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let asking = tokio::spawn(request(&served, "tools/call", &json!({"name": "slow"})).send());
    initialize(&mut wire).await;
    list_nothing(&mut wire).await;
    let asked = wire.next().await.unwrap();
    asking.abort();
    let told = tokio::time::timeout(Duration::from_mins(2), wire.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(told["method"], "notifications/cancelled");
    assert_eq!(told["params"]["requestId"], asked["id"]);
}

#[tokio::test]
async fn a_stream_brings_what_was_asked_for_and_nothing_else() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let filter = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true,
        "resourceSubscriptions": ["file:///a", "file:///refused"]}});
    let opening = tokio::spawn(request(&served, "subscriptions/listen", &filter).send());
    initialize(&mut wire).await;
    for accepted in [true, false] {
        let asked = wire.next().await.unwrap();
        assert_eq!(asked["method"], "resources/subscribe");
        let outcome = if accepted { "result" } else { "error" };
        wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], outcome: {}}).to_string())
            .await;
    }
    let mut stream = opening.await.unwrap().unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\n\n").await;
    let first: Value =
        serde_json::from_str(seen.trim().strip_prefix("event: message\ndata: ").unwrap()).unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    let agreed = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"]});
    assert_eq!(
        first["params"]["notifications"], agreed,
        "prompts do not change here"
    );
    assert_eq!(
        first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        7
    );

    for line in [
        r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///b"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
    ] {
        wire.write(line).await;
    }
    read_until(&mut stream, &mut seen, "tools/list_changed").await;
    let tag = r#""_meta":{"io.modelcontextprotocol/subscriptionId":7}"#;
    assert_eq!(seen.matches(tag).count(), 3, "{seen}");
    assert!(seen.contains("file:///a\"}}") && !seen.contains("file:///b") && !seen.contains("prompts/list"));

    drop(stream);
    let told = tokio::time::timeout(Duration::from_mins(2), wire.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(told["method"], "resources/unsubscribe");
    assert_eq!(told["params"]["uri"], "file:///a");
}

#[tokio::test]
async fn the_end_of_the_streams_is_a_result() {
    let served = with_server(BridgeConfig::default()).await;
    let mut stream = request(&served, "subscriptions/listen", &json!({"notifications": {}}))
        .send()
        .await
        .unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "acknowledged").await;
    served.bridge.end_streams();
    read_until(&mut stream, &mut seen, r#""resultType":"complete""#).await;
    while stream.chunk().await.unwrap().is_some() {}
}

/// A server that knows nothing of sessions: it refuses `initialize`.
#[tokio::test]
async fn a_server_without_sessions_serves_clients_of_both_kinds() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let server = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(asked) = wire.next().await {
            let meta = asked["params"]["_meta"].clone();
            let outcome = match asked["method"].as_str().unwrap() {
                "initialize" => json!({"error": {"code": -32601, "message": "no such method"}}),
                _ if meta["io.modelcontextprotocol/protocolVersion"] != REVISION => {
                    json!({"error": {"code": -32602, "message": "no metadata"}})
                }
                "server/discover" => json!({"result": {"resultType": "complete",
                    "supportedVersions": [REVISION], "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}},
                    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "new", "version": "1"}}}}),
                "tools/call" if asked["params"]["requestState"] == "s" => {
                    json!({"result": {"resultType": "complete", "of": asked["params"]["inputResponses"]}})
                }
                "tools/call" => json!({"result": {"resultType": "input_required", "requestState": "s"}}),
                _ => json!({"result": {"resultType": "complete", "meta": meta}}),
            };
            seen.push(asked["method"].as_str().unwrap().to_owned());
            let mut answer = json!({"jsonrpc": "2.0", "id": asked["id"]});
            answer
                .as_object_mut()
                .unwrap()
                .extend(outcome.as_object().unwrap().clone());
            wire.write(&answer.to_string()).await;
        }
        seen
    });
    assert_eq!(served.bridge.initialize().await.unwrap().name, "new");
    let session = served.open().await;
    let ping = served
        .post(Some(&session), r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
        .await;
    assert_eq!(
        message(&ping)["result"],
        json!({}),
        "who has a session may ask whether it is there"
    );
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"c"}}"#;
    let list = message(&served.post(Some(&session), list).await);
    let meta = &list["result"]["meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], REVISION);
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({}));

    let discovered = message(&finish(request(&served, "server/discover", &json!({}))).await);
    assert_eq!(discovered["result"]["supportedVersions"][0], REVISION);
    assert_eq!(
        discovered["result"]["capabilities"],
        json!({"tools": {"listChanged": true}, "resources": {}}),
        "changes of single resources are not passed on"
    );
    let call = message(&finish(request(&served, "tools/call", &json!({"name": "t"}))).await);
    assert_eq!(
        call["result"],
        json!({"resultType": "input_required", "requestState": "s"})
    );
    let again = json!({"name": "t", "requestState": "s", "inputResponses": {"k": {"action": "decline"}}});
    let call = message(&finish(request(&served, "tools/call", &again)).await);
    assert_eq!(
        call["result"]["of"],
        json!({"k": {"action": "decline"}}),
        "its states are its own"
    );
    let list = message(&finish(request(&served, "tools/list", &json!({}))).await);
    let meta = &list["result"]["meta"];
    assert_eq!(
        meta["io.modelcontextprotocol/clientInfo"]["name"], "test",
        "its own, untouched"
    );

    served.bridge.shutdown().await;
    let seen = server.await.unwrap();
    assert_eq!(
        seen,
        [
            "initialize",
            "server/discover",
            "subscriptions/listen",
            "tools/list",
            // Of the proxy itself, before the first call.
            "tools/list",
            "tools/call",
            "tools/call",
            "tools/list"
        ]
    );
}

#[tokio::test]
async fn changes_of_a_server_without_sessions_reach_clients_of_both_kinds() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let bridge = served.bridge.clone();
    let initializing = tokio::spawn(async move { bridge.initialize().await });
    let asked = wire.next().await.unwrap();
    let refusal = json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no"}});
    wire.write(&refusal.to_string()).await;
    let asked = wire.next().await.unwrap();
    let discovered = json!({"resultType": "complete", "supportedVersions": [REVISION],
        "capabilities": {"tools": {"listChanged": true}, "prompts": {"listChanged": false}, "resources": {}}});
    wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": discovered}).to_string())
        .await;
    let listening = wire.next().await.unwrap();
    assert_eq!(listening["method"], "subscriptions/listen");
    assert_eq!(
        listening["params"]["notifications"],
        json!({"toolsListChanged": true}),
        "what it says it tells of"
    );
    let meta = &listening["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], REVISION);
    initializing.await.unwrap().unwrap();
    assert_eq!(served.bridge.stats().in_flight, 0, "nobody waits for that");

    let session = served.open().await;
    let stream = served
        .client
        .get(served.url("/mcp"))
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &session);
    let mut with_session = stream.send().await.unwrap();
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let listen = request(&served, "subscriptions/listen", &filter);
    let mut without = listen.send().await.unwrap();
    let mut seen = String::new();
    read_until(&mut without, &mut seen, "acknowledged").await;

    let subscription = json!({"io.modelcontextprotocol/subscriptionId": listening["id"]});
    for method in [
        "notifications/subscriptions/acknowledged",
        "notifications/tools/list_changed",
    ] {
        let line = json!({"jsonrpc": "2.0", "method": method, "params": {"_meta": subscription}});
        wire.write(&line.to_string()).await;
    }
    read_until(&mut without, &mut seen, "tools/list_changed").await;
    let tag = r#""io.modelcontextprotocol/subscriptionId":7}"#;
    assert_eq!(seen.matches(tag).count(), 2, "each by its own: {seen}");
    let own = listening["id"].as_str().unwrap();
    assert!(!seen.contains(own), "{seen}");
    let mut seen = String::new();
    read_until(&mut with_session, &mut seen, "tools/list_changed").await;
    assert!(!seen.contains(own) && !seen.contains("acknowledged"), "{seen}");
}

#[tokio::test]
async fn a_notification_needs_no_session_and_is_of_none() {
    let served = with_server(BridgeConfig::default()).await;
    let message = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    for session in [None, Some("3e0e6b35-3c2e-4b6e-9f57-0b1f3a0d7a11")] {
        let request = served.post_request(session, message);
        let answer = finish(request.header("mcp-protocol-version", "2026-07-28")).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
}
