//! The streams of a stdio server.
//!
//! Only standard input and output are attached: standard error is in the engine's log, and one connection then needs
//! no queue between two readers.
//!
//! A second attachment is refused among the clones of one value. Other processes are not seen: no engine tells who is
//! attached, and a mark on this machine would miss other users and machines, or let any user occupy it. Whoever owns the
//! workload holds a lock.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use thv_runtime::{Error, InstanceRef, Result, Stdio};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::DropGuard;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::http::Call;
use crate::lines::{HEADER, frame};
use crate::lookup::{self, container};

/// Twice the largest frame that Docker writes.
const BUFFER: usize = 64 << 10;

/// The containers that this runtime is attached to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attachments(Arc<Mutex<BTreeSet<String>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
struct Attached {
    all: Attachments,
    id: String,
    /// What carries the streams where the engine is not at a socket.
    carried: Option<DropGuard>,
}

impl Attachments {
    fn take(&self, id: &str) -> Option<Attached> {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(id.to_owned()).then(|| Attached {
            all: self.clone(),
            id: id.to_owned(),
            carried: None,
        })
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.all
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

pub(crate) async fn attach(engine: &Engine, attachments: &Attachments, which: &InstanceRef) -> Result<Stdio> {
    let id = lookup::required(engine, which).await?.id;
    let mut attached = attachments.take(&id).ok_or_else(|| Error::AlreadyAttached {
        name: which.name.clone(),
        runtime: engine.kind().clone(),
    })?;
    must_run(engine, which, &id).await?;
    let path = container(&id, "/attach?stream=true&stdin=true&stdout=true");
    let connect = async {
        let answer = engine.call(|| Ok(Call::post(path.as_str()).upgrade())).await?;
        answer.upgraded().await
    };
    let upgraded = connect.await.map_err(|e| failed(engine, which, e))?;
    attached.carried = upgraded.carried;
    // The engine attaches to what has ended as well, and says nothing then.
    must_run(engine, which, &id).await?;
    Ok(split(upgraded.stream, upgraded.read_ahead, Arc::new(attached)))
}

async fn must_run(engine: &Engine, which: &InstanceRef, id: &str) -> Result<()> {
    let found = lookup::details(engine, id)
        .await
        .map_err(|e| failed(engine, which, e))?;
    let detail = match found {
        Some(found) if found.state.status == "running" => {
            if found.config.open_stdin {
                return Ok(());
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

fn split(stream: UnixStream, read_ahead: Bytes, attached: Arc<Attached>) -> Stdio {
    let (read, write) = stream.into_split();
    let stdout = Stdout {
        read_ahead,
        connection: BufReader::with_capacity(BUFFER, read),
        frames: Frames::default(),
        _attached: Arc::clone(&attached),
    };
    Stdio {
        stdin: Box::new(Stdin {
            connection: write,
            _attached: attached,
        }),
        stdout: Box::new(stdout),
        stderr: None,
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
struct Stdout {
    /// What the HTTP client had read beyond the upgrade.
    read_ahead: Bytes,
    connection: BufReader<OwnedReadHalf>,
    frames: Frames,
    _attached: Arc<Attached>,
}

/// Where in the multiplexed stream the reader is.
#[derive(Debug, Default)]
struct Frames {
    /// The header of the next frame, as far as it came.
    header: [u8; HEADER],
    have: usize,
    /// What is left of this frame.
    left: usize,
    /// Whether this frame is standard output.
    wanted: bool,
}

impl Frames {
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
                    (self.have, self.left, self.wanted) = (0, length, source != 2);
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

impl AsyncRead for Stdout {
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
            let input = ready!(connection.as_mut().poll_fill_buf(cx))?;
            if input.is_empty() {
                break;
            }
            let consumed = this.frames.take(input, out)?;
            connection.consume(consumed);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_payload_of_standard_output_is_read() {
        let stream = [
            &[1, 0, 0, 0, 0, 0, 0, 5][..],
            b"hello",
            &[2, 0, 0, 0, 0, 0, 0, 4],
            b"oops",
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 7],
            b" world\n",
        ]
        .concat();
        for (chunk, room) in [(1, 1), (3, 2), (stream.len(), 4), (stream.len(), 64)] {
            let mut frames = Frames::default();
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
            assert_eq!(seen, b"hello world\n", "chunks of {chunk}, room for {room}");
        }
    }
}
