//! The event stream of an SSE server on its way to a client.
//!
//! The server answers on the stream what was asked by POST, so a proxy that ends has to know what is still owed on it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyDataStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::endpoint::EndpointRewriter;
use super::event_reader::EventReader;
use super::standstill::excuse;
use crate::body::{Body, BodyError};
use crate::serve::Drain;
use crate::suspension::Suspension;

/// Requests that are kept in mind for one stream, and their longest id.
const MOST_OWED: usize = 4096;
const LONGEST_ID: usize = 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The streams that are open, by the path and query that their messages are sent to. A server may name one path to several
/// streams, and answer on any of them: they have in common what is owed. With it stands how many they are.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<String, (Arc<Owed>, usize)>>);

/// The ids of the requests that were sent and not answered.
#[derive(Debug, Default)]
pub(super) struct Owed {
    ids: Mutex<HashSet<Bytes>>,
    changed: Notify,
}

/// A request that is being sent. Unless [`Owing::accepted`], no answer is expected.
#[derive(Debug)]
pub(super) struct Owing {
    owed: Arc<Owed>,
    id: Option<Bytes>,
}

impl Streams {
    /// A stream whose messages go to `path`.
    fn register(self: &Arc<Self>, path: String) -> Registered {
        let mut streams = lock(&self.0);
        let (owed, count) = streams.entry(path.clone()).or_default();
        *count += 1;
        Registered {
            streams: Arc::clone(self),
            path,
            owed: Arc::clone(owed),
        }
    }

    /// Notes that an answer to `id` is expected on a stream whose messages go to `path`.
    pub(super) fn expect(&self, path: &str, id: &[u8]) -> Option<Owing> {
        let owed = Arc::clone(&lock(&self.0).get(path)?.0);
        if id.len() > LONGEST_ID {
            return None;
        }
        let id = Bytes::copy_from_slice(id);
        {
            let mut ids = lock(&owed.ids);
            if ids.len() >= MOST_OWED || !ids.insert(id.clone()) {
                return None;
            }
        }
        Some(Owing { owed, id: Some(id) })
    }
}

impl Owing {
    /// The server has taken the request.
    pub(super) fn accepted(mut self) {
        self.id = None;
    }
}

impl Drop for Owing {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.owed.settle(id);
        }
    }
}

impl Owed {
    fn settle(&self, id: &[u8]) {
        lock(&self.ids).remove(id);
        self.changed.notify_waiters();
    }

    /// Resolves when nothing is owed. Cancel-safe.
    async fn nothing(&self) {
        loop {
            let changed = self.changed.notified();
            if lock(&self.ids).is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Comes when the server stands still and owes answers that are not `excused`. Cancel-safe.
    async fn standstill(&self, suspension: &Suspension, excused: &HashSet<Bytes>) -> Arc<str> {
        loop {
            let reason = suspension.begun().await;
            let changed = self.changed.notified();
            if self.all().iter().any(|id| !excused.contains(id)) {
                return reason;
            }
            tokio::select! {
                () = changed => {}
                () = suspension.ended() => {}
            }
        }
    }

    /// All that is owed. Each stream tells it: nobody knows whose it is.
    fn all(&self) -> Vec<Bytes> {
        lock(&self.ids).iter().cloned().collect()
    }
}

/// An entry in [`Streams`].
struct Registered {
    streams: Arc<Streams>,
    path: String,
    owed: Arc<Owed>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut streams = lock(&self.streams.0);
        if let Some((_, count)) = streams.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.path);
            }
        }
    }
}

/// One stream: rewritten, watched, and ended in order.
pub(super) struct SseStream {
    chunks: BodyDataStream<Body>,
    rewriter: EndpointRewriter,
    reader: EventReader,
    streams: Arc<Streams>,
    registered: Option<Registered>,
    owed: Arc<Owed>,
    drain: Drain,
    ending: CancellationToken,
    suspension: Arc<Suspension>,
    /// What its client was told will not be answered. The server may do so after all, once it goes on.
    excused: HashSet<Bytes>,
    draining: bool,
    ended: bool,
}

impl SseStream {
    pub(super) fn new(
        body: Body,
        rewriter: EndpointRewriter,
        streams: Arc<Streams>,
        drain: Option<Drain>,
        ending: CancellationToken,
        suspension: Arc<Suspension>,
    ) -> Self {
        Self {
            chunks: BodyDataStream::new(body),
            rewriter,
            reader: EventReader::new(),
            streams,
            registered: None,
            owed: Arc::default(),
            drain: drain.unwrap_or_default(),
            ending,
            suspension,
            excused: HashSet::new(),
            draining: false,
            ended: false,
        }
    }

    pub(super) fn into_body(self) -> Body {
        Body::stream(stream::unfold(self, |mut state| async move {
            let item = state.next().await?;
            Some((item, state))
        }))
    }

    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        while !self.ended {
            let drain = self.drain.clone();
            tokio::select! {
                biased;
                chunk = self.chunks.next() => match self.take(chunk) {
                    Ok(out) if out.is_empty() => {}
                    outcome => return Some(outcome),
                },
                () = drain.begun(), if !self.draining => self.draining = true,
                () = self.ending.cancelled(), if !self.draining => self.draining = true,
                () = self.owed.nothing(), if self.draining => self.ended = true,
                () = drain.over(), if self.draining => {
                    self.ended = true;
                    return Some(Ok(self.excuses("the proxy ended before the server answered")));
                }
                reason = self.owed.standstill(&self.suspension, &self.excused) => {
                    let excuses = self.excuses(&reason);
                    self.excused = self.owed.all().into_iter().collect();
                    return Some(Ok(excuses));
                }
            }
        }
        None
    }

    fn take(&mut self, chunk: Option<Result<Bytes, BodyError>>) -> Result<Bytes, BodyError> {
        let out = match chunk {
            Some(Ok(chunk)) => self.rewriter.push(chunk).map_err(BodyError::from),
            Some(Err(error)) => Err(error),
            None => {
                self.ended = true;
                return Ok(self.rewriter.finish());
            }
        };
        self.ended = out.is_err();
        let out = out?;
        if let Some(path) = self.rewriter.take_endpoint() {
            // Another one takes the place of the first.
            let registered = self.streams.register(path);
            self.owed = Arc::clone(&registered.owed);
            self.registered = Some(registered);
        }
        self.reader.push(&out);
        while let Some(data) = self.reader.next_data() {
            for id in data.answered() {
                self.owed.settle(id);
                self.excused.remove(id);
            }
        }
        Ok(out)
    }

    /// What those are told whose answer does not come. What stood before it need not have ended.
    fn excuses(&self, message: &str) -> Bytes {
        let mut out = Vec::new();
        for id in self.owed.all().iter().filter(|id| !self.excused.contains(*id)) {
            out.extend_from_slice(&excuse(message, id));
        }
        out.into()
    }
}
