//! One client: what it has said of itself, and from its messages to their answers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{catalogue, tools};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
const LEVELS: [&str; 8] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];

/// Code and message.
pub(crate) type RpcError = (i64, String);

pub(crate) fn invalid_params(message: &str) -> RpcError {
    (-32602, message.to_owned())
}

/// What is known of one client.
#[derive(Debug, Default)]
pub(crate) struct Session(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    capabilities: Value,
    level: usize,
    listens_to: HashSet<String>,
    asked: HashMap<u64, oneshot::Sender<Value>>,
    next: u64,
}

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client, and the way to it that belongs to one message of it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) session: Arc<Session>,
    pub(crate) out: mpsc::UnboundedSender<Value>,
}

impl Peer {
    pub(crate) fn send(&self, message: Value) {
        // A client that is gone needs no answer.
        let _ = self.out.send(message);
    }

    pub(crate) fn notify(&self, method: &str, params: Value) {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    pub(crate) fn log(&self, level: &str, text: &str) {
        let place = LEVELS
            .iter()
            .position(|known| *known == level)
            .unwrap_or_default();
        if place >= self.session.state().level {
            self.notify(
                "notifications/message",
                json!({ "level": level, "logger": "test", "data": text }),
            );
        }
    }

    pub(crate) fn listens_to(&self, uri: &str) -> bool {
        self.session.state().listens_to.contains(uri)
    }

    /// Asks the client, if it has declared `capability`.
    pub(crate) async fn ask(&self, capability: &str, method: &str, params: Value) -> Result<Value, String> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut state = self.session.state();
            if !state.capabilities[capability].is_object() {
                return Err(format!("the client does not know {capability}"));
            }
            state.next += 1;
            let id = state.next;
            state.asked.insert(id, sender);
            id
        };
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        let answer = answer.await.map_err(|error| error.to_string())?;
        match &answer["error"] {
            Value::Null => Ok(answer["result"].clone()),
            error => Err(error.to_string()),
        }
    }

    /// Asks the user for one text, named `property`; the whole answer.
    pub(crate) async fn ask_user(&self, message: &str, property: &str) -> Result<Value, String> {
        let schema = json!({
            "type": "object",
            "properties": { property: { "type": "string" } },
            "required": [property],
        });
        let asked = json!({ "message": message, "requestedSchema": schema });
        self.ask("elicitation", "elicitation/create", asked).await
    }

    /// Takes one message, and answers it if it wants that.
    pub(crate) async fn take(&self, message: Value) {
        let (id, method) = (&message["id"], message["method"].as_str());
        match (id, method) {
            (Value::Null, _) => {}
            (id, None) => {
                let waiting = id.as_u64().and_then(|id| self.session.state().asked.remove(&id));
                if let Some(waiting) = waiting {
                    let _ = waiting.send(message);
                }
            }
            (id, Some(method)) => {
                let outcome = self.answer(method, &message["params"]).await;
                self.send(match outcome {
                    Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
                    Err((code, text)) => {
                        json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": text } })
                    }
                });
            }
        }
    }

    async fn answer(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        let uri = || params["uri"].as_str().unwrap_or_default().to_owned();
        Ok(match method {
            "initialize" => {
                self.session.state().capabilities = params["capabilities"].clone();
                initialized(params)
            }
            "ping" => json!({}),
            "logging/setLevel" => {
                let level = params["level"].as_str();
                let place = LEVELS.iter().position(|known| level == Some(known));
                self.session.state().level = place.ok_or_else(|| invalid_params("no such level"))?;
                json!({})
            }
            "tools/list" => catalogue::tools(),
            "tools/call" => tools::call(self, params).await?,
            "resources/list" => catalogue::resources(),
            "resources/templates/list" => catalogue::templates(),
            "resources/read" => catalogue::read(params)?,
            "resources/subscribe" => {
                self.session.state().listens_to.insert(uri());
                json!({})
            }
            "resources/unsubscribe" => {
                self.session.state().listens_to.remove(&uri());
                json!({})
            }
            "prompts/list" => catalogue::prompts(),
            "prompts/get" => catalogue::prompt(self, params).await?,
            "completion/complete" => {
                json!({ "completion": { "values": ["test", "testing"], "total": 2, "hasMore": false } })
            }
            _ => return Err((-32601, format!("no method {method}"))),
        })
    }
}

fn initialized(params: &Value) -> Value {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let newest = REVISIONS[REVISIONS.len() - 1];
    let agreed = if REVISIONS.contains(&asked) { asked } else { newest };
    json!({
        "protocolVersion": agreed,
        "capabilities": {
            "tools": { "listChanged": true },
            "resources": { "subscribe": true, "listChanged": true },
            "prompts": { "listChanged": true },
            "logging": {},
            "completions": {},
        },
        "serverInfo": { "name": "conformance-server", "version": "1.0.0" },
    })
}
