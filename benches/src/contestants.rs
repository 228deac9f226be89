//! What is measured in a process of its own, so that its memory and its time are its own: the benchmark starts itself
//! again with the name of a contestant.

#![expect(clippy::print_stdout, reason = "the address goes to whoever started this")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on has no figures"
)]

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use thv_proxy::{
    BackendIo, BridgeConfig, ProxyService, ReverseProxy, ReverseProxyConfig, ServeOptions, StdioBridge, serve,
};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::bare;

/// The first argument of a process that is a contestant; its name and what it is in front of follow.
pub const SERVE: &str = "serve-contestant";

/// Serves until it is killed, if this process was started for that: on one thread, as `thv` does. Its address is the
/// first line it prints.
///
/// # Panics
/// When it cannot.
pub fn serve_if_asked() -> bool {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(SERVE) {
        return false;
    }
    let (name, behind) = (arguments.next().unwrap(), arguments.next().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(serve_contestant(&name, &behind));
    true
}

async fn serve_contestant(name: &str, behind: &str) {
    let (address, _child) = match name {
        "reference" => {
            let mut child = child(behind);
            let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
            (bare::start(reader, writer), Some(child))
        }
        "bridge" => {
            let mut child = child(behind);
            let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
            let bridge = StdioBridge::new(BackendIo::new(reader, writer), BridgeConfig::default()).unwrap();
            (listen(bridge.into_service(), 1), Some(child))
        }
        "reverse" => {
            let target = format!("http://{behind}").parse().unwrap();
            let proxy = ReverseProxy::new(target, ReverseProxyConfig::default()).unwrap();
            (listen(proxy.into_service(), threads()), None)
        }
        "pass-on" => (bare::pass_on(behind.parse().unwrap(), threads()), None),
        _ => (http_server(), None),
    };
    println!("{address}");
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

/// The echo server as a child of this process.
fn child(echo: &str) -> Child {
    Command::new(echo)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the echo server starts")
}

fn listener() -> (TcpListener, SocketAddr) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = thv_proxy::listener(socket).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// As `thv` does before a server that speaks HTTP.
fn threads() -> usize {
    std::thread::available_parallelism().unwrap().get().min(4)
}

fn listen(service: ProxyService, threads: usize) -> SocketAddr {
    let (listener, address) = listener();
    let options = ServeOptions {
        threads,
        ..ServeOptions::default()
    };
    tokio::spawn(serve(listener, service, options, CancellationToken::new()));
    address
}

/// An HTTP server that answers each call with its text, as the echo server would, and knows no sessions.
fn http_server() -> SocketAddr {
    let (listener, address) = listener();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(echo_text));
            tokio::spawn(serving);
        }
    });
    address
}

async fn echo_text(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let id = bare::id_text(&body).map_or(&b"null"[..], |(start, end)| &body[start..end]);
    let marker = br#""text":"#;
    let text = memmem::find(&body, marker).map_or(&b"\"\""[..], |at| {
        let text = &body[at + marker.len()..];
        &text[..text.len().saturating_sub(3)]
    });
    let head = br#"{"jsonrpc":"2.0","id":"#.as_slice();
    let answer = [
        head,
        id,
        br#","result":{"content":[{"type":"text","text":"#,
        text,
        b"}]}}",
    ]
    .concat();
    let mut response = Response::new(Full::from(answer));
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}
