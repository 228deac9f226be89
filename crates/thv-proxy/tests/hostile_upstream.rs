//! Servers that speak HTTP/2 and misuse it: whoever asked is told, memory stays bounded, the proxy goes on.
//!
//! One test in a program of its own, because it measures the program.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{finish, peak, tls};
use thv_proxy::{ReverseProxy, ReverseProxyConfig, ServeOptions, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// What this program may take more at its most, in bytes.
const MOST: u64 = 48 << 20;
/// Long after the promise. Nobody waits for it but a test that fails.
const PATIENCE: Duration = Duration::from_mins(5);
/// What a flood is: more than may be kept, and of small frames so many that each may not be.
const FLOOD: usize = 128 << 20;
const FLOOD_OF_SMALL: usize = 3 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` in HPACK.
const STATUS_200: u8 = 0x88;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Server {
    /// Resets the stream of each request.
    Resets,
    /// Says of each request that it was not looked at, so that it could be sent again without end.
    Refuses,
    /// The same of all requests of a connection, each time.
    GoesAway,
    /// Resets streams that nobody has opened, without end.
    FloodsResets,
    /// Acknowledges nothing and asks without end whether the proxy is there.
    FloodsPings,
    /// Changes its settings without end.
    FloodsSettings,
    /// Begins a head that has no end.
    FloodsContinuations,
    /// A head that is small on the wire and large in memory.
    PacksHeaders,
    /// Says without end that the answer is to come.
    FloodsInterim,
    /// Takes not one byte of a body.
    OpensNoWindow,
    /// Sends an answer's body without end, and does not heed the window of the proxy.
    IgnoresTheWindow,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A literal header that goes into the table, which has a name of one byte.
fn literal(name: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![0x40, 1, name, 0x7f];
    let mut rest = value.len() - 127;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
    out.extend(value);
    out
}

type Stream = TlsStream<TcpStream>;

/// Writes `block` until there is so much of it, or the proxy has closed the connection.
async fn flood(stream: &mut Stream, much: usize, block: &[u8]) -> io::Result<()> {
    let block = block.repeat((1 << 18) / block.len() + 1);
    for _ in 0..much / block.len() {
        stream.write_all(&block).await?;
    }
    stream.flush().await
}

/// The stream of the next request, once all of its head is there.
async fn request(stream: &mut Stream) -> io::Result<u32> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await?;
        if head[3] == HEADERS {
            return Ok(u32::from_be_bytes(head[5..].try_into().unwrap()));
        }
    }
}

async fn play(server: Server, stream: &mut Stream, asked: &Notify) -> io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    let no_window = [0, 4, 0, 0, 0, 0];
    let settings: &[u8] = if server == Server::OpensNoWindow {
        &no_window
    } else {
        &[]
    };
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).await?;
    stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
    let mut id = request(stream).await?;
    asked.notify_one();
    match server {
        Server::Resets => loop {
            stream.write_all(&frame(RESET, 0, id, &[0, 0, 0, 8])).await?;
            id = request(stream).await?;
        },
        Server::Refuses => loop {
            stream.write_all(&frame(RESET, 0, id, &[0, 0, 0, 7])).await?;
            id = request(stream).await?;
        },
        Server::GoesAway => {
            stream.write_all(&frame(GO_AWAY, 0, 0, &[0; 8])).await?;
            stream.read_to_end(&mut Vec::new()).await.map(drop)
        }
        Server::FloodsResets => {
            let resets: Vec<u8> = (1..2000)
                .flat_map(|more| frame(RESET, 0, id + 2 * more, &[0, 0, 0, 8]))
                .collect();
            flood(stream, FLOOD_OF_SMALL, &resets).await
        }
        Server::FloodsPings => flood(stream, FLOOD_OF_SMALL, &frame(PING, 0, 0, b"whoareyo")).await,
        Server::FloodsSettings => {
            flood(
                stream,
                FLOOD_OF_SMALL,
                &frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0x40, 0]),
            )
            .await
        }
        Server::FloodsContinuations => {
            stream.write_all(&frame(HEADERS, 0, id, &[STATUS_200])).await?;
            let name = literal(b'a', &[b'x'; 8000]);
            flood(stream, FLOOD, &frame(CONTINUATION, 0, id, &name)).await
        }
        Server::PacksHeaders => {
            let mut head = vec![STATUS_200];
            head.extend(literal(b'a', &[b'x'; 3900]));
            // The entry of the table, again and again.
            head.extend([0xbe; 12_000]);
            stream.write_all(&frame(HEADERS, END_HEADERS, id, &head)).await?;
            stream.read_to_end(&mut Vec::new()).await.map(drop)
        }
        Server::FloodsInterim => {
            // `:status: 103`, not indexed.
            let interim = frame(HEADERS, END_HEADERS, id, b"\x08\x03103");
            flood(stream, FLOOD_OF_SMALL, &interim).await
        }
        Server::OpensNoWindow => loop {
            request(stream).await?;
            asked.notify_one();
        },
        Server::IgnoresTheWindow => {
            stream
                .write_all(&frame(HEADERS, END_HEADERS, id, &[STATUS_200]))
                .await?;
            flood(stream, FLOOD, &frame(DATA, 0, id, &[b'x'; 16_000])).await?;
            stream.write_all(&frame(DATA, END_STREAM, id, &[])).await
        }
    }
}

/// A server on loopback, with a certificate of the test's authority. It tells when it was asked.
async fn start(server: Server, asked: Arc<Notify>) -> SocketAddr {
    let acceptor = tls(&["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let _ = play(server, &mut stream, &asked).await;
                // What it has said is still read before the end is.
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_misuses_http2_harms_nobody_but_its_callers() {
    let before = peak();
    for server in [
        Server::Resets,
        Server::Refuses,
        Server::GoesAway,
        Server::FloodsResets,
        Server::FloodsPings,
        Server::FloodsSettings,
        Server::FloodsContinuations,
        Server::PacksHeaders,
        Server::FloodsInterim,
        Server::OpensNoWindow,
        Server::IgnoresTheWindow,
    ] {
        let asked = Arc::new(Notify::new());
        let target = start(server, Arc::clone(&asked)).await;
        let target = format!("https://localhost:{}/mcp", target.port())
            .parse()
            .unwrap();
        let config = ReverseProxyConfig {
            remote: true,
            ca_certificates: include_bytes!("tls/authority.pem").to_vec(),
            ..ReverseProxyConfig::default()
        };
        let service = ReverseProxy::new(target, config).unwrap().into_service();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        tokio::spawn(serve(listener, service, ServeOptions::default(), stop));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let call = |text: usize| {
            let text = "x".repeat(text);
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":["{text}"]}}"#);
            client.post(&url).body(body).send()
        };
        if server == Server::OpensNoWindow {
            // It can only be waited for. Who gives up gives back what it has sent.
            for _ in 0..30 {
                let given_up = async {
                    tokio::select! {
                        answer = call(4 << 20) => panic!("{answer:?}"),
                        () = asked.notified() => {}
                    }
                };
                let given_up = tokio::time::timeout(PATIENCE, given_up).await;
                given_up.expect("the server is not asked");
            }
        } else {
            for _ in 0..2 {
                let answer = async {
                    let answer = call(10).await.unwrap();
                    let status = answer.status();
                    (status, answer.bytes().await.is_ok())
                };
                let (status, whole) = tokio::time::timeout(PATIENCE, answer)
                    .await
                    .unwrap_or_else(|_| panic!("{server:?}: somebody waits"));
                let cut = server == Server::IgnoresTheWindow && !whole;
                assert!(status == 502 || cut, "{server:?}: {status}");
            }
        }
        let health = finish(client.get(format!("{url}/health"))).await;
        assert_eq!(health.status, 200, "{server:?}");
        let more = peak().saturating_sub(before);
        assert!(more < MOST, "{server:?}: {} MiB more", more >> 20);
    }
}
