//! HTTP with server-sent events, the transport of revision 2024-11-05: answers come on the client's event stream.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::core::Core;
use super::request::{self, Begun};
use super::streamable::event_stream;
use crate::answer;
use crate::body::Body;
use crate::jsonrpc::Kind;

/// Opens a client's event stream and tells it where to send its messages.
pub(super) fn connect(core: &Arc<Core>, request: &Request<Body>) -> Response<Body> {
    if request.method() != Method::GET {
        return answer::method_not_allowed("GET");
    }
    let Some(session) = core.sessions.open(Uuid::new_v4()) else {
        return answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many sessions, try again later",
        );
    };
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let scheme = match header("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    // The guard has checked that this is a host and nothing else.
    let host = header(HOST.as_str())
        .or_else(|| request.uri().authority().map(http::uri::Authority::as_str))
        .unwrap_or("localhost");
    let endpoint = format!(
        "event: endpoint\ndata: {scheme}://{host}/messages?session_id={}\n\n",
        session.id
    );
    let (events, stream) = mpsc::channel(core.config.stream_buffer);
    session.set_stream(events);
    answer::events(event_stream(
        stream,
        Some(endpoint.into()),
        core.config.keep_alive,
    ))
}

/// Takes a message of a client whose stream is open.
pub(super) async fn message(core: &Arc<Core>, request: Request<Body>) -> Response<Body> {
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
        return match core.take_notification(Some(&session), &message).await {
            Ok(()) => accepted(),
            Err(error) => request::failure(&error, b""),
        };
    }
    let id = Bytes::copy_from_slice(message.envelope.id_in(&message.bytes));
    // The answer's place in the stream is taken before the server is asked: no answer is ever dropped or kept
    // outside a bounded queue.
    let reserving = tokio::time::timeout(core.config.request_timeout, stream.clone().reserve_owned());
    let Ok(Ok(place)) = reserving.await else {
        return answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the event stream of this session is not read",
        );
    };
    let core = Arc::clone(core);
    let running = Arc::clone(&core);
    running.tasks.spawn(async move {
        let asking = async {
            if message.envelope.method_in(&message.bytes) == b"initialize" {
                return core.initialize_client(&message).await;
            }
            match core
                .begin_request(Some(&session), message, Some(stream.clone()))
                .await?
            {
                Begun::Answered(pieces) => Ok(pieces),
                Begun::Waiting(mut call) => call.answer().await,
            }
        };
        tokio::select! {
            outcome = asking => {
                let answer = outcome.map_or_else(
                    |error| request::failure_message(&error, &id),
                    |pieces| pieces.concat().into(),
                );
                place.send(answer::event(&answer));
            }
            // The client has gone: its place is free for others.
            () = stream.closed() => {}
        }
    });
    accepted()
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
