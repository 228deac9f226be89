//! A connection to an engine.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy, split};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::address::Address;
use crate::error::EngineError;

/// How long what was written is still carried to an engine once nobody holds the stream any more.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// How an engine is reached.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) address: Address,
    tls: Option<TlsConnector>,
}

impl Route {
    /// Reads the certificates that the address asks for.
    pub(crate) fn to(address: &Address) -> Result<Self, EngineError> {
        let tls = match address {
            Address::Tcp { tls: Some(tls), .. } => {
                Some(tls.connector().map_err(|reason| EngineError::Tls {
                    place: address.to_string(),
                    reason,
                })?)
            }
            _ => None,
        };
        Ok(Self {
            address: address.clone(),
            tls,
        })
    }

    #[cfg(test)]
    pub(crate) fn without_certificates(address: Address) -> Self {
        Self { address, tls: None }
    }

    /// Connects; the caller limits the time.
    pub(crate) async fn connect(&self) -> Result<Connection, EngineError> {
        let connecting = async {
            Ok(match &self.address {
                Address::Socket(path) => Connection::Unix(UnixStream::connect(path).await?),
                Address::Tcp { host, port, .. } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    notice_silence(&stream)?;
                    match &self.tls {
                        None => Connection::Tcp(stream),
                        Some(tls) => {
                            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                            // Far larger than the others, which should not carry it.
                            Connection::Tls(Box::new(Box::pin(tls.connect(name, stream)).await?))
                        }
                    }
                }
            })
        };
        connecting.await.map_err(|source: io::Error| {
            self.distrusted(&source).unwrap_or_else(|| EngineError::Connect {
                place: self.address.clone(),
                source,
            })
        })
    }

    /// The failure as one of trust, if it is one. An engine may refuse a client certificate after the connection stands.
    pub(crate) fn distrusted(&self, failure: &(dyn std::error::Error + 'static)) -> Option<EngineError> {
        let Address::Tcp { tls: Some(tls), .. } = &self.address else {
            return None;
        };
        Some(EngineError::Tls {
            place: self.address.to_string(),
            reason: tls.distrust(failure)?,
        })
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Route").field(&self.address).finish()
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl Eq for Route {}

/// A connection that stands.
pub(crate) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// As a socket of this machine, whose two directions need no lock. What is not one is carried by a task, which ends
    /// with the connection, or when the guard is dropped and what was written is sent.
    pub(crate) fn into_socket(self) -> io::Result<(UnixStream, Option<DropGuard>)> {
        if let Self::Unix(stream) = self {
            return Ok((stream, None));
        }
        let (near, stream) = UnixStream::pair()?;
        let dropped = CancellationToken::new();
        tokio::spawn(carry(self, near, dropped.clone()));
        Ok((stream, Some(dropped.drop_guard())))
    }
}

/// A machine that is gone without a word breaks the connection within a minute. Without this a stream of events, which may
/// be silent for days, would never end.
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

async fn carry(far: Connection, near: UnixStream, dropped: CancellationToken) {
    let (mut far_reader, mut far_writer) = split(far);
    let (mut near_reader, mut near_writer) = near.into_split();
    // An end on one side is one on the other, whatever the reason.
    let there = async {
        let _ = copy(&mut near_reader, &mut far_writer).await;
        let _ = far_writer.shutdown().await;
    };
    let back = async {
        let _ = copy(&mut far_reader, &mut near_writer).await;
        let _ = near_writer.shutdown().await;
    };
    let given_up = async {
        dropped.cancelled().await;
        tokio::time::sleep(LAST_BYTES).await;
    };
    tokio::select! {
        _ = async { tokio::join!(there, back) } => {}
        () = given_up => {}
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A connection, and the engine's end of it.
    async fn connected() -> (Connection, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let route = Route::without_certificates(Address::tcp(&address, None).unwrap());
        let (near, far) = tokio::join!(route.connect(), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn what_was_written_is_carried_to_an_engine_that_ends_the_connection_then() {
        let (near, mut far) = connected().await;
        let (mut stream, carried) = near.into_socket().unwrap();
        stream.write_all(b"last words").await.unwrap();
        drop((stream, carried));
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "last words");
    }

    /// It would hold a connection and a task for each attachment that there ever was.
    #[tokio::test(start_paused = true)]
    async fn an_engine_that_neither_reads_nor_ends_is_left_in_the_end() {
        let (near, _far) = connected().await;
        let (stream, mut ours) = UnixStream::pair().unwrap();
        let dropped = CancellationToken::new();
        let carrying = tokio::spawn(carry(near, stream, dropped.clone()));
        // More than fits on the way.
        let filling = async { while ours.write_all(&[b'x'; 4096]).await.is_ok() {} };
        tokio::time::timeout(LAST_BYTES, filling)
            .await
            .expect_err("somebody takes it");
        assert!(!carrying.is_finished());
        drop(ours);
        dropped.cancel();
        tokio::time::timeout(2 * LAST_BYTES, carrying)
            .await
            .expect("it is over")
            .unwrap();
    }

    #[tokio::test]
    async fn a_machine_that_is_gone_without_a_word_is_noticed() {
        let (Connection::Tcp(stream), _far) = connected().await else {
            panic!("it is TCP");
        };
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        let silent = sockopt::tcp_keepidle(&stream).unwrap();
        let asked = sockopt::tcp_keepintvl(&stream).unwrap() * sockopt::tcp_keepcnt(&stream).unwrap();
        assert_eq!(silent + asked, Duration::from_mins(1));
    }
}
