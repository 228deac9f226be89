//! One connection to the server: a task that reads, a task that writes, and what happens when either ends.
//!
//! Reading never waits for writing or for a client: answers go into one-shot slots, notifications into bounded queues
//! that drop what does not fit, and the proxy's own replies to the server into a bounded queue of their own. So a
//! server that stops reading, or a client that does, delays nobody else.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::BridgeEnd;
use super::backend::{Backend, BackendIo};
use super::calls::CallError;
use super::core::Core;
use super::initialize::Initialized;
use super::param_headers::ParamHeaders;
use crate::budget::Share;
use crate::framer::{Frame, LineFramer};
use crate::jsonrpc::Span;

/// Messages larger than this are written from where they are; smaller ones are joined.
const JOIN: usize = 16 * 1024;
/// How many messages are joined into one write.
const BATCH: usize = 64;
/// Small messages of the proxy itself that may wait: a server may ask much at one moment, and many calls may end at one.
const URGENT: usize = 4096;
/// How long answers are still read from a server that takes no more input.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) type InitFuture = Shared<BoxFuture<'static, Result<Arc<Initialized>, CallError>>>;

/// One message for the server, without its line feed.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) message: Bytes,
    /// The call that it makes: not written once nobody waits for its answer.
    pub(super) call: Option<Numbered>,
    /// The share of the memory for bodies, given back once the message is written.
    pub(super) _share: Share,
}

/// A call by its number, which is written in place of the id that its client gave it.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) client_id: Span,
}

impl Outgoing {
    pub(super) fn whole(message: Bytes, share: Share) -> Self {
        Self {
            message,
            call: None,
            _share: share,
        }
    }

    /// What is written, where `id` is the call's for the server.
    fn pieces<'a>(&'a self, id: &'a [u8]) -> [&'a [u8]; 4] {
        let message = &self.message;
        let Some(Numbered { client_id, .. }) = self.call else {
            return [message, b"", b"", b"\n"];
        };
        [&message[..client_id.start], id, &message[client_id.end..], b"\n"]
    }
}

/// The way to the server that is attached now.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) queue: mpsc::Sender<Outgoing>,
    pub(super) urgent: mpsc::Sender<Bytes>,
    /// The result of `initialize` on this connection.
    pub(super) ready: OnceLock<Arc<Initialized>>,
    /// The flight that gets it.
    pub(super) init: Mutex<Option<InitFuture>>,
    pub(super) closed: AtomicBool,
    /// What is known of the tools of this server.
    pub(super) param_headers: ParamHeaders,
}

/// Serves connection after connection until the server is gone or the bridge is closed.
pub(super) async fn supervise(
    core: Arc<Core>,
    mut connection: Connection,
    backend: Arc<dyn Backend>,
) -> BridgeEnd {
    loop {
        if core
            .stop
            .run_until_cancelled(serve(&core, connection))
            .await
            .is_none()
        {
            core.detach();
            return BridgeEnd::Closed;
        }
        connection = match core
            .stop
            .run_until_cancelled(attach(&core, backend.as_ref()))
            .await
        {
            None => return BridgeEnd::Closed,
            Some(Err(end)) => return end,
            Some(Ok(io)) => Connection::new(&core, io),
        };
        tracing::info!("attached to the server again");
    }
}

async fn attach(core: &Core, backend: &dyn Backend) -> Result<BackendIo, BridgeEnd> {
    let mut pause = core.config.reconnect_delay;
    let mut last = String::new();
    for attempt in 0..core.config.reconnect_attempts {
        if attempt > 0 {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        match backend.attach().await {
            Ok(Some(io)) => return Ok(io),
            Ok(None) => return Err(BridgeEnd::ServerEnded),
            Err(error) => {
                tracing::warn!(%error, attempt, "could not attach to the server again");
                last = error.to_string();
            }
        }
    }
    Err(BridgeEnd::Unreachable { reason: last })
}

/// A connection that calls can be queued on, and whose tasks do not run yet.
#[derive(Debug)]
pub(super) struct Connection {
    io: BackendIo,
    link: Arc<Link>,
    messages: mpsc::Receiver<Outgoing>,
    replies: mpsc::Receiver<Bytes>,
}

impl Connection {
    pub(super) fn new(core: &Core, io: BackendIo) -> Self {
        let (queue, messages) = mpsc::channel(core.config.queue);
        let (urgent, replies) = mpsc::channel(URGENT);
        let (ready, init, closed) = (OnceLock::new(), Mutex::default(), AtomicBool::new(false));
        let link = Arc::new(Link {
            queue,
            urgent,
            ready,
            init,
            closed,
            param_headers: ParamHeaders::default(),
        });
        core.attach(Arc::clone(&link));
        Self {
            io,
            link,
            messages,
            replies,
        }
    }
}

/// One connection, from attached to ended. Everybody who waits is told before this returns.
async fn serve(core: &Arc<Core>, connection: Connection) {
    let Connection {
        io,
        link,
        messages,
        replies,
    } = connection;
    // Two tasks, so that a burst on one side does not wait for the other. Dropping the set ends them.
    let mut both = JoinSet::new();
    both.spawn(read(Arc::clone(core), Arc::clone(&link), io.reader).map(|outcome| (Side::Output, outcome)));
    both.spawn(write(Arc::clone(core), io.writer, messages, replies).map(|outcome| (Side::Input, outcome)));
    let first = both.join_next().await;
    tracing::info!(outcome = ?first, "the connection to the server ended");
    if matches!(first, Some(Ok((Side::Input, _)))) {
        // Its last answers may still stand in the pipe.
        let _ = tokio::time::timeout(LAST_ANSWERS, both.join_next()).await;
    }
    both.shutdown().await;
    core.detach();
}

/// Which of the server's streams ended.
#[derive(Debug, Clone, Copy)]
enum Side {
    Input,
    Output,
}

async fn read(
    core: Arc<Core>,
    link: Arc<Link>,
    mut reader: Box<dyn AsyncRead + Send + Unpin>,
) -> io::Result<()> {
    let mut framer = LineFramer::new(core.config.line_limit);
    loop {
        let count = reader.read_buf(framer.space()).await?;
        while let Some(frame) = framer.next_line() {
            core.receive(&link, frame);
        }
        if count == 0 {
            if let Some(rest) = framer.finish() {
                core.receive(&link, Frame::Line(rest));
            }
            return Ok(());
        }
    }
}

async fn write(
    core: Arc<Core>,
    mut writer: Box<dyn AsyncWrite + Send + Unpin>,
    mut messages: mpsc::Receiver<Outgoing>,
    mut replies: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut joined = BytesMut::with_capacity(JOIN * 4);
    let mut id = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(reply) = replies.recv() => batch.push(Outgoing::whole(reply, Share::default())),
            count = messages.recv_many(&mut batch, BATCH) => if count == 0 {
                return Ok(());
            },
        }
        // Those who are about to send a message may: each write wakes everybody between here and the server.
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && let Ok(message) = messages.try_recv()
        {
            batch.push(message);
        }
        for outgoing in batch.drain(..) {
            if let Some(Numbered { number, .. }) = outgoing.call {
                if !core.calls.begin_write(number) {
                    continue;
                }
                id.clear();
                core.put_server_id(&mut id, number);
            }
            let pieces = outgoing.pieces(&id);
            let is_small = outgoing.message.len() < JOIN;
            if is_small {
                for piece in pieces {
                    joined.extend_from_slice(piece);
                }
                if joined.len() < JOIN * 4 {
                    continue;
                }
            }
            flush(&mut writer, &mut joined).await?;
            if !is_small {
                write_pieces(&mut writer, pieces).await?;
            }
        }
        flush(&mut writer, &mut joined).await?;
        writer.flush().await?;
    }
}

async fn flush(writer: &mut (impl AsyncWrite + Unpin), joined: &mut BytesMut) -> io::Result<()> {
    writer.write_all(joined).await?;
    joined.clear();
    Ok(())
}

async fn write_pieces(writer: &mut (impl AsyncWrite + Unpin), pieces: [&[u8]; 4]) -> io::Result<()> {
    let [head, id, tail, end] = pieces;
    let mut whole = Buf::chain(head, id).chain(tail).chain(end);
    while whole.has_remaining() {
        if writer.write_buf(&mut whole).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

impl Link {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The flight of `initialize` on this connection, started by whoever asks first. A failed one is not kept.
    pub(super) fn initialization(
        self: &Arc<Self>,
        start: impl FnOnce() -> BoxFuture<'static, Result<Arc<Initialized>, CallError>>,
    ) -> InitFuture {
        let mut slot = self
            .init
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(flight) = slot
            .as_ref()
            .filter(|flight| !matches!(flight.peek(), Some(Err(_))))
        {
            return flight.clone();
        }
        slot.insert(start().shared()).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;
    use crate::bridge::BridgeConfig;

    /// What was written, write by write.
    #[derive(Debug, Clone, Default)]
    struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

    impl AsyncWrite for Writes {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if !bytes.is_empty() {
                self.0.lock().unwrap().push(bytes.to_vec());
            }
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_about_to_be_sent_goes_along_in_the_same_write() {
        let core = Arc::new(Core::new(BridgeConfig::default()));
        let (queue, messages) = mpsc::channel(8);
        let (_urgent, replies) = mpsc::channel(1);
        let writes = Writes::default();
        let writing = tokio::spawn(write(core, Box::new(writes.clone()), messages, replies));
        let message = |text| Outgoing::whole(Bytes::from_static(text), Share::default());
        // The second one is made after the writer has been woken by the first.
        queue.try_send(message(b"one")).unwrap();
        tokio::spawn(async move { queue.try_send(message(b"two")).unwrap() });
        writing.await.unwrap().unwrap();
        assert_eq!(*writes.0.lock().unwrap(), [b"one\ntwo\n"]);
    }
}
