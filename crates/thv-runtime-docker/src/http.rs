//! HTTP with an engine: one connection for each call, closed when the answer is dropped, so that a dropped
//! future ends its call on the engine's side too. Bodies are never logged; they carry secrets.
//!
//! The time limit of a call covers its whole answer, body included; that of a stream is for each piece of it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::DropGuard;
use tokio_util::task::AbortOnDropHandle;

use crate::connection::{Connection, Route};
use crate::entries::{Entries, Reader};
use crate::error::EngineError;

/// No answer that is read whole is longer.
const MAX_ANSWER: usize = 64 << 20;

pub(crate) type Body = Either<Full<Bytes>, StreamBody<BoxStream<'static, std::io::Result<Frame<Bytes>>>>>;

/// No body.
pub(crate) fn empty() -> Body {
    Either::Left(Full::new(Bytes::new()))
}

/// A stream of bytes as a body.
pub(crate) fn streamed(bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static) -> Body {
    Either::Right(StreamBody::new(bytes.map(|chunk| chunk.map(Frame::data)).boxed()))
}

/// A call before it is sent.
pub(crate) struct Call {
    method: Method,
    path: String,
    body: Body,
    content_type: Option<&'static str>,
    /// Who we are to a registry, as the engine wants to have it.
    registry_auth: Option<HeaderValue>,
    upgrade: bool,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            body: empty(),
            content_type: None,
            registry_auth: None,
            upgrade: false,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self, EngineError> {
        let text = serde_json::to_vec(body).map_err(|e| EngineError::Nonsense(e.to_string()))?;
        self.body = Either::Left(Full::new(Bytes::from(text)));
        self.content_type = Some("application/json");
        Ok(self)
    }

    pub(crate) fn tar(mut self, body: Body) -> Self {
        self.body = body;
        self.content_type = Some("application/x-tar");
        self
    }

    pub(crate) fn registry_auth(mut self, auth: Option<HeaderValue>) -> Self {
        self.registry_auth = auth;
        self
    }

    pub(crate) fn upgrade(mut self) -> Self {
        self.upgrade = true;
        self
    }

    fn into_request(self, prefix: &str) -> Result<Request<Body>, EngineError> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("{prefix}{}", self.path))
            .header(header::HOST, "localhost")
            .header(
                header::USER_AGENT,
                concat!("thv-runtime-docker/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(kind) = self.content_type {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(auth) = self.registry_auth {
            request = request.header("x-registry-auth", auth);
        }
        if self.upgrade {
            request = request
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, "tcp");
        }
        request
            .body(self.body)
            .map_err(|e| EngineError::Nonsense(e.to_string()))
    }
}

/// An answer whose body was not read yet. Dropping it closes the connection.
pub(crate) struct Answer {
    response: http::Response<Incoming>,
    connection: AbortOnDropHandle<()>,
    limit: Limit,
}

/// A connection that speaks no HTTP any more.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) stream: UnixStream,
    /// What was read from it already.
    pub(crate) read_ahead: Bytes,
    /// To be kept as long as the stream is.
    pub(crate) carried: Option<DropGuard>,
}

/// Until when an answer must be complete.
#[derive(Debug, Clone, Copy)]
struct Limit(Option<(Duration, Instant)>);

impl Limit {
    /// From now on.
    fn of(limit: Option<Duration>) -> Self {
        Self(limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?))))
    }

    async fn on<T>(self, work: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
        match self.0 {
            None => work.await,
            Some((limit, end)) => timeout_at(end, work)
                .await
                .unwrap_or(Err(EngineError::Timeout(limit))),
        }
    }
}

/// Sends `call` to the engine; an answer that says failure is an error.
pub(crate) async fn send(
    route: &Route,
    prefix: &str,
    call: Call,
    connect_timeout: Duration,
    limit: Option<Duration>,
) -> Result<Answer, EngineError> {
    let request = call.into_request(prefix)?;
    let connect = Limit::of(Some(connect_timeout));
    let stream = connect.on(route.connect()).await?;
    let limit = Limit::of(limit);
    let answer = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // A broken connection is reported by whoever reads from it.
            let _ = connection.with_upgrades().await;
        }));
        let sent = sender.send_request(request).await;
        let response = sent.map_err(|cause| route.distrusted(&cause).unwrap_or_else(|| broken(cause)))?;
        Ok(Answer {
            response,
            connection,
            limit,
        })
    };
    limit.on(answer).await?.checked().await
}

fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    EngineError::Broken(cause.into())
}

fn not_whole(cause: Box<dyn std::error::Error + Send + Sync>) -> EngineError {
    if cause.is::<LengthLimitError>() {
        return EngineError::Nonsense(format!("it is longer than {} MiB", MAX_ANSWER >> 20));
    }
    broken(cause)
}

impl Answer {
    async fn checked(self) -> Result<Self, EngineError> {
        let status = self.response.status();
        if status.is_success() || matches!(status, StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS)
        {
            return Ok(self);
        }
        let body = self.bytes().await?;
        #[derive(serde::Deserialize)]
        struct Words {
            message: String,
        }
        let message = serde_json::from_slice::<Words>(&body).map_or_else(
            |_| String::from_utf8_lossy(&body).trim().to_owned(),
            |words| words.message,
        );
        let message = message.chars().take(2000).collect();
        Err(EngineError::Status {
            status: status.as_u16(),
            message,
        })
    }

    pub(crate) fn headers(&self) -> &http::HeaderMap {
        self.response.headers()
    }

    /// The whole body.
    pub(crate) async fn bytes(self) -> Result<Bytes, EngineError> {
        let Self {
            response,
            connection,
            limit,
        } = self;
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
        let body = limit.on(async { body.await.map_err(not_whole) }).await?;
        drop(connection);
        Ok(body.to_bytes())
    }

    /// The whole body as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, EngineError> {
        let body = self.bytes().await?;
        serde_json::from_slice(&body).map_err(|e| EngineError::Nonsense(e.to_string()))
    }

    /// The whole body as a list in JSON.
    pub(crate) async fn list<T: DeserializeOwned>(self) -> Result<Entries<T>, EngineError> {
        let Self {
            response,
            connection,
            limit,
        } = self;
        let mut body = response.into_body().into_data_stream();
        let reading = async {
            let mut reader = Reader::default();
            while let Some(chunk) = body.next().await {
                reader.take(&chunk.map_err(broken)?)?;
            }
            reader.end()
        };
        let entries = limit.on(reading).await?;
        drop(connection);
        Ok(entries)
    }

    /// The body as it comes, however long that takes. `idle` is how long the engine may be silent; `None` where it
    /// may have nothing to say.
    pub(crate) fn stream(self, idle: Option<Duration>) -> BoxStream<'static, Result<Bytes, EngineError>> {
        let Self {
            response, connection, ..
        } = self;
        let body = response.into_body().into_data_stream();
        stream::unfold(Some((body, connection)), move |open| async move {
            let (mut body, connection) = open?;
            let chunk = match idle {
                None => body.next().await,
                Some(limit) => match timeout(limit, body.next()).await {
                    Ok(chunk) => chunk,
                    Err(_) => return Some((Err(EngineError::Timeout(limit)), None)),
                },
            };
            Some((chunk?.map_err(broken), Some((body, connection))))
        })
        .boxed()
    }

    /// The bare connection after an upgrade.
    pub(crate) async fn upgraded(self) -> Result<Upgraded, EngineError> {
        let Self {
            response,
            connection,
            limit,
        } = self;
        let upgraded = hyper::upgrade::on(response);
        let upgraded = limit.on(async { upgraded.await.map_err(broken) }).await?;
        drop(connection);
        let parts = upgraded
            .downcast::<TokioIo<Connection>>()
            .map_err(|_| EngineError::Nonsense("the connection is of another type".to_owned()))?;
        let (stream, carried) = parts.io.into_inner().into_socket().map_err(broken)?;
        Ok(Upgraded {
            stream,
            read_ahead: parts.read_buf,
            carried,
        })
    }
}

/// Text as a part of a query.
pub(crate) fn quoted(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
