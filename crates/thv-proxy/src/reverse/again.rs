//! A session that the server does not know any more, made again.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use memchr::memmem::Finder;
use thv_core::TransportType;
use url::Url;

use super::sessions::Known;
use super::{EventReader, Failure, Shared};
use crate::body::Body;
use crate::jsonrpc;
use crate::mcp_headers::{LAST_EVENT_ID, SESSION_ID};
use crate::whole_events::{IDENTITY, is_coded, is_event_stream};

/// How long the server may take to open the session, and how much of its answer is read.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_ANSWER: usize = 1 << 20;
const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A request as it goes to the server.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    /// What the client asked for.
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Shared {
    /// Sends a request, in the session that it names or opens; none when that is not there. The answer comes with the
    /// URL to which the server has redirected, if it has.
    pub(super) async fn send_in_session(
        &self,
        request: &mut Outgoing,
    ) -> Result<Option<(Option<Url>, Response<Body>)>, Failure> {
        if self.config.transport != TransportType::StreamableHttp || self.config.stateless {
            return self.send(request).await.map(Some);
        }
        if is_hello(&request.body) {
            request.headers.remove(&SESSION_ID);
            let said = request.body.clone();
            let (url, response) = self.send(request).await?;
            let id = response.headers().get(&SESSION_ID);
            if let Some(id) = id.filter(|_| response.status().is_success()) {
                self.sessions.opened(id, &said);
            }
            return Ok(Some((url, response)));
        }
        let Some(id) = request.headers.get(&SESSION_ID).cloned() else {
            return self.send(request).await.map(Some);
        };
        let ends = request.method == Method::DELETE;
        let (url, mut response) = match self.sessions.named(&request.headers) {
            Some(known) => self.send_known(&known, request).await?,
            None => self.send(request).await?,
        };
        let status = response.status();
        if status == StatusCode::NOT_FOUND || (ends && status.is_success()) {
            self.sessions.closed(&id);
        }
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if response.headers().contains_key(&SESSION_ID) {
            // The one that the client knows.
            response.headers_mut().insert(&SESSION_ID, id);
        }
        Ok(Some((url, response)))
    }

    /// Sends a request of a session. Where the server answers that it does not know the session, it has not looked at
    /// the request: the session is made again, once for all who ask at that moment, and the request sent once more.
    async fn send_known(
        &self,
        known: &Known,
        request: &mut Outgoing,
    ) -> Result<(Option<Url>, Response<Body>), Failure> {
        let before = known.server_id();
        request.headers.insert(&SESSION_ID, before.clone());
        let (url, response) = self.send(request).await?;
        if response.status() != StatusCode::NOT_FOUND || request.method == Method::DELETE {
            return Ok((url, response));
        }
        let Some(renewed) = Box::pin(self.renew(known, &before, request)).await else {
            return Ok((url, response));
        };
        tracing::info!("the server has forgotten a session, which was made again");
        request.headers.insert(&SESSION_ID, renewed);
        // Its events are those of a stream that is gone.
        request.headers.remove(&LAST_EVENT_ID);
        self.send(request).await
    }

    /// The id of the session that was made for the one that `before` was; none when the server does not open it, or not in
    /// time for one who waits behind others.
    async fn renew(&self, known: &Known, before: &HeaderValue, request: &Outgoing) -> Option<HeaderValue> {
        let renewing = async {
            let _one = known.again.lock().await;
            let now = known.server_id();
            if now != before {
                return Some(now);
            }
            known.renew(&self.open(known, request).await?)
        };
        tokio::time::timeout(PATIENCE, renewing).await.ok()?
    }

    async fn open(&self, known: &Known, request: &Outgoing) -> Option<HeaderValue> {
        let mut hello = request.clone();
        hello.method = Method::POST;
        hello.body = known.hello.clone();
        let headers = &mut hello.headers;
        headers.remove(&SESSION_ID);
        headers.remove(&LAST_EVENT_ID);
        let accept = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(ACCEPT, accept);
        // The proxy reads the answer itself.
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut initialized = hello.clone();
        let (_, response) = self.send(&hello).await.ok()?;
        let id = response.headers().get(&SESSION_ID).cloned();
        let id = id.filter(|_| response.status().is_success())?;
        answered(response, &known.hello).await?;
        initialized.headers.insert(&SESSION_ID, id.clone());
        initialized.body = Bytes::from_static(INITIALIZED);
        let (_, response) = self.send(&initialized).await.ok()?;
        response.status().is_success().then_some(id)
    }
}

/// Whether a client opens a session by this. Mostly it is plain at once that it does not.
fn is_hello(body: &[u8]) -> bool {
    static METHOD: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("initialize"));
    METHOD.find(body).is_some()
        && jsonrpc::scan(body).is_ok_and(|envelope| envelope.method_in(body) == METHOD.needle())
}

/// Reads until the server has answered `initialize`: then the session is there.
async fn answered(mut response: Response<Body>, hello: &[u8]) -> Option<()> {
    let envelope = jsonrpc::scan(hello).ok()?;
    let (streamed, id) = (is_event_stream(response.headers()), envelope.id_in(hello));
    if streamed && is_coded(response.headers()) {
        return None;
    }
    let (mut reader, mut received) = (EventReader::new(), 0);
    while let Some(chunk) = response.body_mut().chunk().await.ok()? {
        received += chunk.len();
        if received > LONGEST_ANSWER {
            return None;
        }
        if !streamed {
            continue;
        }
        reader.push(&chunk);
        while let Some(data) = reader.next_data() {
            if data.answered().contains(&id) {
                return Some(());
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_is_there_when_its_answer_was_read() {
        let hello = br#"{"jsonrpc":"2.0","id":7,"method":"initialize"}"#;
        let event = "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n\n";
        for (headers, expected) in [
            (vec![("content-type", "text/event-stream")], Some(())),
            (vec![("content-type", "application/json")], Some(())),
            (
                vec![
                    ("content-type", "text/event-stream"),
                    ("content-encoding", "gzip"),
                ],
                None,
            ),
        ] {
            let mut response = Response::builder();
            for (name, value) in headers {
                response = response.header(name, value);
            }
            let response = response.body(Body::full(event)).unwrap();
            assert_eq!(answered(response, hello).await, expected);
        }
    }
}
