//! The revision without sessions (2026-07-28): each request says itself which revision it is of and what its client can.
//!
//! The server behind the bridge may be older. Then it was asked to initialize once, `server/discover` is answered from
//! what it said, and its answers get what this revision adds. What it wants to ask a client stands in the answer to the
//! client's call ([`rounds`](super::rounds)).

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use memchr::memmem::Finder;

use super::calls::{CallError, HEADER_MISMATCH, ServerLine, Then};
use super::core::{Ask, Core};
use super::events::Events;
use super::in_flight::Shape;
use super::initialize::{REVISIONS, STATELESS_REVISION, own_meta};
use super::request::{self, Begun, Message};
use super::server_requests::Abilities;
use crate::answer;
use crate::body::Body;
use crate::jsonrpc::{self, Envelope, Kind, Span};
use crate::mcp_headers::PROTOCOL_VERSION;

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";

const INVALID_PARAMS: i32 = -32602;
const METHOD_NOT_FOUND: i32 = -32601;
/// Codes that this revision has given up, and what is said in their place. Both texts are of one length.
const RENAMED: [(i32, i32); 2] = [
    // A resource that is not there.
    (-32002, INVALID_PARAMS),
    // A URL has to be visited first; the server was told that nobody can be asked for that.
    (-32042, -32603),
];

/// Methods that this revision has given up.
const REMOVED: [&[u8]; 5] = [
    b"ping",
    b"logging/setLevel",
    b"resources/subscribe",
    b"resources/unsubscribe",
    b"tasks/list",
];
/// Methods whose results say for how long they are good.
const CACHEABLE: [&[u8]; 5] = [
    b"tools/list",
    b"prompts/list",
    b"resources/list",
    b"resources/templates/list",
    b"resources/read",
];

/// In the names of what this revision says in a request.
static NAMESPACE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"modelcontextprotocol"));

/// What a request says of its revision; empty when it says nothing.
fn said_version(message: &Message) -> &[u8] {
    let params = message.envelope.params_in(&message.bytes);
    if NAMESPACE.find(params).is_none() {
        return b"";
    }
    let meta = jsonrpc::meta_in(&message.bytes, &message.envelope);
    jsonrpc::member_however_written(meta, VERSION).unwrap_or_default()
}

/// Whether a client names this revision in its headers.
pub(super) fn is_named(headers: &HeaderMap) -> bool {
    headers
        .get(&PROTOCOL_VERSION)
        .is_some_and(|said| said == STATELESS_REVISION)
}

/// Whether a message is of the revision without sessions, or of one that is to come. `initialize` never is.
pub(super) fn is_stateless(headers: &HeaderMap, message: &Message) -> bool {
    if message.envelope.kind() != Kind::Request {
        return false;
    }
    match message.envelope.method_in(&message.bytes) {
        b"initialize" => return false,
        b"server/discover" | b"subscriptions/listen" => return true,
        _ => {}
    }
    if is_named(headers) {
        return true;
    }
    let said = jsonrpc::unquoted(said_version(message));
    !said.is_empty() && !REVISIONS.iter().any(|known| known.as_bytes() == said)
}

/// What is wrong with a request of this revision, as its client is told.
pub(super) fn check(headers: &HeaderMap, message: &Message) -> Result<(), Box<Response<Body>>> {
    let bytes = &message.bytes;
    let id = message.envelope.id_in(bytes);
    let refuse = |code, reason: &str| {
        Err(Box::new(answer::rpc_error(
            StatusCode::BAD_REQUEST,
            code,
            reason,
            id,
        )))
    };
    let meta = jsonrpc::meta_in(bytes, &message.envelope);
    let version = jsonrpc::member_however_written(meta, VERSION).and_then(jsonrpc::text);
    let capabilities = jsonrpc::member_however_written(meta, CAPABILITIES);
    let mut missing = Vec::new();
    if version.is_none() {
        missing.push(VERSION);
    }
    if capabilities.is_none_or(|value| value.first() != Some(&b'{')) {
        missing.push(CAPABILITIES);
    }
    let Some(version) = version.filter(|_| missing.is_empty()) else {
        let reason = format!("params._meta has no proper {}", missing.join(", "));
        return refuse(INVALID_PARAMS, &reason);
    };
    match only(headers, PROTOCOL_VERSION.as_str()) {
        Some(said) if said == version.as_bytes() => {}
        None => return refuse(HEADER_MISMATCH, "the header MCP-Protocol-Version is missing"),
        Some(_) => {
            let reason = "the header MCP-Protocol-Version is not what params._meta says";
            return refuse(HEADER_MISMATCH, reason);
        }
    }
    if version != STATELESS_REVISION {
        return Err(Box::new(answer::unsupported_version(&version, id)));
    }
    if let Err(reason) = check_routing(headers, message) {
        return refuse(HEADER_MISMATCH, &reason);
    }
    Ok(())
}

/// The value of a header that stands there once; an empty one when it stands there more than once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(if values.next().is_none() {
        first.as_bytes()
    } else {
        b""
    })
}

/// Whoever routes by `Mcp-Method` and `Mcp-Name` must see what the server sees.
fn check_routing(headers: &HeaderMap, message: &Message) -> Result<(), String> {
    let method = message.envelope.method_in(&message.bytes);
    match only(headers, METHOD_HEADER) {
        Some(said) if said == method => {}
        None => return Err("the header Mcp-Method is missing".into()),
        Some(_) => return Err("the header Mcp-Method is not the method of the message".into()),
    }
    let member = match method {
        b"tools/call" | b"prompts/get" => "name",
        b"resources/read" => "uri",
        _ => return Ok(()),
    };
    let params = message.envelope.params_in(&message.bytes);
    // Without a name there is none to compare; the server says what it thinks of that.
    let name = jsonrpc::one_member(params, member);
    let Ok(name) = name else {
        return Err(format!("params.{member} stands there twice"));
    };
    let Some(name) = name.and_then(jsonrpc::text) else {
        return Ok(());
    };
    match only(headers, NAME_HEADER).map(answer::header_text) {
        Some(Some(said)) if said == name => Ok(()),
        None => Err("the header Mcp-Name is missing".into()),
        Some(_) => Err(format!("the header Mcp-Name is not params.{member}")),
    }
}

/// Whether this revision has no such method any more.
pub(super) fn is_removed(method: &[u8]) -> bool {
    REMOVED.contains(&method)
}

/// The refusal of a method that is not there.
pub(super) fn method_not_found(id: &[u8]) -> Response<Body> {
    answer::rpc_error(StatusCode::NOT_FOUND, METHOD_NOT_FOUND, "Method not found", id)
}

/// A message for a server without sessions, which says of itself what it has to, whoever it comes from.
pub(super) fn introduced(message: Bytes, envelope: Envelope) -> Result<(Bytes, Envelope), CallError> {
    let meta = jsonrpc::meta_in(&message, &envelope);
    if jsonrpc::member_however_written(meta, VERSION).is_some() {
        return Ok((message, envelope));
    }
    let message = jsonrpc::with_meta(&message, &envelope, &own_meta());
    let envelope = jsonrpc::scan(&message).map_err(|error| CallError::Unusable {
        reason: error.to_string(),
    })?;
    Ok((message, envelope))
}

impl Core {
    /// Whether the server that is attached has no sessions.
    pub(super) fn is_stateless(&self) -> bool {
        let link = self.link();
        link.is_ok_and(|link| link.ready.get().is_some_and(|ready| ready.stateless))
    }

    /// Passes a request on to the server, or goes on with one.
    pub(super) async fn begin_stateless(
        self: &std::sync::Arc<Self>,
        mut message: Message,
        events: Option<Events>,
    ) -> Result<Begun, CallError> {
        let meta = jsonrpc::meta_in(&message.bytes, &message.envelope);
        let capabilities = jsonrpc::member_however_written(meta, CAPABILITIES).unwrap_or_default();
        let abilities = Abilities::declared(capabilities);
        if let Some(begun) = self.resume(&mut message, abilities, events.as_ref()).await? {
            return Ok(begun);
        }
        let binding = self.binding(&message, abilities);
        let Message {
            bytes,
            envelope,
            share,
        } = message;
        let cacheable = CACHEABLE.contains(&envelope.method_in(&bytes));
        let lists = if envelope.method_in(&bytes) == b"tools/list" {
            let params = envelope.params_in(&bytes);
            self.link().ok().map(|link| link.param_headers.listing(params))
        } else {
            None
        };
        let ask = Ask {
            session: None,
            message: bytes,
            envelope,
            events,
            share,
            then: Then::Nothing,
            own: false,
            shape: Shape::Stateless {
                cacheable,
                binding,
                lists,
            },
            askable: binding.map(|_| abilities),
        };
        let call = self.begin(ask).await?;
        Ok(Begun::Waiting(Box::new(call)))
    }

    /// `server/discover`, answered from what the server said when it was asked to initialize.
    pub(super) async fn discover(self: &std::sync::Arc<Self>, id: &[u8]) -> Response<Body> {
        let asking = async {
            let link = self.link()?;
            self.initialized_in_time(&link).await
        };
        match asking.await {
            Ok(ready) => {
                let head = Bytes::from_static(br#"{"jsonrpc":"2.0","id":"#);
                let pieces = [head, Bytes::copy_from_slice(id), ready.discovered()];
                answer::json_body(StatusCode::OK, Body::pieces(pieces))
            }
            Err(error) => request::failure(&error, id),
        }
    }
}

/// An older server's answer as this revision has it, and the status that goes with it.
pub(super) fn shape(reply: &ServerLine, id: &Bytes, cacheable: bool) -> ([Bytes; 3], StatusCode) {
    let ServerLine {
        line,
        id: at,
        result,
        error,
    } = reply;
    let as_it_is = |line: &Bytes| [line.slice(..at.start), id.clone(), line.slice(at.end..)];
    if let Some(error) = error {
        return shape_error(line, *error, *at, id);
    }
    let Some(result) = result.filter(|span| line[span.start] == b'{') else {
        return (as_it_is(line), StatusCode::OK);
    };
    let text = result.of(line);
    let lacks = |name: &str| {
        memchr::memmem::find(text, name.as_bytes()).is_none() || jsonrpc::member(text, name).is_none()
    };
    let mut added = Vec::new();
    if lacks("resultType") {
        added.push(r#""resultType":"complete""#);
        if cacheable {
            // How long it is good, an older server does not say.
            added.extend(
                [
                    (r#""ttlMs":0"#, "ttlMs"),
                    (r#""cacheScope":"private""#, "cacheScope"),
                ]
                .into_iter()
                .filter(|(_, name)| lacks(name))
                .map(|(member, _)| member),
            );
        }
    }
    if added.is_empty() {
        return (as_it_is(line), StatusCode::OK);
    }
    let added = added.join(",");
    let pieces = if result.start > at.end {
        let tail = line.slice(at.end..);
        let result = Span {
            start: result.start - at.end,
            end: result.end - at.end,
        };
        [
            line.slice(..at.start),
            id.clone(),
            jsonrpc::insert(&tail, result, &added),
        ]
    } else {
        let head = jsonrpc::insert(&line[..at.start], result, &added);
        [head, id.clone(), line.slice(at.end..)]
    };
    (pieces, StatusCode::OK)
}

/// Errors of the protocol go with a status of their own, so that whoever stands between need not read them.
fn shape_error(line: &Bytes, error: Span, at: Span, id: &Bytes) -> ([Bytes; 3], StatusCode) {
    let code_span = jsonrpc::member_span(error.of(line), "code");
    let code = code_span.and_then(|span| std::str::from_utf8(span.of(error.of(line))).ok()?.parse().ok());
    let status = match code {
        Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Some(-32022..=-32020) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    };
    let (mut line, mut at) = (line.clone(), at);
    let renamed = RENAMED.iter().find(|(given_up, _)| code == Some(*given_up));
    if let (Some((_, renamed)), Some(span)) = (renamed, code_span) {
        let (start, end) = (error.start + span.start, error.start + span.end);
        let renamed = renamed.to_string();
        line = [&line[..start], renamed.as_bytes(), &line[end..]].concat().into();
        if at.start > start {
            let shift = |place: usize| place + renamed.len() - (end - start);
            at = Span {
                start: shift(at.start),
                end: shift(at.end),
            };
        }
    }
    ([line.slice(..at.start), id.clone(), line.slice(at.end..)], status)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shaped(line: &str, cacheable: bool) -> (Value, StatusCode) {
        let line = Bytes::from(line.to_owned());
        let envelope = jsonrpc::scan(&line).unwrap();
        let reply = ServerLine {
            id: envelope.id.unwrap(),
            result: envelope.result,
            error: envelope.error,
            line,
        };
        let (pieces, status) = shape(&reply, &Bytes::from_static(b"\"mine\""), cacheable);
        (serde_json::from_slice(&pieces.concat()).unwrap(), status)
    }

    #[test]
    fn answers_of_older_servers_get_what_is_new_and_lose_nothing() {
        let hints = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "tools": []});
        for (line, cacheable, result) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#,
                true,
                hints.clone(),
            ),
            (r#"{"result": { "tools":[]},"jsonrpc":"2.0","id":1}"#, true, hints),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
                false,
                json!({"resultType": "complete"}),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required"}}"#,
                true,
                json!({"resultType": "input_required"}),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"ttlMs":5,"a":"resultType"}}"#,
                true,
                json!({"resultType": "complete", "ttlMs": 5, "cacheScope": "private", "a": "resultType"}),
            ),
            (r#"{"jsonrpc":"2.0","id":1,"result":7}"#, true, json!(7)),
        ] {
            let (answer, status) = shaped(line, cacheable);
            assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "mine", "result": result}));
            assert_eq!(status, StatusCode::OK);
        }
    }

    #[test]
    fn errors_go_with_their_status() {
        for (code, shown, expected) in [
            (-32601, -32601, 404),
            (-32022, -32022, 400),
            (-32020, -32020, 400),
            (-32602, -32602, 200),
            (-32002, -32602, 200),
            (-32042, -32603, 200),
            (1, 1, 200),
        ] {
            for line in [
                json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "m"}}).to_string(),
                format!(r#"{{"error":{{"message":"m","code":{code}}},"id":1,"jsonrpc":"2.0"}}"#),
            ] {
                let (answer, status) = shaped(&line, true);
                assert_eq!(answer["error"], json!({"code": shown, "message": "m"}));
                assert_eq!((&answer["id"], status.as_u16()), (&json!("mine"), expected));
            }
        }
    }
}
