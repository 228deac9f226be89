//! JSON-RPC and MCP: from one message to its answer, on any transport.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::options::Options;
use crate::tools::{self, CallError};

/// The MCP revisions that this server speaks, newest last.
pub(crate) const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) version: String,
    /// Random, new for each process: a client sees a restart.
    pub(crate) instance: String,
    pub(crate) no_answer: bool,
    pub(crate) garbage: bool,
}

/// Takes the notifications that a call sends before its answer.
pub(crate) type Notify<'a> = &'a dyn Fn(String);

/// A message, parsed once.
#[derive(Debug)]
pub(crate) enum Incoming {
    One(Result<Message, RpcError>),
    Batch(Vec<Result<Message, RpcError>>),
}

/// A request (with an id) or a notification. A response has no method.
#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    /// As it was sent, so that it goes back byte for byte.
    id: Option<Box<RawValue>>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
}

#[derive(Debug)]
pub(crate) struct RpcError {
    code: i64,
    message: String,
}

impl Server {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            version: options.version.clone(),
            instance: random_token(),
            no_answer: options.no_answer,
            garbage: options.garbage,
        }
    }

    /// The answer to a message; none to notifications and responses. Blocks as long as the called tool does.
    pub(crate) fn handle(&self, incoming: Incoming, notify: Notify<'_>) -> Option<String> {
        let answer = match incoming {
            Incoming::One(message) => self.answer(message, notify)?,
            Incoming::Batch(messages) => {
                let answers: Vec<String> = messages
                    .into_iter()
                    .filter_map(|message| self.answer(message, notify))
                    .collect();
                if answers.is_empty() {
                    return None;
                }
                format!("[{}]", answers.join(","))
            }
        };
        (!self.no_answer).then_some(answer)
    }

    fn answer(&self, message: Result<Message, RpcError>, notify: Notify<'_>) -> Option<String> {
        let message = match message {
            Ok(message) => message,
            Err(error) => return Some(error_answer("null", &error)),
        };
        let (Some(id), Some(method)) = (message.id, message.method) else {
            return None;
        };
        Some(match self.dispatch(&method, &message.params, notify) {
            Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.get()),
            Err(error) => error_answer(id.get(), &error),
        })
    }

    fn dispatch(&self, method: &str, params: &Value, notify: Notify<'_>) -> Result<Value, RpcError> {
        match method {
            "initialize" => Ok(self.initialize(params)),
            "ping" | "logging/setLevel" => Ok(json!({})),
            "tools/list" => Ok(json!({ "tools": tools::list() })),
            "tools/call" => self.call(params, notify),
            "resources/list" => Ok(json!({ "resources": [
                { "uri": "echo://greeting", "name": "greeting", "mimeType": "text/plain" },
            ] })),
            "resources/templates/list" => Ok(json!({ "resourceTemplates": [] })),
            "resources/read" => match params["uri"].as_str() {
                Some("echo://greeting") => Ok(json!({ "contents": [
                    { "uri": "echo://greeting", "mimeType": "text/plain", "text": "hello" },
                ] })),
                _ => Err(RpcError {
                    code: -32002,
                    message: format!("resource not found: {}", params["uri"]),
                }),
            },
            "prompts/list" => Ok(json!({ "prompts": [{
                "name": "greet", "description": "Greets somebody",
                "arguments": [{ "name": "name", "required": true }],
            }] })),
            "prompts/get" => match params["name"].as_str() {
                Some("greet") => {
                    let name = params["arguments"]["name"].as_str().unwrap_or("world");
                    let content = json!({ "type": "text", "text": format!("Say hello to {name}.") });
                    Ok(json!({ "messages": [{ "role": "user", "content": content }] }))
                }
                _ => Err(RpcError::params(format!("prompt not found: {}", params["name"]))),
            },
            _ => Err(RpcError {
                code: METHOD_NOT_FOUND,
                message: format!("method not found: {method}"),
            }),
        }
    }

    fn initialize(&self, params: &Value) -> Value {
        let newest = REVISIONS[REVISIONS.len() - 1];
        let asked = params["protocolVersion"].as_str().unwrap_or(newest);
        let agreed = REVISIONS
            .into_iter()
            .find(|revision| *revision == asked)
            .unwrap_or(newest);
        json!({
            "protocolVersion": agreed,
            "capabilities": { "tools": {}, "resources": {}, "prompts": {}, "logging": {} },
            "serverInfo": { "name": "echo-server", "version": self.version },
        })
    }

    fn call(&self, params: &Value, notify: Notify<'_>) -> Result<Value, RpcError> {
        let name = params["name"].as_str().unwrap_or_default();
        match tools::call(self, name, params, notify) {
            Ok(text) => Ok(json!({ "content": [{ "type": "text", "text": text }], "isError": false })),
            Err(CallError::Failed(text)) => {
                Ok(json!({ "content": [{ "type": "text", "text": text }], "isError": true }))
            }
            Err(CallError::UnknownTool) => Err(RpcError::params(format!("unknown tool: {name:?}"))),
            Err(CallError::Argument(message)) => Err(RpcError::params(message)),
        }
    }
}

impl Incoming {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        if bytes.trim_ascii_start().first() != Some(&b'[') {
            return Self::One(Message::parse(bytes));
        }
        match serde_json::from_slice::<Vec<Box<RawValue>>>(bytes) {
            Ok(items) if items.is_empty() => Self::One(Err(RpcError {
                code: INVALID_REQUEST,
                message: "empty batch".to_owned(),
            })),
            Ok(items) => Self::Batch(
                items
                    .iter()
                    .map(|item| Message::parse(item.get().as_bytes()))
                    .collect(),
            ),
            Err(error) => Self::One(Err(RpcError {
                code: PARSE_ERROR,
                message: error.to_string(),
            })),
        }
    }

    /// Whether handling it takes time; then it must not hold up the messages behind it.
    pub(crate) fn blocks(&self) -> bool {
        match self {
            Self::One(message) => message.as_ref().is_ok_and(Message::blocks),
            Self::Batch(messages) => messages.iter().flatten().any(Message::blocks),
        }
    }

    pub(crate) fn is_initialize(&self) -> bool {
        matches!(self, Self::One(Ok(message)) if message.method.as_deref() == Some("initialize"))
    }

    /// Whether anything in it wants an answer.
    pub(crate) fn expects_answer(&self) -> bool {
        match self {
            Self::One(message) => message.as_ref().map_or(true, Message::is_request),
            Self::Batch(messages) => messages
                .iter()
                .any(|message| message.as_ref().map_or(true, Message::is_request)),
        }
    }

    /// Whether its answer is preceded by notifications, which need an event stream over HTTP.
    pub(crate) fn notifies(&self) -> bool {
        matches!(self, Self::One(Ok(message)) if message.tool() == Some("progress"))
    }
}

impl Message {
    fn parse(bytes: &[u8]) -> Result<Self, RpcError> {
        serde_json::from_slice(bytes).map_err(|error| RpcError {
            code: if error.is_data() {
                INVALID_REQUEST
            } else {
                PARSE_ERROR
            },
            message: error.to_string(),
        })
    }

    fn tool(&self) -> Option<&str> {
        if self.method.as_deref() == Some("tools/call") {
            self.params["name"].as_str()
        } else {
            None
        }
    }

    fn is_request(&self) -> bool {
        self.id.is_some() && self.method.is_some()
    }

    fn blocks(&self) -> bool {
        matches!(self.tool(), Some("slow" | "progress"))
    }
}

impl RpcError {
    fn params(message: String) -> Self {
        Self {
            code: INVALID_PARAMS,
            message,
        }
    }
}

fn error_answer(id: &str, error: &RpcError) -> String {
    let body = json!({ "code": error.code, "message": error.message });
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{body}}}"#)
}

/// 128 bits in hex: unique, not secret (std's hash keys are random).
pub(crate) fn random_token() -> String {
    let half = || {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(message: &str) -> Option<String> {
        let server = Server {
            version: "1.2.3".to_owned(),
            instance: random_token(),
            no_answer: false,
            garbage: false,
        };
        server.handle(Incoming::parse(message.as_bytes()), &|_| {})
    }

    #[test]
    fn ids_come_back_as_they_were_sent() {
        for id in ["1", "\"1\"", "1.0", "-7", "\"\\u0041\"", "12345678901234567890"] {
            let got = answer(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));
            assert_eq!(
                got,
                Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#))
            );
        }
    }

    #[test]
    fn known_revisions_are_agreed_to_and_others_answered_with_the_newest() {
        for (asked, agreed) in REVISIONS
            .into_iter()
            .map(|known| (known, known))
            .chain([("1999-01-01", "2025-11-25")])
        {
            let got = answer(&format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{asked}"}}}}"#
            ));
            assert!(
                got.expect("an answer")
                    .contains(&format!(r#""protocolVersion":"{agreed}""#)),
                "{asked}"
            );
        }
    }

    #[test]
    fn notifications_and_responses_get_no_answer() {
        assert_eq!(
            answer(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
            None
        );
        assert_eq!(answer(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), None);
        assert_eq!(
            answer(r#"[{"jsonrpc":"2.0","method":"notifications/initialized"}]"#),
            None
        );
    }

    #[test]
    fn bad_messages_get_the_error_of_the_book() {
        for (message, code) in [
            ("nonsense", PARSE_ERROR),
            ("[]", INVALID_REQUEST),
            ("17", INVALID_REQUEST),
            (r#"{"id":1,"method":"no/such"}"#, METHOD_NOT_FOUND),
            (
                r#"{"id":1,"method":"tools/call","params":{"name":"none"}}"#,
                INVALID_PARAMS,
            ),
        ] {
            let got = answer(message).expect("an answer");
            assert!(got.contains(&format!(r#""code":{code}"#)), "{message}: {got}");
        }
    }

    #[test]
    fn a_batch_is_answered_as_one() {
        let got = answer(r#"[{"id":1,"method":"ping"},{"method":"n"},{"id":"b","method":"ping"}]"#);
        let parsed: Vec<Value> = serde_json::from_str(&got.expect("an answer")).expect("an array");
        assert_eq!(
            parsed.iter().map(|one| one["id"].clone()).collect::<Vec<_>>(),
            [json!(1), json!("b")]
        );
    }
}
