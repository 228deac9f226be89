//! An older server asks a client of the revision without sessions: in the answer to its call, round by round.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Wire, wire};
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use thv_proxy::{Body, BridgeConfig, ProxyService, StdioBridge};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const REVISION: &str = "2026-07-28";
const INVALID: i64 = -32602;

struct Played {
    bridge: StdioBridge,
    service: ProxyService,
    wire: Wire,
}

/// Everything that a client can be asked for.
fn all() -> Value {
    json!({"sampling": {}, "elicitation": {}, "roots": {}})
}

fn request(method: &str, params: &Value, able: &Value, accept: &str) -> Request<Body> {
    let mut params = params.clone();
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(REVISION);
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = able.clone();
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let mut request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", accept)
        .header("mcp-protocol-version", REVISION)
        .header("mcp-method", method);
    if let Some(name) = params.get("name").or(params.get("uri")) {
        request = request.header("mcp-name", name.as_str().unwrap());
    }
    request.body(Body::full(message.to_string())).unwrap()
}

async fn message(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&bytes).unwrap().trim();
    let text = text.strip_prefix("event: message\ndata: ").unwrap_or(text);
    let message: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(message["id"], 7, "{message}");
    message
}

impl Played {
    async fn new() -> Self {
        let (io, mut wire) = wire();
        let bridge = StdioBridge::new(io, BridgeConfig::default()).unwrap();
        let (ready, ()) = tokio::join!(bridge.initialize(), wire.handshake());
        ready.unwrap();
        Self {
            service: bridge.clone().into_service(),
            bridge,
            wire,
        }
    }

    /// A request under way.
    fn ask(&self, method: &str, params: &Value, able: &Value) -> JoinHandle<Value> {
        let asking = self
            .service
            .ask(request(method, params, able, "application/json"));
        tokio::spawn(async move { message(asking.await).await })
    }

    /// A call of the tool `t` by a client that can be asked for everything.
    fn call(&self, more: &Value) -> JoinHandle<Value> {
        let mut params = json!({"name": "t", "arguments": {"a": 1}});
        params
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.ask("tools/call", &params, &all())
    }

    /// As [`call`](Self::call), with a change in the text of the message.
    fn call_changed(&self, more: &Value, from: &str, to: &str) -> impl Future<Output = Value> + use<> {
        let mut params = json!({"name": "t", "arguments": {"a": 1}});
        params
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let request = request("tools/call", &params, &all(), "application/json");
        let (head, body) = request.into_parts();
        let (service, from, to) = (self.service.clone(), from.to_owned(), to.to_owned());
        async move {
            let bytes = body.collect().await.unwrap().to_bytes();
            let text = std::str::from_utf8(&bytes).unwrap();
            assert!(text.contains(&from));
            let changed = Request::from_parts(head, Body::full(text.replace(&from, &to)));
            message(service.ask(changed).await).await
        }
    }

    /// Everything that the server has written has arrived.
    async fn arrived(&mut self) {
        self.wire
            .write(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#)
            .await;
        let answer = self.wire.next().await.unwrap();
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
    }

    async fn server_asks(&mut self, id: i64, method: &str) {
        let asked = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"of": id}});
        self.wire.write(&asked.to_string()).await;
    }

    async fn server_answers(&mut self, id: &Value, text: &str) {
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"content": [text]}});
        self.wire.write(&answer.to_string()).await;
    }

    /// A call that is kept while its client is asked `id`: its id at the server, and what the client was told.
    async fn kept(&mut self, id: i64) -> (Value, Value) {
        let calling = self.call(&json!({}));
        let call = self.wire.next().await.unwrap();
        self.server_asks(id, "elicitation/create").await;
        let told = calling.await.unwrap();
        (call["id"].clone(), told["result"].clone())
    }
}

/// What a client says to go on: the same answer to everything.
fn retry(told: &Value, answer: &Value) -> Value {
    assert_eq!(told["resultType"], "input_required", "{told}");
    let asked = told["inputRequests"].as_object().unwrap();
    let answers: serde_json::Map<_, _> = asked.keys().map(|key| (key.clone(), answer.clone())).collect();
    json!({"requestState": told["requestState"], "inputResponses": answers})
}

fn yes() -> Value {
    json!({"action": "accept", "content": {"x": 1}})
}

fn complete(text: &str) -> Value {
    json!({"content": [text], "resultType": "complete"})
}

#[tokio::test]
async fn a_call_goes_on_with_what_the_client_answers_as_often_as_the_server_asks() {
    let mut bridge = Played::new().await;
    let (call, told) = bridge.kept(11).await;
    let asked: Vec<_> = told["inputRequests"].as_object().unwrap().values().collect();
    let question = json!({"method": "elicitation/create", "params": {"of": 11}});
    assert_eq!(asked, [&question], "nothing of JSON-RPC is in it");
    let state = told["requestState"].as_str().unwrap();
    assert!(!state.is_empty());
    assert!(!format!("{:?}", bridge.bridge).contains(state), "it is a secret");
    assert_eq!(bridge.bridge.stats().in_flight, 1, "the call is kept");

    let calling = bridge.call(&retry(&told, &yes()));
    let answer = bridge.wire.next().await.unwrap();
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 11, "result": yes()}));
    bridge.server_asks(12, "sampling/createMessage").await;
    let told = calling.await.unwrap()["result"].clone();
    assert_ne!(told["requestState"], state);
    let calling = bridge.call(&retry(&told, &json!({"role": "assistant"})));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 12);
    bridge.server_answers(&call, "done").await;
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
    assert_eq!(bridge.bridge.stats().in_flight, 0);
}

#[tokio::test]
async fn what_is_asked_at_one_time_is_answered_at_one_time_or_asked_again() {
    let mut bridge = Played::new().await;
    let calling = bridge.call(&json!({}));
    let call = bridge.wire.next().await.unwrap()["id"].clone();
    let lines = [
        json!({"jsonrpc": "2.0", "id": "a", "method": "elicitation/create", "params": {}}),
        json!({"jsonrpc": "2.0", "id": "b", "method": "roots/list"}),
    ];
    bridge.wire.write(&format!("{}\n{}", lines[0], lines[1])).await;
    let told = calling.await.unwrap()["result"].clone();
    let asked = told["inputRequests"].as_object().unwrap();
    assert_eq!(asked.len(), 2, "{told}");
    let (roots, other): (Vec<_>, Vec<_>) = asked
        .iter()
        .partition(|(_, asked)| asked["method"] == "roots/list");
    assert_eq!(roots[0].1, &json!({"method": "roots/list"}));

    // One answer is there, one is none, and one was not asked for.
    let answers = json!({roots[0].0: {"roots": []}, other[0].0: "yes", "q999": {}});
    let again = json!({"requestState": told["requestState"], "inputResponses": answers});
    let told = bridge.call(&again).await.unwrap()["result"].clone();
    let answer = bridge.wire.next().await.unwrap();
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": "b", "result": {"roots": []}})
    );
    let left: Vec<_> = told["inputRequests"].as_object().unwrap().keys().collect();
    assert_eq!(left, [other[0].0]);

    // The server takes its question back: there is nothing more to ask.
    let cancelled =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "a"}});
    bridge.wire.write(&cancelled.to_string()).await;
    bridge.server_answers(&call, "done").await;
    bridge.arrived().await;
    let calling = bridge.call(&json!({"requestState": told["requestState"]}));
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
    bridge.bridge.shutdown().await;
    assert_eq!(bridge.wire.next().await, None, "nothing was said about it");
}

#[tokio::test]
async fn a_state_is_good_for_its_own_call_and_once() {
    let mut bridge = Played::new().await;
    let (call, told) = bridge.kept(11).await;
    let good = retry(&told, &yes());
    let mut other_arguments = good.clone();
    other_arguments["arguments"] = json!({"a": 2});
    let mut more = good.clone();
    more["cursor"] = json!("c");
    let mut guessed = good.clone();
    guessed["requestState"] = json!("00000000000040008000000000000000");
    let mut written_otherwise = good.clone();
    let state = good["requestState"].as_str().unwrap();
    written_otherwise["requestState"] = json!(state.to_uppercase());
    let mut no_text = good.clone();
    no_text["requestState"] = json!(5);
    let mut no_object = good.clone();
    no_object["inputResponses"] = json!([yes()]);
    for (what, params) in [
        ("other arguments", &other_arguments),
        ("more parameters", &more),
        ("a guessed state", &guessed),
        ("a state that is written otherwise", &written_otherwise),
        ("a state that is no text", &no_text),
        ("answers that are no object", &no_object),
    ] {
        let refused = bridge.call(params).await.unwrap();
        assert_eq!(refused["error"]["code"], INVALID, "{what}: {refused}");
    }
    let twice = format!(r#""requestState":"x","requestState":"{state}""#);
    let refused = bridge
        .call_changed(&good, r#""requestState":"#, &format!("{twice},\"x\":"))
        .await;
    assert_eq!(refused["error"]["code"], INVALID, "two states");
    let mut of_another = good.clone();
    of_another["name"] = json!("u");
    of_another["arguments"] = json!({"a": 1});
    let refused = bridge.ask("tools/call", &of_another, &all()).await.unwrap();
    assert_eq!(refused["error"]["code"], INVALID, "another tool");
    of_another["name"] = json!("t");
    let refused = bridge.ask("prompts/get", &of_another, &all()).await.unwrap();
    assert_eq!(refused["error"]["code"], INVALID, "another method");

    let calling = bridge.call(&good);
    let answer = bridge.wire.next().await.unwrap();
    assert_eq!(answer["id"], 11, "nothing of all that reached the server");
    let refused = bridge.call(&good).await.unwrap();
    assert_eq!(refused["error"]["code"], INVALID, "used already");
    bridge.server_answers(&call, "done").await;
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
}

#[tokio::test]
async fn an_answer_may_be_written_over_several_lines() {
    let mut bridge = Played::new().await;
    let (call, told) = bridge.kept(11).await;
    let again = retry(&told, &yes());
    let calling = bridge.call_changed(&again, r#"{"action""#, "{\r\n\t\"action\"");
    let server = async {
        let answer = bridge.wire.next().await.unwrap();
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 11, "result": yes()}));
        let done = json!({"jsonrpc": "2.0", "id": call, "result": {}});
        bridge.wire.write(&done.to_string()).await;
    };
    let (told, ()) = tokio::join!(calling, server);
    assert_eq!(told["result"], json!({"resultType": "complete"}));
}

#[tokio::test]
async fn nobody_is_asked_for_what_it_has_not_declared_or_where_it_cannot_answer() {
    let mut bridge = Played::new().await;
    let tool = json!({"name": "t"});
    for (method, params, able, asked) in [
        ("tools/call", &tool, json!({"sampling": {}}), "elicitation/create"),
        ("tools/call", &tool, json!({}), "roots/list"),
        (
            "tools/call",
            &tool,
            json!({"elicitation": {"url": {}}}),
            "elicitation/create",
        ),
        ("tools/call", &tool, json!({"tasks": {}}), "tasks/list"),
        ("completion/complete", &json!({}), all(), "roots/list"),
    ] {
        let calling = bridge.ask(method, params, &able);
        let call = bridge.wire.next().await.unwrap()["id"].clone();
        bridge.server_asks(3, asked).await;
        let refused = bridge.wire.next().await.unwrap();
        assert_eq!(
            (&refused["id"], &refused["error"]["code"]),
            (&json!(3), &json!(-32601))
        );
        bridge.server_answers(&call, "done").await;
        assert_eq!(calling.await.unwrap()["result"], complete("done"), "{method}");
    }
    // What a client can be asked for, it says anew each time.
    let (call, told) = bridge.kept(11).await;
    let mut again = retry(&told, &yes());
    again["name"] = json!("t");
    again["arguments"] = json!({"a": 1});
    let calling = bridge.ask("tools/call", &again, &json!({}));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 11);
    bridge.server_asks(12, "elicitation/create").await;
    assert_eq!(bridge.wire.next().await.unwrap()["error"]["code"], -32601);
    bridge.server_answers(&call, "done").await;
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
}

#[tokio::test]
async fn whose_call_it_was_must_be_known() {
    let mut bridge = Played::new().await;
    let mine = bridge.call(&json!({"_meta": {"progressToken": "mine"}}));
    let first = bridge.wire.next().await.unwrap();
    let other = bridge.call(&json!({}));
    let second = bridge.wire.next().await.unwrap();
    bridge.server_asks(3, "elicitation/create").await;
    let refused = bridge.wire.next().await.unwrap();
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(3), &json!(-32000))
    );
    let token = first["params"]["_meta"]["progressToken"].clone();
    let asked = json!({"jsonrpc": "2.0", "id": 4, "method": "roots/list", "params": {"_meta": {"progressToken": token}}});
    bridge.wire.write(&asked.to_string()).await;
    let told = mine.await.unwrap()["result"].clone();
    assert_eq!(told["resultType"], "input_required");
    bridge.server_answers(&second["id"], "other").await;
    assert_eq!(other.await.unwrap()["result"], complete("other"));
}

#[tokio::test]
async fn progress_goes_to_the_round_that_is_under_way() {
    let mut bridge = Played::new().await;
    let params = json!({"name": "t", "_meta": {"progressToken": "one"}});
    let first = request(
        "tools/call",
        &params,
        &all(),
        "application/json, text/event-stream",
    );
    let calling = tokio::spawn(bridge.service.ask(first));
    let call = bridge.wire.next().await.unwrap();
    bridge.server_asks(3, "roots/list").await;
    let told = message(calling.await.unwrap()).await["result"].clone();
    let token = &call["params"]["_meta"]["progressToken"];
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
    // Nobody listens now.
    bridge.wire.write(&progress.to_string()).await;
    bridge.arrived().await;
    let mut again = retry(&told, &json!({"roots": []}));
    again["name"] = json!("t");
    again["_meta"] = json!({"progressToken": "two"});
    let second = request(
        "tools/call",
        &again,
        &all(),
        "application/json, text/event-stream",
    );
    let calling = tokio::spawn(bridge.service.ask(second));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 3);
    bridge.wire.write(&progress.to_string()).await;
    bridge.server_answers(&call["id"], "done").await;
    let bytes = calling
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let text = std::str::from_utf8(&bytes).unwrap();
    assert_eq!(text.matches("notifications/progress").count(), 1, "{text}");
    assert!(
        text.contains(r#""progressToken":"two""#) && text.contains("done"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_come_back_has_given_its_call_up() {
    let mut bridge = Played::new().await;
    let (call, told) = bridge.kept(11).await;
    let began = Instant::now();
    let said = [
        bridge.wire.next().await.unwrap(),
        bridge.wire.next().await.unwrap(),
    ];
    assert_eq!(began.elapsed().as_secs(), 300);
    assert_eq!(said[0]["method"], "notifications/cancelled");
    assert_eq!(said[0]["params"]["requestId"], call);
    assert_eq!(
        (&said[1]["id"], &said[1]["error"]["code"]),
        (&json!(11), &json!(-32000))
    );
    assert_eq!(bridge.bridge.stats().in_flight, 0);
    let refused = bridge.call(&retry(&told, &yes())).await.unwrap();
    assert_eq!(refused["error"]["code"], INVALID);

    // Until the server says so, it may still ask because of that call.
    bridge.server_answers(&call, "given up").await;
    // Each round has the time of a call; what the client takes between them does not count.
    let (call, told) = bridge.kept(12).await;
    tokio::time::sleep(Duration::from_secs(299)).await;
    let calling = bridge.call(&retry(&told, &yes()));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 12);
    tokio::time::sleep(Duration::from_secs(59)).await;
    bridge.server_answers(&call, "done").await;
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
}

#[tokio::test]
async fn a_server_that_ends_meanwhile_has_ended_the_call() {
    let mut bridge = Played::new().await;
    let (_, told) = bridge.kept(11).await;
    let Played {
        bridge: handle,
        service,
        wire,
    } = bridge;
    drop(wire);
    handle.closed().await;
    bridge = Played {
        bridge: handle,
        service,
        wire: common::wire().1,
    };
    let failed = bridge.call(&retry(&told, &yes())).await.unwrap();
    assert_eq!(failed["error"]["code"], -32000, "{failed}");
    bridge.bridge.shutdown().await;
}

#[tokio::test]
async fn calls_that_are_kept_are_bounded_and_a_shutdown_ends_them() {
    let mut bridge = Played::new().await;
    for number in 0..257 {
        let calling = bridge.call(&json!({"_meta": {"progressToken": number}}));
        let call = bridge.wire.next().await.unwrap();
        let token = &call["params"]["_meta"]["progressToken"];
        let asked = json!({"jsonrpc": "2.0", "id": number, "method": "roots/list", "params": {"_meta": {"progressToken": token}}});
        bridge.wire.write(&asked.to_string()).await;
        if number < 256 {
            assert_eq!(calling.await.unwrap()["result"]["resultType"], "input_required");
        } else {
            let refused = bridge.wire.next().await.unwrap();
            assert_eq!(
                (&refused["id"], &refused["error"]["code"]),
                (&json!(256), &json!(-32000))
            );
            bridge.server_answers(&call["id"], "done").await;
            assert_eq!(
                calling.await.unwrap()["result"],
                complete("done"),
                "its call goes on"
            );
        }
    }
    assert_eq!(bridge.bridge.stats().in_flight, 256);
    bridge.bridge.shutdown().await;
    assert_eq!(bridge.bridge.stats().in_flight, 0);
}
