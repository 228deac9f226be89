//! One connection to a server that speaks plain HTTP/1.1: one request after the other, driven by whoever waits for the
//! answer. It holds no memory while it waits.

mod chunked;
mod head;

use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, take};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use self::chunked::{Chunked, Step};
use self::head::{Framing, Head};

/// The head of an answer, with those that come before it, has so many bytes at most.
pub(super) const MOST_HEAD: u32 = 64 * 1024;
/// What is read at once, on the stack; what is in it is copied to memory of its size.
const PART: usize = 8 * 1024;
/// What is read at once of a long body.
const LONG_PART: usize = 64 * 1024;
/// A body that is not larger is sent in one piece with its head.
const SMALL: usize = 4 * 1024;

/// Checks the head of an answer that another client has read, which has bounds of its own.
pub(super) fn check_head(headers: &HeaderMap) -> Result<(), WireError> {
    let of_each = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    if of_each.sum::<usize>() > MOST_HEAD as usize || headers.len() > head::MOST_HEADERS {
        return Err(WireError::HeadTooLarge);
    }
    Ok(())
}

/// Why there is no answer, or no end of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the server closed the connection before it answered")]
    NoAnswer,
    #[error("the server closed the connection in the middle of its answer")]
    CutOff,
    #[error("the server's answer is no HTTP: {0}")]
    Head(httparse::Error),
    #[error("the server's answer has a header that is none")]
    Header,
    #[error(
        "the head of the server's answer has more than {MOST_HEAD} bytes or {} headers",
        head::MOST_HEADERS
    )]
    HeadTooLarge,
    #[error("the server's answer has a status that is none")]
    Status,
    #[error("the server changes to a protocol that nobody asked for")]
    Upgrade,
    #[error("where the server's answer ends is not clear")]
    Length,
    #[error("the server's answer has a transfer coding that nobody asked for")]
    Coding,
    #[error("the server's answer has a chunk that is none")]
    Chunk,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl WireError {
    /// Whether the connection was over before the answer had begun.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::NoAnswer | Self::Io(_))
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) reason: WireError,
    /// Nothing of it was sent: it can be sent elsewhere.
    pub(super) unsent: bool,
}

/// What is to come of the answer's body.
#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Nothing,
}

/// What there is of the head of an answer.
#[derive(Debug, Default)]
struct Seen {
    bytes: BytesMut,
    /// How many bytes there were before it: heads that are not yet the answer's.
    before: usize,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// What is still to be sent, in order.
    unsent: [Bytes; 2],
    /// What has come, and was not used.
    left: Bytes,
    rest: Rest,
    /// Whether it can have another request when this one is answered.
    keep: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            unsent: [Bytes::new(), Bytes::new()],
            left: Bytes::new(),
            rest: Rest::Nothing,
            keep: true,
        }
    }

    /// Whether the server has closed an idle one, or has said what it was not asked for.
    pub(super) fn is_closed(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether the answer was read to its end, and another request can follow.
    pub(super) fn is_reusable(&self) -> bool {
        self.keep && self.is_end() && self.left.is_empty() && self.is_sent()
    }

    /// Sends a request and waits for the head of its answer. A connection whose future was dropped is in the middle of
    /// something: nobody may use it again.
    pub(super) async fn ask(
        &mut self,
        method: &Method,
        uri: &Uri,
        host: &HeaderValue,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<()>, Unanswered> {
        let mut text = Vec::with_capacity(512 + body.len().min(SMALL));
        head::write(method, uri, host, headers, body.len(), &mut text);
        self.unsent = if body.len() <= SMALL {
            text.extend_from_slice(&body);
            [text.into(), Bytes::new()]
        } else {
            [text.into(), body]
        };
        self.keep = !head::says_close(headers);
        let whole = self.unsent[0].len();
        let (mut seen, mut failed) = (Seen::default(), None);
        let answered = std::future::poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                // It may have answered before it closed.
                failed = Some((error, self.unsent[0].len() == whole));
                self.unsent = [Bytes::new(), Bytes::new()];
                self.keep = false;
            }
            self.poll_head(cx, method, &mut seen)
        });
        match answered.await {
            Ok(response) => Ok(response),
            Err(reason) => Err(match failed {
                Some((error, unsent)) => Unanswered {
                    reason: error.into(),
                    unsent,
                },
                None => Unanswered {
                    reason,
                    unsent: false,
                },
            }),
        }
    }

    fn is_sent(&self) -> bool {
        self.unsent.iter().all(Bytes::is_empty)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_sent() {
            let stream = Pin::new(&mut self.stream);
            let [head, body] = &mut self.unsent;
            let sent = if body.is_empty() {
                ready!(stream.poll_write(cx, head))?
            } else {
                let parts = [IoSlice::new(head), IoSlice::new(body)];
                ready!(stream.poll_write_vectored(cx, &parts))?
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = sent.min(head.len());
            head.advance(of_head);
            body.advance(sent - of_head);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        seen: &mut Seen,
    ) -> Poll<Result<Response<()>, WireError>> {
        loop {
            let looked_at = seen.bytes.len();
            if ready!(self.poll_part(cx, |part| seen.bytes.extend_from_slice(part)))? == 0 {
                return Poll::Ready(Err(WireError::NoAnswer));
            }
            // What is no HTTP is seen with the first part; a head is not parsed again and again while it grows.
            if looked_at > 0
                && !head::has_end(&seen.bytes, looked_at)
                && seen.bytes.len() <= MOST_HEAD as usize
            {
                continue;
            }
            let mut bytes = take(&mut seen.bytes).freeze();
            loop {
                let Some((head, length)) = head::parse(method, &bytes)? else {
                    break;
                };
                bytes.advance(length);
                seen.before += length;
                let status = head.response.status();
                if status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Err(WireError::Upgrade));
                }
                if !status.is_informational() {
                    return Poll::Ready(Ok(self.begin(head, bytes)));
                }
            }
            if seen.before + bytes.len() > MOST_HEAD as usize {
                return Poll::Ready(Err(WireError::HeadTooLarge));
            }
            seen.bytes = bytes.into();
        }
    }

    /// The head has come, and these bytes behind it.
    fn begin(&mut self, head: Head, left: Bytes) -> Response<()> {
        self.left = left;
        self.keep &= head.keep_alive;
        self.rest = match head.framing {
            Framing::Length(0) => Rest::Nothing,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Chunked::new()),
            Framing::UntilClose => Rest::UntilClose,
        };
        head.response
    }

    /// Whether nothing more comes of the body.
    pub(super) fn is_end(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// How much there is left of the body, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self.rest {
            Rest::Length(length) => Some(length),
            Rest::Nothing => Some(0),
            Rest::Chunked(_) | Rest::UntilClose => None,
        }
    }

    /// The next bytes of the body; none at its end. What is still to be sent of the request is sent meanwhile.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, WireError>>> {
        if let Poll::Ready(Err(_)) = self.poll_send(cx) {
            // It does not want the rest of the request, which is its right when it has answered.
            self.unsent = [Bytes::new(), Bytes::new()];
            self.keep = false;
        }
        let data = ready!(self.poll_next(cx));
        if !matches!(data, Ok(Some(_))) {
            self.rest = Rest::Nothing;
            self.keep &= data.is_ok();
        }
        Poll::Ready(data.transpose())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, WireError>> {
        loop {
            if !self.left.is_empty() {
                match &mut self.rest {
                    Rest::Nothing => return Poll::Ready(Ok(None)),
                    Rest::UntilClose => return Poll::Ready(Ok(Some(take(&mut self.left)))),
                    Rest::Length(length) => {
                        let here = self.left.len();
                        let data = self
                            .left
                            .split_to(usize::try_from(*length).map_or(here, |length| length.min(here)));
                        *length -= data.len() as u64;
                        if *length == 0 {
                            self.rest = Rest::Nothing;
                        }
                        return Poll::Ready(Ok(Some(data)));
                    }
                    Rest::Chunked(chunked) => match chunked.next(&mut self.left)? {
                        Step::Data(data) => return Poll::Ready(Ok(Some(data))),
                        Step::More => {}
                        Step::End => return Poll::Ready(Ok(None)),
                    },
                }
            }
            let long = match &self.rest {
                Rest::Nothing => return Poll::Ready(Ok(None)),
                Rest::UntilClose => 0,
                Rest::Length(length) => *length,
                Rest::Chunked(chunked) => chunked.left(),
            };
            let read = if long > PART as u64 {
                ready!(self.poll_long_part(cx, long))?
            } else {
                let mut left = Bytes::new();
                let read = ready!(self.poll_part(cx, |part| left = Bytes::copy_from_slice(part)))?;
                self.left = left;
                read
            };
            if read == 0 {
                return Poll::Ready(match self.rest {
                    Rest::UntilClose => Ok(None),
                    _ => Err(WireError::CutOff),
                });
            }
        }
    }

    /// Reads a part; 0 when there are no more.
    fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        part: impl FnOnce(&[u8]),
    ) -> Poll<Result<usize, WireError>> {
        let mut space = [MaybeUninit::uninit(); PART];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        part(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Reads a part of a body of which there is so much left.
    fn poll_long_part(&mut self, cx: &mut Context<'_>, left: u64) -> Poll<Result<usize, WireError>> {
        loop {
            // No memory is held before there is something to read.
            ready!(self.stream.poll_read_ready(cx))?;
            let mut buffer =
                BytesMut::with_capacity(usize::try_from(left).map_or(LONG_PART, |left| left.min(LONG_PART)));
            match self.stream.try_read_buf(&mut buffer) {
                Ok(read) => {
                    self.left = buffer.freeze();
                    return Poll::Ready(Ok(read));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests;
