//! HTTP with server-sent events, the transport of revision 2024-11-05: answers come on the client's event stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use uuid::Uuid;

use super::StdioBridge;
use super::calls::CallError;
use super::core::Core;
use super::event_stream::EventStream;
use super::events::{Event, Events, Place, queue};
use super::request::{self, Begun, Hello, Message};
use super::sessions::Session;
use crate::answer;
use crate::body::Body;
use crate::forwarded::{self, Outside};
use crate::jsonrpc::Kind;
use crate::serve::{Drain, EndsItself};

/// Opens a client's event stream and tells it where to send its messages.
pub(super) fn connect(core: &Arc<Core>, request: &Request<Body>) -> Response<Body> {
    if request.method() != Method::GET {
        return answer::method_not_allowed("GET");
    }
    let Some(session) = core.open_session() else {
        return answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many sessions, try again later",
        );
    };
    let endpoint = format!(
        "event: endpoint\ndata: {}/messages?session_id={}\n\n",
        base(core, request),
        session.id
    );
    let (events, waiting) = queue(core.config.stream_buffer, core.config.stream_bytes);
    session.set_stream(events);
    let drain = request.extensions().get::<Drain>().cloned();
    let mut response = answer::events(
        EventStream::new(core, waiting)
            .beginning_with(endpoint.into())
            .draining(drain, &session)
            .into_body(),
    );
    response.extensions_mut().insert(EndsItself);
    answer::unbuffered(response)
}

/// Where this client reaches the proxy, without a slash at the end.
fn base(core: &Core, request: &Request<Body>) -> String {
    let headers = request.headers();
    let (trusted, prefix) = (core.config.trust_forwarded, &core.config.endpoint_prefix);
    let nested = forwarded::nested_under(request.uri(), request.extensions());
    let outside = Outside::of(headers, nested, trusted, prefix);
    let origin = outside.origin.unwrap_or_else(|| {
        // The guard has checked that this is a host and nothing else.
        let host = headers.get(HOST).and_then(|value| value.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
        format!("{}://{}", forwarded::scheme(headers), host.unwrap_or("localhost"))
    });
    origin + &outside.prefix
}

/// Takes a message of a client whose stream is open.
pub(super) async fn message(bridge: StdioBridge, request: Request<Body>) -> Response<Body> {
    let core = &bridge.core;
    if request.method() != Method::POST {
        return answer::method_not_allowed("POST");
    }
    let Some(text) = session_id(request.uri().query().unwrap_or_default()) else {
        return answer::text(StatusCode::BAD_REQUEST, "session_id is required");
    };
    let Some(session) = Uuid::try_parse(text).ok().and_then(|id| core.sessions.get(id)) else {
        return answer::session_not_found(b"");
    };
    let Some(stream) = session.stream() else {
        return answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the event stream of this session is closed",
        );
    };
    let (head, body) = request.into_parts();
    let message = match request::read(core, &head.headers, body).await {
        Ok(message) => message,
        Err(refusal) => return *refusal,
    };
    if message.envelope.kind() != Kind::Request {
        return match core.take_notification(Some(&session), message).await {
            Ok(()) => accepted(),
            Err(error) => request::failure(&error, b""),
        };
    }
    // The answer's place in the stream is taken before the server is asked: no answer is ever dropped or kept
    // outside a bounded queue.
    let reserving = tokio::time::timeout(core.config.request_timeout, stream.clone().reserve());
    let Ok(Some(place)) = reserving.await else {
        return answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the event stream of this session is not read",
        );
    };
    let answering = answer(Arc::clone(core), session, message, stream, place);
    core.tasks.spawn(answering);
    accepted()
}

/// Asks the server and puts its answer into the stream.
async fn answer(core: Arc<Core>, session: Arc<Session>, message: Message, stream: Events, place: Place) {
    let id = Bytes::copy_from_slice(message.envelope.id_in(&message.bytes));
    let outcome = tokio::select! {
        outcome = ask(&core, &session, message, &stream) => outcome,
        () = session.given_up.cancelled() => Err(CallError::Draining),
        // The client has gone: its place is free for others.
        () = stream.closed() => return,
    };
    let event = match outcome {
        Ok(pieces) => Event::message(pieces),
        // Who cancels a request expects no answer on the stream.
        Err(CallError::Cancelled) => return,
        Err(error) => Event::message([request::failure_message(&error, &id)]),
    };
    // Who does not read holds the answer no longer than a call may take.
    let _ = tokio::time::timeout(core.config.request_timeout, place.send(event)).await;
}

async fn ask(
    core: &Arc<Core>,
    session: &Session,
    message: Message,
    stream: &Events,
) -> Result<[Bytes; 3], CallError> {
    if message.envelope.method_in(&message.bytes) == b"initialize" {
        let hello = Hello::new(&message);
        drop(message);
        session.abilities.store(hello.abilities.0, Ordering::Release);
        return core.initialize_client(&hello).await;
    }
    match core
        .begin_request(Some(session), message, Some(stream.clone()))
        .await?
    {
        Begun::Answered(pieces) => Ok(pieces),
        Begun::Waiting(mut call) => call.answer().await,
    }
}

fn accepted() -> Response<Body> {
    answer::text(StatusCode::ACCEPTED, "Accepted")
}

fn session_id(query: &str) -> Option<&str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("session_id="))
        .filter(|id| !id.is_empty())
}
