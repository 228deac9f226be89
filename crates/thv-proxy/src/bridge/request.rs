//! What both HTTP forms do with a message of a client.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Response, StatusCode};
use memchr::memmem::Finder;

use super::calls::{CallError, Then};
use super::core::{Ask, Core, one_line, progress_token, splice};
use super::events::Events;
use super::in_flight::{InFlight, Shape};
use super::initialize::revision;
use super::levels::SetLevel;
use super::server_requests::Abilities;
use super::sessions::Session;
use super::tasks;
use crate::answer;
use crate::body::{self, Body, Held, ReadError};
use crate::budget::Share;
use crate::jsonrpc::{self, Envelope, Kind, ScanError, Span};

/// A client's id or progress token is kept until its call ends; a longer one is refused.
const LONGEST_ID: usize = 1024;
/// Names that the proxy looks for in `params` and in `params._meta`. Written with escapes, they would not be found
/// here and still mean the same to the server.
const NAMES: [&str; 8] = [
    "_meta",
    "requestId",
    "progressToken",
    "uri",
    "level",
    "protocolVersion",
    "requestState",
    "inputResponses",
];

/// One message of a client, read and understood.
pub(super) struct Message {
    pub(super) bytes: Bytes,
    pub(super) envelope: Envelope,
    pub(super) share: Share,
}

/// What became of a request.
pub(super) enum Begun {
    /// The proxy knows the answer itself.
    Answered([Bytes; 3]),
    /// The server was asked.
    Waiting(Box<InFlight>),
}

/// An `initialize` of a client: what has to be known of it. The message itself is not kept while it waits.
pub(super) struct Hello {
    pub(super) id: Bytes,
    wanted: Option<usize>,
    pub(super) abilities: Abilities,
}

impl Hello {
    pub(super) fn new(message: &Message) -> Self {
        let params = message.envelope.params_in(&message.bytes);
        Self {
            id: Bytes::copy_from_slice(message.envelope.id_in(&message.bytes)),
            wanted: jsonrpc::member(params, "protocolVersion").and_then(revision),
            abilities: Abilities::of(params),
        }
    }
}

/// Reads a message, or says why it is none.
pub(super) async fn read(
    core: &Core,
    headers: &HeaderMap,
    body: Body,
) -> Result<Message, Box<Response<Body>>> {
    if !is_json(headers) {
        let message = "Content-Type must be application/json";
        return Err(Box::new(answer::rpc_error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            -32600,
            message,
            b"",
        )));
    }
    let (limit, within) = (core.config.body_limit, core.config.body_timeout);
    let Held { bytes, share } = body::read_all(body, limit, within, &core.bodies)
        .await
        .map_err(|error| {
            Box::new(match error {
                ReadError::TooLarge => answer::too_large(),
                ReadError::TooSlow => answer::text(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
                ReadError::Broken => answer::text(StatusCode::BAD_REQUEST, "Bad Request"),
                ReadError::Starved => answer::starved(),
            })
        })?;
    let envelope = match jsonrpc::scan(&bytes) {
        Ok(envelope) => envelope,
        Err(ScanError::Batch) => return Err(Box::new(answer::batch())),
        Err(error) => {
            tracing::debug!(%error, "a client's message is refused");
            return Err(Box::new(answer::text(
                StatusCode::BAD_REQUEST,
                "Invalid JSON-RPC 2.0 message",
            )));
        }
    };
    if let Some(reason) = objection(&bytes, &envelope) {
        return Err(Box::new(answer::rpc_error(
            StatusCode::BAD_REQUEST,
            -32600,
            reason,
            b"",
        )));
    }
    Ok(Message {
        bytes,
        envelope,
        share,
    })
}

/// What is wrong with a message that is well-formed.
fn objection(message: &[u8], envelope: &Envelope) -> Option<&'static str> {
    if envelope.id_in(message).len() > LONGEST_ID {
        return Some("\"id\" is longer than 1024 bytes");
    }
    if progress_token(message, envelope).is_some_and(|token| token.end - token.start > LONGEST_ID) {
        return Some("\"progressToken\" is longer than 1024 bytes");
    }
    if memchr::memchr(b'\\', envelope.method_in(message)).is_some() {
        return Some("\"method\" must be written without escapes");
    }
    if envelope.escaped_names && hides_a_name(envelope.params_in(message)) {
        return Some("the names of \"params\" and \"_meta\" must be written without escapes");
    }
    if is_unclear(envelope.method_in(message), envelope.params_in(message)) {
        return Some("a name in \"params\" or \"_meta\" stands twice, or could be taken for another");
    }
    None
}

/// Whether a server could find another value than the proxy under a name by which clients reach what belongs to others.
fn is_unclear(method: &[u8], params: &[u8]) -> bool {
    let own = match method {
        b"resources/subscribe" | b"resources/unsubscribe" => Some("uri"),
        b"logging/setLevel" => Some("level"),
        b"notifications/cancelled" => Some("requestId"),
        b"notifications/progress" => Some("progressToken"),
        _ => None,
    };
    if own.is_some_and(|name| jsonrpc::is_unclear(params, name)) {
        return true;
    }
    // Mostly there is none.
    META.find(params).is_some()
        && (jsonrpc::is_unclear(params, "_meta")
            || jsonrpc::member(params, "_meta")
                .is_some_and(|meta| jsonrpc::is_unclear(meta, "progressToken")))
}

/// How `_meta` begins, in whichever case.
static META: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"_"));

fn hides_a_name(params: &[u8]) -> bool {
    let hidden = |object: &[u8]| {
        jsonrpc::any_name(object, |name| {
            NAMES.iter().any(|known| jsonrpc::decodes_to(name, known))
        })
    };
    hidden(params) || jsonrpc::member(params, "_meta").is_some_and(hidden)
}

/// `application/json`, with or without parameters. Anything else could be sent by a web page without asking.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    value
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The JSON form of a failed call.
pub(super) fn failure(error: &CallError, id: &[u8]) -> Response<Body> {
    let (status, _, _) = error.describe();
    let mut response = answer::json(status, failure_message(error, id));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    response
}

/// The JSON-RPC message of a failed call.
pub(super) fn failure_message(error: &CallError, id: &[u8]) -> Bytes {
    if let CallError::InitializeError { error } = error {
        return [
            br#"{"error":"#,
            &error[..],
            br#","id":"#,
            id,
            br#","jsonrpc":"2.0"}"#,
        ]
        .concat()
        .into();
    }
    let (_, code, message) = error.describe();
    answer::error_message(code, &message, id)
}

impl Core {
    /// `initialize` of a client, answered from the shared one.
    pub(super) async fn initialize_client(self: &Arc<Self>, hello: &Hello) -> Result<[Bytes; 3], CallError> {
        let link = self.link()?;
        let ready = self.initialized_in_time(&link).await?;
        Ok([
            Bytes::from_static(br#"{"jsonrpc":"2.0","id":"#),
            hello.id.clone(),
            ready.answer_for(hello.wanted),
        ])
    }

    /// A request other than `initialize`.
    pub(super) async fn begin_request(
        self: &Arc<Self>,
        session: Option<&Session>,
        message: Message,
        events: Option<Events>,
    ) -> Result<Begun, CallError> {
        let Message {
            mut bytes,
            mut envelope,
            share,
        } = message;
        let mut then = Then::Nothing;
        if envelope.method_in(&bytes) == b"logging/setLevel" {
            match self.set_level(session, &bytes, &envelope) {
                SetLevel::Done => return Ok(Begun::Answered(empty_result(envelope.id_in(&bytes)))),
                SetLevel::Ask(message, found, on_success) => {
                    (bytes, envelope, then) = (message, found, on_success);
                }
                SetLevel::Pass => {}
            }
        }
        if envelope.method_in(&bytes) == b"tasks/list" {
            let id = envelope.id_in(&bytes);
            let refusal =
                answer::error_message(-32601, "tasks are not listed: those of others are among them", id);
            return Ok(Begun::Answered([refusal, Bytes::new(), Bytes::new()]));
        }
        // A server without sessions has no such method.
        if envelope.method_in(&bytes) == b"ping" && self.is_stateless() {
            return Ok(Begun::Answered(empty_result(envelope.id_in(&bytes))));
        }
        match self.subscription(session, &bytes, &envelope)? {
            Asked::Nothing => {}
            Asked::Subscribe(uri) => then = Then::Subscribe(uri),
            Asked::OfNoConcern => return Ok(Begun::Answered(empty_result(envelope.id_in(&bytes)))),
        }
        if let Some(session) = session
            && then == Then::Nothing
            && self.has_tasks()
        {
            then = self.about_tasks(session, &bytes, &envelope);
        }
        let subscribing = then.clone();
        let session = session.map(Session::key);
        let ask = Ask {
            session,
            message: bytes,
            envelope,
            events,
            share,
            then,
            own: false,
            shape: Shape::AsItComes,
            askable: None,
        };
        let begun = self.begin(ask).await;
        if let (Err(_), Then::Subscribe(uri), Some(session)) = (&begun, subscribing, session) {
            self.subscriptions.settle(session, &uri, false);
        }
        Ok(Begun::Waiting(Box::new(begun?)))
    }

    /// Whether calls of the attached server may become tasks.
    fn has_tasks(&self) -> bool {
        let link = self.link();
        link.is_ok_and(|link| link.ready.get().is_some_and(|ready| ready.tasks))
    }

    /// What a request of a session has to do with tasks.
    fn about_tasks(&self, session: &Session, bytes: &Bytes, envelope: &Envelope) -> Then {
        let params = envelope.params_in(bytes);
        if matches!(envelope.method_in(bytes), b"tasks/get" | b"tasks/result")
            && let Some(task) = tasks::named_in(params)
        {
            self.server_tasks.named(&task, session.key());
        }
        if tasks::may_become_one(params) {
            Then::Task
        } else {
            Then::Nothing
        }
    }

    /// What a session wants with a resource. Who has none gets no updates, and ends nobody's.
    fn subscription(
        &self,
        session: Option<&Session>,
        bytes: &Bytes,
        envelope: &Envelope,
    ) -> Result<Asked, CallError> {
        let method = envelope.method_in(bytes);
        if !matches!(method, b"resources/subscribe" | b"resources/unsubscribe") {
            return Ok(Asked::Nothing);
        }
        let uri = jsonrpc::member(envelope.params_in(bytes), "uri");
        // Without one the server says what it thinks of it.
        let Some(uri) = uri.and_then(jsonrpc::text) else {
            return Ok(Asked::Nothing);
        };
        let Some(session) = session else {
            return Ok(Asked::OfNoConcern);
        };
        if method == b"resources/subscribe" {
            let asked = self.subscriptions.ask(session.key(), &uri);
            let asked = asked.map_err(|what| CallError::TooMuch { what })?;
            if !self.sessions.knows(session.key()) {
                self.subscriptions.leave_all(session.key());
                return Ok(Asked::OfNoConcern);
            }
            return Ok(Asked::Subscribe(asked));
        }
        Ok(if self.subscriptions.leave(session.key(), &uri) {
            Asked::Nothing
        } else {
            Asked::OfNoConcern
        })
    }

    /// A notification or response of a client.
    pub(super) async fn take_notification(
        self: &Arc<Self>,
        session: Option<&Session>,
        message: Message,
    ) -> Result<(), CallError> {
        let Message {
            bytes,
            envelope,
            share,
        } = message;
        if envelope.kind() == Kind::Response {
            let answer = session.and_then(|session| self.answer_of_client(session, &bytes, &envelope));
            let Some(answer) = answer else { return Ok(()) };
            drop(bytes);
            let link = self.link()?;
            return self.notify(&link, answer, share).await;
        }
        let outgoing = self.notification(session, &bytes, &envelope);
        let Some(mut outgoing) = outgoing else {
            return Ok(());
        };
        let link = self.link()?;
        if envelope.line_breaks {
            outgoing = one_line(&outgoing);
        }
        drop(bytes);
        self.initialized_in_time(&link).await?;
        self.notify(&link, outgoing, share).await
    }

    /// What the server is told of a notification of a client; none when that is nothing.
    fn notification(&self, session: Option<&Session>, message: &Bytes, envelope: &Envelope) -> Option<Bytes> {
        match envelope.method_in(message) {
            // The proxy itself has said that it is initialized.
            b"notifications/initialized" => None,
            b"notifications/cancelled" => self.cancellation(session?.key(), message, envelope),
            b"notifications/progress" => self
                .is_own_progress(session?, message, envelope)
                .then(|| message.clone()),
            _ => Some(message.clone()),
        }
    }

    /// `notifications/cancelled` of a client: its call ends. What the server is to be told, if it has the call.
    fn cancellation(&self, session: u128, message: &Bytes, envelope: &Envelope) -> Option<Bytes> {
        let params = envelope.params_in(message);
        let span = jsonrpc::member_span(params, "requestId")?;
        let (number, pending) = self.calls.take(session, span.of(params))?;
        self.unsettled(&pending);
        let _ = pending.reply.send(Err(CallError::Cancelled));
        if !pending.written {
            return None;
        }
        let start = envelope.params?.start;
        let span = Span {
            start: start + span.start,
            end: start + span.end,
        };
        Some(splice(message, span, &self.server_id(number)))
    }
}

/// What a request means for the subscriptions of its session.
enum Asked {
    Nothing,
    Subscribe(Arc<str>),
    /// The server must not hear of it: others still want what this one gives up, or nobody is there to be told.
    OfNoConcern,
}

/// The answer `{}` to the request with this id.
pub(super) fn empty_result(id: &[u8]) -> [Bytes; 3] {
    [
        Bytes::from_static(br#"{"jsonrpc":"2.0","id":"#),
        Bytes::copy_from_slice(id),
        Bytes::from_static(br#","result":{}}"#),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::BridgeConfig;

    #[test]
    fn a_session_that_has_just_ended_subscribes_to_nothing() {
        let core = Core::new(BridgeConfig::default());
        let session = core.open_session().unwrap();
        let message = br#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"a"}}"#;
        let (message, envelope) = (Bytes::from_static(message), jsonrpc::scan(message).unwrap());
        let subscribe = || core.subscription(Some(&session), &message, &envelope).unwrap();
        assert!(matches!(subscribe(), Asked::Subscribe(_)) && core.subscriptions.is_wanted("a"));
        core.close_session(session.key());
        assert!(!core.subscriptions.is_wanted("a"));
        assert!(matches!(subscribe(), Asked::OfNoConcern) && !core.subscriptions.is_wanted("a"));
    }
}
