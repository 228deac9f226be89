//! The streams of a stdio server.
//!
//! Where the engine logs what the server writes, only standard input and output are attached: standard error is in that log.
//! Where it does not, standard error has a connection of its own, so that no queue is needed between two readers. It is there
//! before the server is started, so that nothing is lost. Standard input must not be: an attachment of it that ends before
//! the start has Docker close the input of the server that is started then.
//!
//! A second attachment is refused among the clones of one value. Other processes are not seen: no engine tells who is
//! attached, and a mark on this machine would miss other users and machines, or let any user occupy it. Whoever owns the
//! workload holds a lock.
//!
//! Output ends when the server is dead, where that is known before the engine says so ([`FirstProcess`]): what is under way from
//! it is still read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use thv_core::WorkloadName;
use thv_runtime::{Error, InstanceRef, Result, Stdio};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, BufReader, ReadBuf};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::DropGuard;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::first_process::FirstProcess;
use crate::http::{Call, Upgraded};
use crate::lines::{ENGINE, HEADER, frame};
use crate::lookup::{self, container};
use crate::wire::Container;

/// Twice the largest frame that Docker writes.
const BUFFER: usize = 64 << 10;
/// Standard error has less to say.
const SMALL_BUFFER: usize = 8 << 10;
/// Of the last words of a server that ended at once so many bytes are kept, and they are read for so long.
const LAST_WORDS: usize = 256 << 10;
const LAST_WORDS_WAIT: Duration = Duration::from_secs(2);
/// How long nothing may come of a server that is dead, until nothing is taken to be under way any more: it passes two programs of
/// the engine, each of which only hands it on.
const QUIET: Duration = Duration::from_millis(75);

const IN_AND_OUT: &str = "/attach?stream=true&stdin=true&stdout=true";
const ERRORS: &str = "/attach?stream=true&stderr=true";

/// The streams of containers that this runtime has.
#[derive(Debug, Default)]
pub(crate) struct Attachments(Arc<Mutex<Streams>>);

#[derive(Debug, Default)]
struct Streams {
    /// The containers whose streams somebody took.
    taken: BTreeSet<String>,
    /// Standard error of containers that this runtime started, until somebody takes it.
    waiting: BTreeMap<String, (WorkloadName, Waiting)>,
}

/// The standard error of a container, from before it ran.
#[derive(Debug)]
pub(crate) struct Waiting(Upgraded);

/// Taken streams, until it is dropped.
#[derive(Debug)]
struct Attached {
    all: Arc<Mutex<Streams>>,
    id: String,
    /// What carries the streams where the engine is not at a socket.
    carried: Option<DropGuard>,
}

fn lock(streams: &Mutex<Streams>) -> MutexGuard<'_, Streams> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Attachments {
    /// Keeps it until somebody attaches to the container. That of an earlier one of the workload is closed.
    pub(crate) fn keep(&self, name: &WorkloadName, id: &str, waiting: Waiting) {
        let mut streams = lock(&self.0);
        streams.waiting.retain(|_, (of, _)| of != name);
        streams.waiting.insert(id.to_owned(), (name.clone(), waiting));
    }

    /// Closes that of a container for which nobody came.
    pub(crate) fn forget(&self, id: &str) {
        drop(self.waiting(id));
    }

    fn is_waiting(&self, id: &str) -> bool {
        lock(&self.0).waiting.contains_key(id)
    }

    fn waiting(&self, id: &str) -> Option<Waiting> {
        lock(&self.0).waiting.remove(id).map(|(_, waiting)| waiting)
    }

    fn take(&self, id: &str) -> Option<Attached> {
        lock(&self.0).taken.insert(id.to_owned()).then(|| Attached {
            all: Arc::clone(&self.0),
            id: id.to_owned(),
            carried: None,
        })
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        lock(&self.all).taken.remove(&self.id);
    }
}

/// Connects to the standard error of a container that does not run yet.
pub(crate) async fn before_start(engine: &Engine, id: &str) -> Result<Waiting, EngineError> {
    connect(engine, id, ERRORS).await.map(Waiting)
}

/// What a container wrote to standard error that ended before anybody attached; `None` where the engine logged it.
pub(crate) async fn last_words(engine: &Engine, id: &str) -> Option<Vec<u8>> {
    let waiting = engine.attachments().waiting(id)?;
    let mut words = Vec::new();
    let reading = read_last(errors(waiting.0), &mut words);
    // What came is told, whatever keeps the rest.
    let _either = tokio::time::timeout(LAST_WORDS_WAIT, reading).await;
    Some(words)
}

/// Reads to the end, or to a failure; `words` has the last bytes of what was read.
async fn read_last(mut from: impl AsyncRead + Unpin, words: &mut Vec<u8>) {
    while let Ok(1..) = from.read_buf(words).await {
        let surplus = words.len().saturating_sub(LAST_WORDS);
        words.drain(..surplus);
    }
}

async fn connect(engine: &Engine, id: &str, streams: &str) -> Result<Upgraded, EngineError> {
    let path = container(id, streams);
    let answer = engine.call(|| Ok(Call::post(path.as_str()).upgrade())).await?;
    answer.upgraded().await
}

pub(crate) async fn attach(engine: &Engine, which: &InstanceRef) -> Result<Stdio> {
    let id = lookup::required(engine, which).await?.id;
    let attachments = engine.attachments();
    let attached = attachments.take(&id).ok_or_else(|| Error::AlreadyAttached {
        name: which.name.clone(),
        runtime: engine.kind().clone(),
    })?;
    // What waits is taken when nothing is awaited any more: who gives up, or fails, leaves it for who tries again.
    match to_running(engine, which, &id, attachments.is_waiting(&id)).await {
        Err(error @ Error::NotRunning { .. }) => {
            let Some(Waiting(said)) = attachments.waiting(&id) else {
                return Err(error);
            };
            Ok(Stdio {
                stdin: Box::new(tokio::io::sink()),
                stdout: Box::new(tokio::io::empty()),
                stderr: Some(Box::new(errors(said))),
            })
        }
        connected => {
            let (in_and_out, errors, process) = connected?;
            let waiting = attachments.waiting(&id).map(|Waiting(errors)| errors);
            Ok(split(in_and_out, waiting.or(errors), attached, process))
        }
    }
}

/// Input and output of a container that runs; with its standard error, where nobody has that; and its process, where that is
/// known.
async fn to_running(
    engine: &Engine,
    which: &InstanceRef,
    id: &str,
    has_errors: bool,
) -> Result<(Upgraded, Option<Upgraded>, Option<Arc<FirstProcess>>)> {
    let found = must_run(engine, which, id).await?;
    let logged = !found.host_config.log_config.is_none();
    let connecting = async {
        let in_and_out = connect(engine, id, IN_AND_OUT).await?;
        let errors = if logged || has_errors {
            None
        } else {
            Some(connect(engine, id, ERRORS).await?)
        };
        Ok::<_, EngineError>((in_and_out, errors))
    };
    let (in_and_out, errors) = match connecting.await {
        Ok(streams) => streams,
        Err(cause) => {
            // It may have ended meanwhile, for which each engine has its own words.
            must_run(engine, which, id).await?;
            return Err(if cause.is_attach_to_ended() {
                Error::NotRunning {
                    name: which.name.clone(),
                    detail: "it has just ended".to_owned(),
                }
            } else {
                failed(engine, which, cause)
            });
        }
    };
    // The engine attaches to what has ended as well, and says nothing then.
    let found = must_run(engine, which, id).await?;
    Ok((in_and_out, errors, engine.first_processes().of(&found)))
}

/// A container that runs and has a standard input.
async fn must_run(engine: &Engine, which: &InstanceRef, id: &str) -> Result<Container> {
    let found = lookup::details(engine, id)
        .await
        .map_err(|e| failed(engine, which, e))?;
    let detail = match found {
        Some(found) if found.state.status == "running" => {
            if found.config.open_stdin {
                return Ok(found);
            }
            return Err(Error::Invalid {
                what: "attachment".to_owned(),
                detail: format!(
                    "the container of workload \"{}\" has no standard input",
                    which.name
                ),
            });
        }
        Some(found) => found.into_instance(engine).status_text,
        None => "it was removed".to_owned(),
    };
    Err(Error::NotRunning {
        name: which.name.clone(),
        detail,
    })
}

fn failed(engine: &Engine, which: &InstanceRef, cause: EngineError) -> Error {
    engine.error(
        cause,
        format!("attach to the container of workload \"{}\"", which.name),
    )
}

fn split(
    in_and_out: Upgraded,
    stderr: Option<Upgraded>,
    mut attached: Attached,
    process: Option<Arc<FirstProcess>>,
) -> Stdio {
    attached.carried = in_and_out.carried;
    let attached = Arc::new(attached);
    let (read, write) = in_and_out.stream.into_split();
    let stdout = Payload {
        read_ahead: in_and_out.read_ahead,
        connection: BufReader::with_capacity(BUFFER, read),
        frames: Frames::of(Source::Output),
        end: process.map_or(End::FromEngine, End::of),
        _kept: Arc::clone(&attached),
    };
    Stdio {
        stdin: Box::new(Stdin {
            connection: write,
            _attached: attached,
        }),
        stdout: Box::new(stdout),
        stderr: stderr.map(|stderr| Box::new(errors(stderr)) as _),
    }
}

/// Standard error; whoever reads it holds nobody off from attaching.
fn errors(connection: Upgraded) -> Payload<(Option<DropGuard>, OwnedWriteHalf)> {
    let (read, write) = connection.stream.into_split();
    Payload {
        read_ahead: connection.read_ahead,
        connection: BufReader::with_capacity(SMALL_BUFFER, read),
        frames: Frames::of(Source::Errors),
        end: End::FromEngine,
        // Half a connection closed would end the attachment.
        _kept: (connection.carried, write),
    }
}

/// Closing or dropping it closes the server's standard input.
struct Stdin {
    connection: OwnedWriteHalf,
    _attached: Arc<Attached>,
}

impl AsyncWrite for Stdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

/// The payload of the frames, copied once: from the connection's buffer to the reader's.
struct Payload<K> {
    /// What the HTTP client had read beyond the upgrade.
    read_ahead: Bytes,
    connection: BufReader<OwnedReadHalf>,
    frames: Frames,
    end: End,
    _kept: K,
}

/// How the end of a stream is known.
enum End {
    /// By the connection's.
    FromEngine,
    /// Also by that of the server: comes when it is dead.
    OfServer(BoxFuture<'static, ()>),
    /// It is dead; what it wrote may still be under way, until this comes.
    Quiet(Pin<Box<Sleep>>),
    /// Nothing comes any more.
    Over,
}

impl End {
    fn of(process: Arc<FirstProcess>) -> Self {
        Self::OfServer(Box::pin(async move { process.ended().await }))
    }

    /// Something came: more may.
    fn heard(&mut self) {
        if let Self::Quiet(quiet) = self {
            quiet.as_mut().reset(Instant::now() + QUIET);
        }
    }

    /// Whether nothing comes any more of a connection of which nothing has come yet.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match self {
                Self::FromEngine => return Poll::Pending,
                Self::OfServer(ended) => {
                    ready!(ended.as_mut().poll(cx));
                    Self::Quiet(Box::pin(tokio::time::sleep(QUIET)))
                }
                Self::Quiet(quiet) => {
                    ready!(quiet.as_mut().poll(cx));
                    Self::Over
                }
                Self::Over => return Poll::Ready(()),
            };
        }
    }
}

/// What a server writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Output,
    Errors,
}

/// Where in the multiplexed stream the reader is.
#[derive(Debug)]
struct Frames {
    source: Source,
    /// The header of the next frame, as far as it came.
    header: [u8; HEADER],
    have: usize,
    /// What is left of this frame.
    left: usize,
    /// Whether this frame is of the wanted source.
    wanted: bool,
}

impl Frames {
    fn of(source: Source) -> Self {
        Self {
            source,
            header: [0; HEADER],
            have: 0,
            left: 0,
            wanted: false,
        }
    }

    /// Copies what fits of the payload in `input`; says how much of `input` was consumed.
    fn take(&mut self, input: &[u8], out: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut rest = input;
        while !rest.is_empty() {
            if self.left == 0 {
                let part = rest.len().min(HEADER - self.have);
                self.header[self.have..self.have + part].copy_from_slice(&rest[..part]);
                self.have += part;
                rest = &rest[part..];
                if self.have == HEADER {
                    let (source, length) = frame(self.header).map_err(io::Error::other)?;
                    let of = match source {
                        // The engine's own words are nobody's.
                        ENGINE => None,
                        2 => Some(Source::Errors),
                        _ => Some(Source::Output),
                    };
                    (self.have, self.left, self.wanted) = (0, length, of == Some(self.source));
                }
                continue;
            }
            let mut part = rest.len().min(self.left);
            if self.wanted {
                part = part.min(out.remaining());
                if part == 0 {
                    break;
                }
                out.put_slice(&rest[..part]);
            }
            self.left -= part;
            rest = &rest[part..];
        }
        Ok(input.len() - rest.len())
    }
}

impl<K: Unpin> AsyncRead for Payload<K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        while out.filled().len() == before && out.remaining() > 0 {
            if this.read_ahead.has_remaining() {
                let consumed = this.frames.take(&this.read_ahead, out)?;
                this.read_ahead.advance(consumed);
                continue;
            }
            let mut connection = Pin::new(&mut this.connection);
            let Poll::Ready(input) = connection.as_mut().poll_fill_buf(cx) else {
                ready!(this.end.poll(cx));
                break;
            };
            let input = input?;
            if input.is_empty() {
                break;
            }
            this.end.heard();
            let consumed = this.frames.take(input, out)?;
            connection.consume(consumed);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;

    /// What a server wrote passes the engine, which may close the stream much later.
    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_of_a_dead_server_is_read_before_its_output_ends() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (read, write) = near.into_split();
        let mut output = Payload {
            read_ahead: Bytes::new(),
            connection: BufReader::new(read),
            frames: Frames::of(Source::Output),
            end: End::OfServer(Box::pin(std::future::ready(()))),
            _kept: write,
        };
        let engine = async {
            for _ in 0..3 {
                tokio::time::sleep(QUIET * 9 / 10).await;
                far.write_all(&[1, 0, 0, 0, 0, 0, 0, 2]).await.unwrap();
                far.write_all(b"on").await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let mut said = String::new();
        tokio::select! {
            () = engine => {}
            read = output.read_to_string(&mut said) => drop(read.unwrap()),
        }
        assert_eq!(said, "ononon");
    }

    #[tokio::test]
    async fn the_last_words_are_those_at_the_end() {
        let said = [vec![b'x'; LAST_WORDS].as_slice(), b"\nthe reason\n"].concat();
        let mut words = Vec::new();
        read_last(said.as_slice(), &mut words).await;
        assert_eq!(words.len(), LAST_WORDS);
        assert!(words.ends_with(b"x\nthe reason\n"));
    }

    #[test]
    fn only_the_payload_of_the_wanted_stream_is_read() {
        let stream = [
            &[1, 0, 0, 0, 0, 0, 0, 5][..],
            b"hello",
            &[2, 0, 0, 0, 0, 0, 0, 4],
            b"oops",
            &[3, 0, 0, 0, 0, 0, 0, 3],
            b"no!",
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 7],
            b" world\n",
        ]
        .concat();
        for (source, expected) in [(Source::Output, "hello world\n"), (Source::Errors, "oops")] {
            for (chunk, room) in [(1, 1), (3, 2), (stream.len(), 4), (stream.len(), 64)] {
                let mut frames = Frames::of(source);
                let mut seen = Vec::new();
                for part in stream.chunks(chunk) {
                    let mut part = part;
                    while !part.is_empty() {
                        let mut bytes = vec![0; room];
                        let mut out = ReadBuf::new(&mut bytes);
                        let consumed = frames.take(part, &mut out).unwrap();
                        seen.extend_from_slice(out.filled());
                        part = &part[consumed..];
                    }
                }
                assert_eq!(seen, expected.as_bytes(), "chunks of {chunk}, room for {room}");
            }
        }
    }
}
