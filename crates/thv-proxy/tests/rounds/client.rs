//! A client of the revision without sessions, and a server that the test plays.

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use thv_proxy::Body;
use tokio::task::JoinHandle;

pub use crate::common::played::Played;

const REVISION: &str = "2026-07-28";
/// What a state is answered with that is of no use.
pub const INVALID: i64 = -32602;

/// Everything that a client can be asked for.
pub fn all() -> Value {
    json!({"sampling": {}, "elicitation": {}, "roots": {}})
}

pub fn request(method: &str, params: &Value, able: &Value, accept: &str) -> Request<Body> {
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

pub async fn message(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&bytes).unwrap().trim();
    let text = text.strip_prefix("event: message\ndata: ").unwrap_or(text);
    let message: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(message["id"], 7, "{message}");
    message
}

impl Played {
    /// A request under way.
    pub fn ask(&self, method: &str, params: &Value, able: &Value) -> JoinHandle<Value> {
        let asking = self
            .service
            .ask(request(method, params, able, "application/json"));
        tokio::spawn(async move { message(asking.await).await })
    }

    /// A call of the tool `t` by a client that can be asked for everything.
    pub fn call(&self, more: &Value) -> JoinHandle<Value> {
        let mut params = json!({"name": "t", "arguments": {"a": 1}});
        params
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.ask("tools/call", &params, &all())
    }

    /// As [`call`](Self::call), with a change in the text of the message.
    pub fn call_changed(&self, more: &Value, from: &str, to: &str) -> impl Future<Output = Value> + use<> {
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
    pub async fn arrived(&mut self) {
        self.wire
            .write(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#)
            .await;
        let answer = self.wire.next().await.unwrap();
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
    }

    pub async fn server_asks(&mut self, id: i64, method: &str) {
        let asked = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"of": id}});
        self.wire.write(&asked.to_string()).await;
    }

    pub async fn server_answers(&mut self, id: &Value, text: &str) {
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"content": [text]}});
        self.wire.write(&answer.to_string()).await;
    }

    /// A call that the server names when it asks its client `id`: its id at the server, and what the client is told.
    pub async fn asked_by_name(&mut self, id: i64) -> (Value, JoinHandle<Value>) {
        self.asked_at_length(id, 0).await
    }

    /// As [`asked_by_name`](Self::asked_by_name), a question with a text of that length.
    pub async fn asked_at_length(&mut self, id: i64, length: usize) -> (Value, JoinHandle<Value>) {
        let calling = self.call(&json!({"_meta": {"progressToken": id}}));
        let call = self.wire.next().await.unwrap();
        let token = &call["params"]["_meta"]["progressToken"];
        let params = json!({"text": "x".repeat(length), "_meta": {"progressToken": token}});
        let asked = json!({"jsonrpc": "2.0", "id": id, "method": "roots/list", "params": params});
        self.wire.write(&asked.to_string()).await;
        (call["id"].clone(), calling)
    }

    /// A call that is kept while its client is asked `id`: its id at the server, and what the client was told.
    pub async fn kept(&mut self, id: i64) -> (Value, Value) {
        let calling = self.call(&json!({}));
        let call = self.wire.next().await.unwrap();
        self.server_asks(id, "elicitation/create").await;
        let told = calling.await.unwrap();
        (call["id"].clone(), told["result"].clone())
    }
}

/// What a client says to go on: the same answer to everything.
pub fn retry(told: &Value, answer: &Value) -> Value {
    assert_eq!(told["resultType"], "input_required", "{told}");
    let asked = told["inputRequests"].as_object().unwrap();
    let answers: serde_json::Map<_, _> = asked.keys().map(|key| (key.clone(), answer.clone())).collect();
    json!({"requestState": told["requestState"], "inputResponses": answers})
}

pub fn yes() -> Value {
    json!({"action": "accept", "content": {"x": 1}})
}

pub fn complete(text: &str) -> Value {
    json!({"content": [text], "resultType": "complete"})
}
