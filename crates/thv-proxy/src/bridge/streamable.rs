//! Streamable HTTP: one endpoint that takes messages by POST and gives event streams by GET.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::calls::CallError;
use super::core::{Core, InFlight, progress_token};
use super::request::{self, Begun, Message};
use super::sessions::Session;
use super::{REVISIONS, STATELESS_REVISION};
use crate::answer::{self, EVENT_HEAD, EVENT_TAIL};
use crate::body::{Body, BodyError};
use crate::jsonrpc::Kind;

const SESSION_HEADER: &str = "mcp-session-id";
const VERSION_HEADER: &str = "mcp-protocol-version";
/// Progress that waits to be read by the client of one call.
const PROGRESS_BUFFER: usize = 16;
/// An answer that comes within this is sent in one piece; for a slower one the event stream is begun without it.
const PROMPT: Duration = Duration::from_secs(1);
pub(super) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

pub(super) async fn serve(core: &Arc<Core>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    match head.method {
        Method::POST => post(core, head, body).await,
        Method::GET => get(core, &head.headers),
        Method::DELETE => delete(core, &head.headers),
        _ => answer::method_not_allowed("GET, POST, DELETE"),
    }
}

/// The session that a request names.
enum Named {
    Nobody,
    Unknown,
    Known(Arc<Session>),
}

fn session(core: &Core, headers: &HeaderMap) -> Named {
    let Some(value) = headers.get(SESSION_HEADER) else {
        return Named::Nobody;
    };
    let id = value.to_str().ok().and_then(|text| Uuid::try_parse(text).ok());
    id.and_then(|id| core.sessions.get(id))
        .map_or(Named::Unknown, Named::Known)
}

async fn post(core: &Arc<Core>, head: Parts, body: Body) -> Response<Body> {
    if head
        .headers
        .get(VERSION_HEADER)
        .is_some_and(|version| !is_known(version))
    {
        return answer::text(StatusCode::BAD_REQUEST, "Unsupported MCP-Protocol-Version");
    }
    let message = match request::read(core, &head.headers, body).await {
        Ok(message) => message,
        Err(refusal) => return *refusal,
    };
    if message.envelope.kind() != Kind::Request {
        let session = match session(core, &head.headers) {
            Named::Known(session) => Some(session),
            Named::Nobody | Named::Unknown => None,
        };
        return match core.take_notification(session.as_deref(), &message).await {
            Ok(()) => answer::empty(StatusCode::ACCEPTED),
            Err(error) => request::failure(&error, b""),
        };
    }
    let streaming = accepts_events(&head.headers);
    if message.envelope.method_in(&message.bytes) == b"initialize" {
        return initialize(core, &head.headers, &message, streaming).await;
    }
    let session = match session(core, &head.headers) {
        Named::Known(session) => Some(session),
        Named::Nobody => None,
        Named::Unknown => return answer::session_not_found(message.envelope.id_in(&message.bytes)),
    };
    let (events, progress) = if streaming && progress_token(&message.bytes, &message.envelope).is_some() {
        let (events, progress) = mpsc::channel(PROGRESS_BUFFER);
        (Some(events), Some(progress))
    } else {
        (None, None)
    };
    let id = Bytes::copy_from_slice(message.envelope.id_in(&message.bytes));
    match core.begin_request(session.as_deref(), message, events).await {
        Ok(Begun::Answered(pieces)) => complete(pieces, streaming),
        Ok(Begun::Waiting(mut call)) if !streaming => match call.answer().await {
            Ok(pieces) => complete(pieces, false),
            Err(error) => request::failure(&error, &id),
        },
        Ok(Begun::Waiting(call)) => stream_answer(core, call, progress, id).await,
        Err(error) => failed(&error, &id, streaming),
    }
}

fn is_known(version: &HeaderValue) -> bool {
    let version = version.as_bytes();
    version == STATELESS_REVISION.as_bytes() || REVISIONS.iter().any(|known| known.as_bytes() == version)
}

fn accepts_events(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .any(|value| memchr::memmem::find(value.as_bytes(), b"text/event-stream").is_some())
}

/// A whole answer, as JSON or as an event stream of one event.
fn complete(pieces: [Bytes; 3], streaming: bool) -> Response<Body> {
    /// Larger answers are sent from where they are.
    const JOIN: usize = 16 * 1024;
    let [head, id, tail] = pieces;
    let len = head.len() + id.len() + tail.len();
    let (before, after): (&[u8], &[u8]) = if streaming {
        (EVENT_HEAD, EVENT_TAIL)
    } else {
        (b"", b"")
    };
    let body = if len <= JOIN {
        Body::full([before, &head, &id, &tail, after].concat())
    } else {
        let begin = [before, &head, &id].concat();
        Body::pieces([
            begin.into(),
            tail,
            Bytes::from_static(if streaming { EVENT_TAIL } else { b"" }),
        ])
    };
    if streaming {
        answer::events(body)
    } else {
        answer::json_body(StatusCode::OK, body)
    }
}

fn failed(error: &CallError, id: &[u8], streaming: bool) -> Response<Body> {
    if streaming && !matches!(error, CallError::Busy | CallError::Disconnected) {
        return answer::events(Body::full(answer::event(&request::failure_message(error, id))));
    }
    request::failure(error, id)
}

async fn initialize(
    core: &Arc<Core>,
    headers: &HeaderMap,
    message: &Message,
    streaming: bool,
) -> Response<Body> {
    let id = message.envelope.id_in(&message.bytes);
    let named = headers
        .get(SESSION_HEADER)
        .map(|value| value.to_str().ok().and_then(|it| Uuid::try_parse(it).ok()));
    let Some(wanted) = named.unwrap_or_else(|| Some(Uuid::new_v4())) else {
        return answer::rpc_error(
            StatusCode::BAD_REQUEST,
            -32600,
            "Mcp-Session-Id must be a UUID",
            id,
        );
    };
    let pieces = match core.initialize_client(message).await {
        Ok(pieces) => pieces,
        Err(error) => return failed(&error, id, streaming),
    };
    let Some(session) = core.sessions.open(wanted) else {
        let message = "too many sessions, try again later";
        return answer::rpc_error(StatusCode::SERVICE_UNAVAILABLE, -32000, message, id);
    };
    let mut response = complete(pieces, streaming);
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    if let Ok(value) = HeaderValue::from_str(session.id.hyphenated().encode_lower(&mut text)) {
        response.headers_mut().insert(SESSION_HEADER, value);
    }
    response
}

/// An answer as an event stream: in one piece when it comes soon and alone, else event by event.
async fn stream_answer(
    core: &Arc<Core>,
    mut call: Box<InFlight>,
    progress: Option<mpsc::Receiver<Bytes>>,
    id: Bytes,
) -> Response<Body> {
    let Some(mut progress) = progress else {
        return match tokio::time::timeout(PROMPT, call.answer()).await {
            Ok(Ok(pieces)) => complete(pieces, true),
            Ok(Err(error)) => failed(&error, &id, true),
            Err(_) => answer::events(AnswerStream::new(core, call, None, None, id).into_body()),
        };
    };
    let first = tokio::select! {
        biased;
        // None comes when the call is over and its answer is already there.
        Some(first) = progress.recv() => Some(first),
        answer = call.answer() => {
            return match answer {
                Ok(pieces) if progress.is_empty() => complete(pieces, true),
                Ok(pieces) => {
                    let mut body = Vec::new();
                    while let Ok(event) = progress.try_recv() {
                        body.extend_from_slice(&event);
                    }
                    body.extend_from_slice(&answer::event(&pieces.concat()));
                    answer::events(Body::full(body))
                }
                Err(error) => failed(&error, &id, true),
            };
        }
        () = tokio::time::sleep(PROMPT) => None,
    };
    answer::events(AnswerStream::new(core, call, Some(progress), first, id).into_body())
}

/// The event stream of one call that is under way.
struct AnswerStream {
    call: Option<Box<InFlight>>,
    progress: Option<mpsc::Receiver<Bytes>>,
    first: Option<Bytes>,
    id: Bytes,
    keep_alive: Duration,
}

impl AnswerStream {
    fn new(
        core: &Core,
        call: Box<InFlight>,
        progress: Option<mpsc::Receiver<Bytes>>,
        first: Option<Bytes>,
        id: Bytes,
    ) -> Self {
        Self {
            call: Some(call),
            progress,
            first,
            id,
            keep_alive: core.config.keep_alive,
        }
    }

    fn into_body(self) -> Body {
        Body::stream(stream::unfold(self, |mut state| async move {
            let event = state.next().await?;
            Some((Ok::<_, BodyError>(event), state))
        }))
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let call = self.call.as_mut()?;
        let next_progress = async {
            match &mut self.progress {
                Some(progress) => progress.recv().await,
                None => None,
            }
        };
        let message = tokio::select! {
            biased;
            Some(event) = next_progress => return Some(event),
            answer = call.answer() => answer.map_or_else(
                |error| request::failure_message(&error, &self.id),
                |pieces| pieces.concat().into(),
            ),
            () = tokio::time::sleep(self.keep_alive) => return Some(KEEP_ALIVE),
        };
        self.call = None;
        let mut last = Vec::new();
        if let Some(progress) = &mut self.progress {
            while let Ok(event) = progress.try_recv() {
                last.extend_from_slice(&event);
            }
        }
        last.extend_from_slice(&answer::event(&message));
        Some(last.into())
    }
}

fn get(core: &Arc<Core>, headers: &HeaderMap) -> Response<Body> {
    match session(core, headers) {
        Named::Nobody => missing_session(),
        Named::Unknown => answer::session_not_found(b""),
        Named::Known(session) => {
            let (events, stream) = mpsc::channel(core.config.stream_buffer);
            session.set_stream(events);
            answer::events(event_stream(stream, None, core.config.keep_alive))
        }
    }
}

/// A stream that lives until its sender is gone; `first` comes before all else.
pub(super) fn event_stream(
    events: mpsc::Receiver<Bytes>,
    first: Option<Bytes>,
    keep_alive: Duration,
) -> Body {
    let state = (events, first, Instant::now() + keep_alive);
    Body::stream(stream::unfold(
        state,
        move |(mut events, mut first, mut next)| async move {
            let event = if let Some(event) = first.take() {
                event
            } else {
                tokio::select! {
                    biased;
                    event = events.recv() => event?,
                    () = tokio::time::sleep_until(next) => {
                        next = Instant::now() + keep_alive;
                        KEEP_ALIVE
                    }
                }
            };
            Some((Ok::<_, BodyError>(event), (events, first, next)))
        },
    ))
}

fn delete(core: &Core, headers: &HeaderMap) -> Response<Body> {
    match session(core, headers) {
        Named::Nobody => missing_session(),
        Named::Unknown => answer::session_not_found(b""),
        Named::Known(session) => {
            core.sessions.close(session.id);
            answer::empty(StatusCode::NO_CONTENT)
        }
    }
}

fn missing_session() -> Response<Body> {
    answer::text(StatusCode::BAD_REQUEST, "Mcp-Session-Id header is required")
}
