//! The bare references: hyper and nothing else. One splices the id and pipes to one server, one passes on to a server that
//! speaks HTTP.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has no figures")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// Where the text of the id is, in messages as this benchmark writes them.
pub fn id_text(message: &[u8]) -> Option<(usize, usize)> {
    let head = &message[..message.len().min(200)];
    let start = memmem::find(head, br#""id":"#)? + 5;
    let end = start
        + head[start..]
            .iter()
            .position(|byte| matches!(byte, b',' | b'}'))?;
    Some((start, end))
}

/// The reference: no checks, no sessions, no limits.
#[derive(Default)]
struct Reference {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
}

/// Serves the server at the other end of these streams on a port of loopback.
///
/// # Panics
/// When it cannot.
pub fn start<R, W>(mut reader: R, mut writer: W) -> SocketAddr
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let shared = Arc::new(Reference::default());
    let (queue, mut messages) = mpsc::channel::<(Bytes, String, Bytes)>(1024);
    tokio::spawn(async move {
        let mut batch = Vec::new();
        let mut joined = BytesMut::new();
        while messages.recv_many(&mut batch, 64).await > 0 {
            for (head, id, tail) in batch.drain(..) {
                joined.extend_from_slice(&head);
                joined.extend_from_slice(id.as_bytes());
                joined.extend_from_slice(&tail);
                joined.extend_from_slice(b"\n");
            }
            writer.write_all(&joined).await.unwrap();
            writer.flush().await.unwrap();
            joined.clear();
        }
    });
    let waiting = Arc::clone(&shared);
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        let mut scanned = 0;
        loop {
            buffer.reserve(64 * 1024);
            if reader.read_buf(&mut buffer).await.unwrap() == 0 {
                return;
            }
            while let Some(end) = memchr::memchr(b'\n', &buffer[scanned..]) {
                let line = buffer.split_to(scanned + end + 1).freeze();
                scanned = 0;
                let (start, end) = id_text(&line).unwrap();
                let id: u64 = std::str::from_utf8(&line[start..end]).unwrap().parse().unwrap();
                if let Some(reply) = waiting.waiting.lock().unwrap().remove(&id) {
                    let _ = reply.send(line);
                }
            }
            scanned = buffer.len();
        }
    });
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = thv_proxy::listener(socket).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let (shared, queue) = (Arc::clone(&shared), queue.clone());
            let service = service_fn(move |request| answer(Arc::clone(&shared), queue.clone(), request));
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

/// Passes on to `server`: on so many threads, and over one connection for each of a client. No pool, no checks, no limits.
///
/// # Panics
/// When it cannot.
pub fn pass_on(server: SocketAddr, threads: usize) -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    for _ in 0..threads {
        let socket = socket.try_clone().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime.unwrap(), async move {
                let listener = tokio::net::TcpListener::from_std(socket).unwrap();
                while let Ok((client, _)) = listener.accept().await {
                    tokio::task::spawn_local(pass_connection_on(client, server));
                }
            });
        });
    }
    address
}

async fn pass_connection_on(client: TcpStream, server: SocketAddr) {
    let upstream = TcpStream::connect(server).await.unwrap();
    client.set_nodelay(true).unwrap();
    upstream.set_nodelay(true).unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(upstream))
        .await
        .unwrap();
    tokio::task::spawn_local(connection);
    let sender: Rc<RefCell<SendRequest<Incoming>>> = Rc::new(RefCell::new(sender));
    // On a connection there is one request at a time.
    let service = service_fn(move |request| sender.borrow_mut().send_request(request));
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(client), service)
        .await;
}

async fn answer(
    shared: Arc<Reference>,
    queue: mpsc::Sender<(Bytes, String, Bytes)>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let (start, end) = id_text(&body).unwrap();
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    let (reply, answered) = oneshot::channel();
    shared.waiting.lock().unwrap().insert(number, reply);
    queue
        .send((body.slice(..start), number.to_string(), body.slice(end..)))
        .await
        .unwrap();
    let line = answered.await.unwrap();
    let (from, to) = id_text(&line).unwrap();
    let whole = [&line[..from], &body[start..end], &line[to..line.len() - 1]].concat();
    let mut response = Response::new(Full::new(whole.into()));
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}
