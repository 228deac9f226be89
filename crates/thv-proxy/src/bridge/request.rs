//! What both HTTP forms do with a message of a client.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::calls::CallError;
use super::core::{Core, InFlight, SMALL_BODY, one_line};
use super::sessions::Session;
use crate::answer;
use crate::body::{self, Body, ReadError};
use crate::jsonrpc::{self, Envelope, Kind, ScanError};

/// One message of a client, read and understood.
pub(super) struct Message {
    pub(super) bytes: Bytes,
    pub(super) envelope: Envelope,
    pub(super) budget: Option<OwnedSemaphorePermit>,
}

/// What became of a request.
pub(super) enum Begun {
    /// The proxy knows the answer itself.
    Answered([Bytes; 3]),
    /// The server was asked.
    Waiting(Box<InFlight>),
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
    let limit = core.config.body_limit;
    let size = http_body::Body::size_hint(&body).exact().unwrap_or(limit as u64);
    let budget = reserve(core, size).await.map_err(Box::new)?;
    let bytes = body::read_all(body, limit, core.config.body_timeout)
        .await
        .map_err(|error| {
            Box::new(match error {
                ReadError::TooLarge => answer::too_large(),
                ReadError::TooSlow => answer::text(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
                ReadError::Broken => answer::text(StatusCode::BAD_REQUEST, "Bad Request"),
            })
        })?;
    match jsonrpc::scan(&bytes) {
        Ok(envelope) => Ok(Message {
            bytes,
            envelope,
            budget,
        }),
        Err(ScanError::Batch) => Err(Box::new(answer::batch())),
        Err(error) => {
            tracing::debug!(%error, "a client's message is refused");
            Err(Box::new(answer::text(
                StatusCode::BAD_REQUEST,
                "Invalid JSON-RPC 2.0 message",
            )))
        }
    }
}

/// Memory for a large body. It is taken at once, for the whole body, so that two half-read bodies never wait for each
/// other.
async fn reserve(core: &Core, size: u64) -> Result<Option<OwnedSemaphorePermit>, Response<Body>> {
    if size > core.config.body_limit as u64 {
        return Err(answer::too_large());
    }
    if size <= SMALL_BODY as u64 {
        return Ok(None);
    }
    let share = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
    let waiting = Arc::clone(&core.budget).acquire_many_owned(share);
    match tokio::time::timeout(core.config.body_timeout, waiting).await {
        Ok(Ok(permit)) => Ok(Some(permit)),
        _ => Err(failure(&CallError::Busy, b"")),
    }
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
    pub(super) async fn initialize_client(
        self: &Arc<Self>,
        message: &Message,
    ) -> Result<[Bytes; 3], CallError> {
        let link = self.link()?;
        let waiting = tokio::time::timeout(self.config.request_timeout, self.initialized(&link));
        let ready = waiting.await.map_err(|_| CallError::Timeout)??;
        let params = message.envelope.params_in(&message.bytes);
        let result = ready.result_for(jsonrpc::member(params, "protocolVersion"));
        let id = Bytes::copy_from_slice(message.envelope.id_in(&message.bytes));
        let tail = [br#","result":"#.as_slice(), &result, b"}"].concat();
        Ok([Bytes::from_static(br#"{"jsonrpc":"2.0","id":"#), id, tail.into()])
    }

    /// A request other than `initialize`.
    pub(super) async fn begin_request(
        self: &Arc<Self>,
        session: Option<&Session>,
        message: Message,
        events: Option<mpsc::Sender<Bytes>>,
    ) -> Result<Begun, CallError> {
        let Message {
            bytes,
            envelope,
            budget,
        } = message;
        if let Some(session) = session
            && let Some(answered) = self.subscription(session, &bytes, &envelope)?
        {
            return Ok(Begun::Answered(answered));
        }
        let key = session.map_or(0, Session::key);
        let call = self.begin(key, bytes, &envelope, events, budget).await?;
        Ok(Begun::Waiting(Box::new(call)))
    }

    /// Notes what a session subscribes to. An answer when the server must not hear of it, because others still want
    /// what this one gives up.
    fn subscription(
        &self,
        session: &Session,
        bytes: &Bytes,
        envelope: &Envelope,
    ) -> Result<Option<[Bytes; 3]>, CallError> {
        let method = envelope.method_in(bytes);
        if !method.starts_with(b"resources/") {
            return Ok(None);
        }
        let Some(uri) = jsonrpc::member(envelope.params_in(bytes), "uri") else {
            return Ok(None);
        };
        if method == b"resources/subscribe" {
            return if session.subscribe(uri) {
                Ok(None)
            } else {
                Err(CallError::Busy)
            };
        }
        if method != b"resources/unsubscribe" {
            return Ok(None);
        }
        session.unsubscribe(uri);
        let id = Bytes::copy_from_slice(envelope.id_in(bytes));
        let answer = [
            Bytes::from_static(br#"{"jsonrpc":"2.0","id":"#),
            id,
            Bytes::from_static(br#","result":{}}"#),
        ];
        Ok(self
            .sessions
            .others_subscribed(uri, session.key())
            .then_some(answer))
    }

    /// A notification or response of a client.
    pub(super) async fn take_notification(
        self: &Arc<Self>,
        session: Option<&Session>,
        message: &Message,
    ) -> Result<(), CallError> {
        let Message { bytes, envelope, .. } = message;
        // No request of the server reaches a client, so no answer of a client belongs to one. The proxy itself has
        // said that it is initialized.
        if envelope.kind() == Kind::Response || envelope.method_in(bytes) == b"notifications/initialized" {
            return Ok(());
        }
        let link = self.link()?;
        let mut outgoing = bytes.clone();
        if envelope.method_in(bytes) == b"notifications/cancelled" {
            let rewritten = session.and_then(|session| self.cancellation(session.key(), bytes, envelope));
            let Some(rewritten) = rewritten else { return Ok(()) };
            outgoing = rewritten;
        }
        if envelope.line_breaks {
            outgoing = one_line(&outgoing);
        }
        let waiting = tokio::time::timeout(self.config.request_timeout, self.initialized(&link));
        waiting.await.map_err(|_| CallError::Timeout)??;
        self.notify(&link, outgoing).await
    }
}
