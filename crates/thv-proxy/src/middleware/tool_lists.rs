//! Lists of tools on their way to clients, in JSON bodies and in event streams.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};
use http::{Request, Response, StatusCode};
use http_body_util::BodyDataStream;

use super::ProxyService;
use super::layer::Layer;
use super::tool_policy::{Rewritten, ToolPolicy};
use crate::answer;
use crate::body::{Body, BodyError};
use crate::budget::{Budget, Share};
use crate::jsonrpc;
use crate::whole_events::{IDENTITY, WholeEvents, is_coded, is_event_stream, lines};

/// An answer or event is held whole up to this size.
const LONGEST: usize = 32 << 20;
/// All that are held at one time.
const ALL: usize = 128 << 20;
const UNCLEAR: &str = "the server's answer could not be looked at, and is not passed on";

impl Layer {
    /// Clients see only the tools of `policy`, under its names. Answers are held until they are whole, events one by
    /// one; what is compressed or not clearly JSON-RPC is not passed on.
    pub fn tool_lists(policy: ToolPolicy) -> Self {
        let state = Arc::new(State {
            policy,
            budget: Budget::new(ALL),
        });
        Self::new(move |inner| {
            let state = Arc::clone(&state);
            ProxyService::new(move |mut request: Request<Body>| {
                // What is compressed cannot be looked at. Without the header a server might choose.
                request.headers_mut().insert(ACCEPT_ENCODING, IDENTITY);
                let (state, inner) = (Arc::clone(&state), inner.clone());
                async move { State::filter(state, inner.ask(request).await).await }
            })
        })
    }
}

struct State {
    policy: ToolPolicy,
    budget: Budget,
}

impl State {
    async fn filter(self: Arc<Self>, response: Response<Body>) -> Response<Body> {
        let headers = response.headers();
        let events = is_event_stream(headers);
        let has_body = !matches!(response.status().as_u16(), 202 | 204 | 304);
        if !has_body {
            return response;
        }
        if is_coded(headers) {
            return answer::rpc_error(StatusCode::BAD_GATEWAY, -32000, UNCLEAR, b"");
        }
        let (mut head, body) = response.into_parts();
        head.headers.remove(CONTENT_LENGTH);
        if events {
            return Response::from_parts(head, self.events(body));
        }
        let Some(bytes) = self.whole(body).await else {
            return answer::rpc_error(StatusCode::BAD_GATEWAY, -32000, UNCLEAR, b"");
        };
        match self.policy.rewrite(&bytes) {
            Rewritten::AsItIs => Response::from_parts(head, Body::full(bytes)),
            Rewritten::Instead(bytes) => Response::from_parts(head, Body::full(bytes)),
            // What is no success is the server's own page about an error, and no list.
            Rewritten::Unclear if !head.status.is_success() => Response::from_parts(head, Body::full(bytes)),
            Rewritten::Unclear => answer::rpc_error(StatusCode::BAD_GATEWAY, -32000, UNCLEAR, b""),
        }
    }

    /// A whole body, counted until the last of it is sent.
    async fn whole(&self, body: Body) -> Option<Bytes> {
        let mut chunks = BodyDataStream::new(body);
        let (mut whole, mut share) = (BytesMut::new(), Share::default());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.ok()?;
            let len = whole.len() + chunk.len();
            if len > LONGEST {
                return None;
            }
            self.budget.cover(&mut share, len).await.ok()?;
            whole.extend_from_slice(&chunk);
        }
        drop(share);
        self.budget.charge(whole.freeze())
    }

    fn events(self: Arc<Self>, body: Body) -> Body {
        Body::stream(stream::unfold(
            (self, Held::new(body)),
            |(state, mut held)| async move {
                let piece = state.next(&mut held).await?;
                Some((piece, (state, held)))
            },
        ))
    }

    /// What can be passed on next: whole events.
    async fn next(&self, held: &mut Held) -> Option<Result<Bytes, BodyError>> {
        loop {
            let mut out = BytesMut::new();
            while let Some(event) = held.events.next_event() {
                out.extend_from_slice(&self.event(event));
            }
            if !out.is_empty() {
                held.share = Share::default();
                return Some(Ok(out.freeze()));
            }
            if held.ended {
                return None;
            }
            match held.chunks.next().await {
                Some(Ok(chunk)) => {
                    let len = held.events.held() + chunk.len();
                    if len > LONGEST || self.budget.cover(&mut held.share, len).await.is_err() {
                        held.ended = true;
                        return Some(Err(UNCLEAR.into()));
                    }
                    held.events.push(&chunk);
                }
                Some(Err(error)) => {
                    held.ended = true;
                    return Some(Err(error));
                }
                // What has no end is no event: a client ignores it too.
                None => held.ended = true,
            }
        }
    }

    fn event(&self, event: Bytes) -> Bytes {
        let mut data = Vec::new();
        let mut found = false;
        let lines = || lines(&event);
        for text in lines().filter_map(|line| line.strip_prefix(b"data:")) {
            if found {
                data.push(b'\n');
            }
            found = true;
            data.extend_from_slice(text.strip_prefix(b" ").unwrap_or(text));
        }
        let message = match self.policy.rewrite(&data) {
            Rewritten::AsItIs => return event,
            Rewritten::Instead(message) => message,
            Rewritten::Unclear => {
                let id = jsonrpc::scan(&data).ok();
                let id = id.map_or(&b""[..], |envelope| envelope.id_in(&data));
                answer::error_message(-32000, UNCLEAR, id)
            }
        };
        let mut out = BytesMut::new();
        for line in lines().filter(|line| !line.is_empty() && !line.starts_with(b"data:")) {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\n");
        }
        for line in self::lines(&message) {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line);
            out.extend_from_slice(b"\n");
        }
        out.extend_from_slice(b"\n");
        out.freeze()
    }
}

/// An event stream and what of it is not yet an event.
struct Held {
    chunks: BodyDataStream<Body>,
    events: WholeEvents,
    share: Share,
    ended: bool,
}

impl Held {
    fn new(body: Body) -> Self {
        Self {
            chunks: BodyDataStream::new(body),
            events: WholeEvents::new(),
            share: Share::default(),
            ended: false,
        }
    }
}
