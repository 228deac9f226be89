//! Calls of tools, by the names that clients know.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::ProxyService;
use super::layer::Layer;
use super::tool_policy::ToolPolicy;
use crate::answer;
use crate::body::{self, Body, Held, ReadError};
use crate::budget::Budget;
use crate::jsonrpc::{self, Envelope, Kind, Span};

/// Where the name of a tool stands besides, since revision 2026-07-28.
const NAME_HEADER: &str = "mcp-name";
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

impl Layer {
    /// A call of a tool that clients do not see is answered with −32602; others reach the server under its own names.
    /// Bodies are read whole, of at most `body_limit` bytes. What is not clearly one JSON-RPC message is refused: the
    /// server might understand it as a call.
    pub fn tool_calls(policy: ToolPolicy, body_limit: usize) -> Self {
        let state = Arc::new(State {
            policy,
            body_limit,
            bodies: Budget::new(64 << 20),
        });
        Self::new(move |inner| {
            let state = Arc::clone(&state);
            ProxyService::new(move |request| {
                let (state, inner) = (Arc::clone(&state), inner.clone());
                async move { state.serve(request, inner).await }
            })
        })
    }
}

struct State {
    policy: ToolPolicy,
    body_limit: usize,
    bodies: Budget,
}

/// What becomes of a message.
enum Verdict {
    Pass,
    /// This message, for the tool of this name.
    Instead(Bytes, String),
    Refused(Response<Body>),
}

impl State {
    async fn serve(&self, request: Request<Body>, inner: ProxyService) -> Response<Body> {
        match *request.method() {
            Method::POST => {}
            Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS => return inner.ask(request).await,
            // Nobody knows what a server does with the body of another one.
            _ => return answer::method_not_allowed("GET, HEAD, POST, DELETE, OPTIONS"),
        }
        let (mut head, body) = request.into_parts();
        let read = body::read_all(body, self.body_limit, BODY_TIMEOUT, &self.bodies).await;
        let Held { bytes, share: _share } = match read {
            Ok(held) => held,
            Err(ReadError::Starved) => return answer::starved(),
            Err(ReadError::TooLarge) => return answer::too_large(),
            Err(ReadError::TooSlow) => return answer::text(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
            Err(ReadError::Broken) => return answer::text(StatusCode::BAD_REQUEST, "Bad Request"),
        };
        let body = match self.judge(&bytes, &head.headers) {
            Verdict::Pass => bytes,
            Verdict::Instead(bytes, name) => {
                if head.headers.contains_key(NAME_HEADER)
                    && let Ok(name) = answer::header_value(&name)
                {
                    head.headers.insert(NAME_HEADER, name);
                }
                bytes
            }
            Verdict::Refused(answer) => return answer,
        };
        let mut request = Request::from_parts(head, Body::full(body));
        request.headers_mut().remove(http::header::CONTENT_LENGTH);
        inner.ask(request).await
    }

    fn judge(&self, message: &Bytes, headers: &HeaderMap) -> Verdict {
        if jsonrpc::is_batch(message) {
            return Verdict::Refused(answer::batch());
        }
        let Ok(envelope) = jsonrpc::scan(message) else {
            let text = "Invalid JSON-RPC 2.0 message";
            return Verdict::Refused(answer::text(StatusCode::BAD_REQUEST, text));
        };
        let method = envelope.method_in(message);
        let refuse = |status, reason| {
            Verdict::Refused(answer::rpc_error(status, -32600, reason, envelope.id_in(message)))
        };
        if memchr::memchr(b'\\', method).is_some() {
            return refuse(
                StatusCode::BAD_REQUEST,
                "\"method\" must be written without escapes",
            );
        }
        if method != b"tools/call" || envelope.kind() == Kind::Response {
            return Verdict::Pass;
        }
        if jsonrpc::any_name(envelope.params_in(message), |name| {
            jsonrpc::could_mean(name, "name")
        }) {
            return refuse(
                StatusCode::BAD_REQUEST,
                "\"name\" must be written without escapes and in small letters",
            );
        }
        match self.call(message, &envelope, headers) {
            Some(verdict) => verdict,
            None => Verdict::Refused(not_found(headers, envelope.id_in(message))),
        }
    }

    /// The call under the server's name; none when there is no such tool.
    fn call(&self, message: &[u8], envelope: &Envelope, headers: &HeaderMap) -> Option<Verdict> {
        let params = envelope.params?;
        let name = jsonrpc::member_span(params.of(message), "name")?;
        let visible = jsonrpc::text(name.of(params.of(message)))?;
        let real = self.policy.real(&visible)?;
        if real == visible {
            return Some(Verdict::Pass);
        }
        // Whoever routes by the header must have seen what is called, in whichever of its lines.
        let mut said = headers.get_all(NAME_HEADER).iter();
        let (first, second) = (said.next(), said.next());
        let says_it = |said: &HeaderValue| answer::header_text(said.as_bytes()).as_ref() == Some(&visible);
        if second.is_some() || first.is_some_and(|first| !says_it(first)) {
            let (status, reason) = (StatusCode::BAD_REQUEST, "the header Mcp-Name is not params.name");
            let refusal = answer::rpc_error(status, -32020, reason, envelope.id_in(message));
            return Some(Verdict::Refused(refusal));
        }
        let span = Span {
            start: params.start + name.start,
            end: params.start + name.end,
        };
        let (before, behind) = (&message[..span.start], &message[span.end..]);
        let quoted = jsonrpc::quoted(real);
        let message = [before, quoted.as_bytes(), behind].concat();
        Some(Verdict::Instead(message.into(), real.to_owned()))
    }
}

/// A client of streamable HTTP takes the error as the answer. One of the SSE transport looks at the status alone.
fn not_found(headers: &HeaderMap, id: &[u8]) -> Response<Body> {
    let streamable = headers
        .get_all(ACCEPT)
        .iter()
        .any(|value| memchr::memmem::find(value.as_bytes(), b"application/json").is_some());
    let status = if streamable {
        StatusCode::OK
    } else {
        StatusCode::BAD_REQUEST
    };
    answer::rpc_error(status, -32602, "tool not found", id)
}
