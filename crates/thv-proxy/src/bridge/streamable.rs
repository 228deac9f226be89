//! Streamable HTTP: one endpoint that takes messages by POST and gives event streams by GET.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use memchr::memmem::Finder;
use uuid::Uuid;

use super::StdioBridge;
use super::call_stream::{EventId, Streamed};
use super::calls::CallError;
use super::core::{Core, progress_token};
use super::event_stream::{EventStream, KEEP_ALIVE};
use super::events::{Event, Waiting, queue};
use super::in_flight::InFlight;
use super::request::{self, Begun, Hello};
use super::sessions::Session;
use super::stateless;
use crate::answer::{self, EVENT_HEAD, EVENT_TAIL};
use crate::body::{Body, BodyError};
use crate::jsonrpc::Kind;
use crate::mcp_headers::{LAST_EVENT_ID, PROTOCOL_VERSION, SESSION_ID};

/// The first revision with events that say nothing but where a stream is.
const PRIMING_SINCE: &str = "2025-11-25";
/// Progress that waits to be read by the client of one call: so many events, of so many bytes.
const PROGRESS_BUFFER: usize = 16;
const PROGRESS_BYTES: usize = 256 * 1024;
/// An answer that comes within this is sent in one piece; for a slower one the event stream is begun without it.
const PROMPT: Duration = Duration::from_secs(1);

/// The answer to a request other than POST.
pub(super) fn answer(core: &Arc<Core>, request: &Request<Body>) -> Response<Body> {
    let headers = request.headers();
    if core.config.strict_versions
        && let Some(refusal) = answer::unknown_version(headers, b"")
    {
        return refusal;
    }
    match *request.method() {
        Method::GET | Method::DELETE if stateless::is_named(headers) => answer::method_not_allowed("POST"),
        Method::GET => get(core, headers),
        Method::DELETE => delete(core, headers),
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
    let mut values = headers.get_all(&SESSION_ID).iter();
    let Some(value) = values.next() else {
        return Named::Nobody;
    };
    // Of two, whoever stands between may have looked at the other.
    if values.next().is_some() {
        return Named::Unknown;
    }
    let id = value.to_str().ok().and_then(|text| Uuid::try_parse(text).ok());
    id.and_then(|id| core.sessions.get(id))
        .map_or(Named::Unknown, Named::Known)
}

/// Takes a message.
pub(super) async fn post(bridge: StdioBridge, request: Request<Body>) -> Response<Body> {
    let core = &bridge.core;
    let (head, body) = request.into_parts();
    let message = match request::read(core, &head.headers, body).await {
        Ok(message) => message,
        Err(refusal) => return *refusal,
    };
    let stateless = stateless::is_stateless(&head.headers, &message);
    if !stateless
        && core.config.strict_versions
        && let Some(refusal) = answer::unknown_version(&head.headers, message.envelope.id_in(&message.bytes))
    {
        return refusal;
    }
    if message.envelope.kind() != Kind::Request {
        let session = match session(core, &head.headers) {
            Named::Known(session) => Some(session),
            Named::Nobody => None,
            // The revision without sessions has no such header.
            Named::Unknown if stateless::is_named(&head.headers) => None,
            Named::Unknown => return answer::session_not_found(b""),
        };
        let taking = core.take_notification(session.as_deref(), message);
        return match Box::pin(taking).await {
            Ok(()) => answer::empty(StatusCode::ACCEPTED),
            Err(error) => request::failure(&error, b""),
        };
    }
    let streaming = accepts_events(&head.headers);
    if message.envelope.method_in(&message.bytes) == b"initialize" {
        let hello = Hello::new(&message);
        drop(message);
        return Box::pin(initialize(core, &hello, streaming)).await;
    }
    let mut caller = None;
    if stateless {
        if let Err(refusal) = stateless::check(&head.headers, &message) {
            return *refusal;
        }
        match message.envelope.method_in(&message.bytes) {
            b"server/discover" => {
                return Box::pin(core.discover(message.envelope.id_in(&message.bytes))).await;
            }
            b"tools/call" => {
                if let Err(error) = Box::pin(core.check_param_headers(&head.headers, &message)).await {
                    return failed(&error, message.envelope.id_in(&message.bytes), streaming);
                }
            }
            b"subscriptions/listen" if streaming => return Box::pin(core.listen(message)).await,
            b"subscriptions/listen" => return answer::not_acceptable(),
            method if stateless::is_removed(method) => {
                return stateless::method_not_found(message.envelope.id_in(&message.bytes));
            }
            _ => {}
        }
    } else {
        caller = match session(core, &head.headers) {
            Named::Known(session) => Some(session),
            Named::Nobody => None,
            Named::Unknown => return answer::session_not_found(message.envelope.id_in(&message.bytes)),
        };
    }
    let (events, progress) = if streaming && progress_token(&message.bytes, &message.envelope).is_some() {
        let (events, progress) = queue(PROGRESS_BUFFER, PROGRESS_BYTES);
        (Some(events), Some(progress))
    } else {
        (None, None)
    };
    let primed = streaming && understands_priming(&head.headers);
    // Its memory is the connection's.
    drop(head);
    let id = Bytes::copy_from_slice(message.envelope.id_in(&message.bytes));
    let begun = if stateless {
        Box::pin(core.begin_stateless(message, events)).await
    } else {
        core.begin_request(caller.as_deref(), message, events).await
    };
    match begun {
        Ok(Begun::Answered(pieces)) => complete(StatusCode::OK, pieces, streaming),
        Ok(Begun::Waiting(mut call)) if !streaming => match call.answer().await {
            Ok(pieces) => complete(call.status, pieces, false),
            Err(error) => request::failure(&error, &id),
        },
        Ok(Begun::Waiting(call)) => {
            let owner = caller.map(|session| (session, primed));
            stream_answer(core, call, progress, id, owner).await
        }
        Err(error) => failed(&error, &id, streaming),
    }
}

static EVENT_STREAM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"text/event-stream"));

fn accepts_events(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|value| {
        let value = value.as_bytes();
        let end = EVENT_STREAM
            .find(value)
            .map(|at| at + EVENT_STREAM.needle().len());
        end.is_some_and(|end| !has_no_weight(&value[end..]))
    })
}

/// Whether the parameters behind a media type say `q=0`: it is named in order not to be sent.
fn has_no_weight(rest: &[u8]) -> bool {
    let parameters = rest.split(|byte| *byte == b',').next().unwrap_or_default();
    parameters.split(|byte| *byte == b';').any(|parameter| {
        matches!(parameter.trim_ascii(), [b'q' | b'Q', b'=', b'0', rest @ ..]
            if rest.iter().all(|byte| matches!(byte, b'.' | b'0')))
    })
}

/// A whole answer, as JSON or as an event stream of one event.
fn complete(status: StatusCode, pieces: [Bytes; 3], streaming: bool) -> Response<Body> {
    /// Larger answers are sent from where they are.
    const JOIN: usize = 16 * 1024;
    // An error with a status of its own is no stream.
    let streaming = streaming && status == StatusCode::OK;
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
        answer::json_body(status, body)
    }
}

fn failed(error: &CallError, id: &[u8], streaming: bool) -> Response<Body> {
    let with_status = matches!(
        error,
        CallError::Busy | CallError::Disconnected | CallError::HeaderMismatch { .. }
    );
    if streaming && !with_status {
        return answer::events(Event::message([request::failure_message(error, id)]).into_body());
    }
    request::failure(error, id)
}

/// A new session. An id that the client names is not taken over: others may know it.
async fn initialize(core: &Arc<Core>, hello: &Hello, streaming: bool) -> Response<Body> {
    let pieces = match core.initialize_client(hello).await {
        Ok(pieces) => pieces,
        Err(error) => return failed(&error, &hello.id, streaming),
    };
    let Some(session) = core.open_session() else {
        let message = "too many sessions, try again later";
        return answer::rpc_error(StatusCode::SERVICE_UNAVAILABLE, -32000, message, &hello.id);
    };
    session.abilities.store(hello.abilities.0, Ordering::Release);
    let mut response = complete(StatusCode::OK, pieces, streaming);
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    if let Ok(value) = HeaderValue::from_str(session.id.hyphenated().encode_lower(&mut text)) {
        response.headers_mut().insert(&SESSION_ID, value);
    }
    response
}

/// An answer as an event stream: in one piece when it comes soon and alone, else event by event.
async fn stream_answer(
    core: &Arc<Core>,
    mut call: Box<InFlight>,
    progress: Option<Waiting>,
    id: Bytes,
    owner: Option<(Arc<Session>, bool)>,
) -> Response<Body> {
    let Some(mut progress) = progress else {
        return match call.answer_within(PROMPT).await {
            Some(Ok(pieces)) => complete(call.status, pieces, true),
            Some(Err(error)) => failed(&error, &id, true),
            None => begun(core, owner, call, None, id, Event::default()),
        };
    };
    let first = tokio::select! {
        biased;
        // None comes when the call is over and its answer is already there.
        Some(first) = progress.next() => Some(first),
        answer = call.answer() => {
            return match answer {
                Ok(pieces) if progress.is_empty() => complete(call.status, pieces, true),
                Err(error) if progress.is_empty() => failed(&error, &id, true),
                answer => answer::events(last_events(Some(&mut progress), answer, &id).into_body()),
            };
        }
        () = tokio::time::sleep(PROMPT) => None,
    };
    begun(core, owner, call, Some(progress), id, first.unwrap_or_default())
}

/// A stream that begins before its answer is there. A client with a session can come back to it.
fn begun(
    core: &Arc<Core>,
    owner: Option<(Arc<Session>, bool)>,
    call: Box<InFlight>,
    progress: Option<Waiting>,
    id: Bytes,
    first: Event,
) -> Response<Body> {
    let mut streamed = Streamed {
        call,
        progress,
        id,
        first,
        primed: false,
    };
    if let Some((session, primed)) = owner {
        streamed.primed = primed;
        streamed = match streamed.start(core, &session) {
            Ok(waiting) => {
                return answer::unbuffered(answer::events(EventStream::new(core, waiting).into_body()));
            }
            Err(streamed) => *streamed,
        };
    }
    let stream = AnswerStream::new(streamed, core.config.keep_alive);
    answer::unbuffered(answer::events(stream.into_body()))
}

/// Whether a client knows that an event without data only gives it a place to come back to.
fn understands_priming(headers: &HeaderMap) -> bool {
    headers
        .get(&PROTOCOL_VERSION)
        .is_some_and(|version| version.as_bytes() >= PRIMING_SINCE.as_bytes())
}

/// The progress that nobody has read yet, then the answer.
fn last_events(progress: Option<&mut Waiting>, answer: Result<[Bytes; 3], CallError>, id: &[u8]) -> Event {
    let mut events = Event::default();
    if let Some(progress) = progress {
        while let Some(event) = progress.try_next() {
            events.append(event);
        }
    }
    events.append(match answer {
        Ok(pieces) => Event::message(pieces),
        Err(error) => Event::message([request::failure_message(&error, id)]),
    });
    events
}

/// The event stream of one call that is under way, for a client without a session: it ends with its connection.
struct AnswerStream {
    call: Option<Box<InFlight>>,
    progress: Option<Waiting>,
    /// What was begun to be sent.
    pieces: Event,
    id: Bytes,
    keep_alive: Duration,
}

impl AnswerStream {
    fn new(streamed: Streamed, keep_alive: Duration) -> Self {
        Self {
            call: Some(streamed.call),
            progress: streamed.progress,
            pieces: streamed.first,
            id: streamed.id,
            keep_alive,
        }
    }

    fn into_body(self) -> Body {
        Body::stream(stream::unfold(self, |mut state| async move {
            let piece = state.next().await?;
            Some((Ok::<_, BodyError>(piece), state))
        }))
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.pieces.next_piece() {
            return Some(piece);
        }
        let call = self.call.as_mut()?;
        let next_progress = async {
            match &mut self.progress {
                Some(progress) => progress.next().await,
                None => None,
            }
        };
        self.pieces = tokio::select! {
            biased;
            Some(event) = next_progress => event,
            answer = call.answer() => {
                self.call = None;
                last_events(self.progress.as_mut(), answer, &self.id)
            }
            () = tokio::time::sleep(self.keep_alive) => return Some(KEEP_ALIVE),
        };
        self.pieces.next_piece()
    }
}

fn get(core: &Arc<Core>, headers: &HeaderMap) -> Response<Body> {
    match session(core, headers) {
        Named::Nobody => missing_session(),
        Named::Unknown => answer::session_not_found(b""),
        Named::Known(session) => {
            let (events, waiting) = queue(core.config.stream_buffer, core.config.stream_bytes);
            let seen = headers.get(&LAST_EVENT_ID);
            let seen = seen.and_then(|value| value.to_str().ok());
            if let Some(seen) = seen.and_then(EventId::parse) {
                if !session.call_streams.resume(seen, events) {
                    return answer::text(StatusCode::BAD_REQUEST, "The event stream is not kept any more");
                }
            } else {
                session.resume_stream(events, seen.and_then(|seen| seen.parse().ok()));
            }
            answer::unbuffered(answer::events(EventStream::new(core, waiting).into_body()))
        }
    }
}

fn delete(core: &Core, headers: &HeaderMap) -> Response<Body> {
    match session(core, headers) {
        Named::Nobody => missing_session(),
        Named::Unknown => answer::session_not_found(b""),
        Named::Known(session) => {
            core.close_session(session.key());
            answer::empty(StatusCode::NO_CONTENT)
        }
    }
}

fn missing_session() -> Response<Body> {
    answer::text(StatusCode::BAD_REQUEST, "Mcp-Session-Id header is required")
}
