//! Connections that are shared by several threads.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::HashSet;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use thv_proxy::{ReverseProxy, ReverseProxyConfig, ServeOptions, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

async fn served(service: Router, threads: usize) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let options = ServeOptions {
        threads,
        ..ServeOptions::default()
    };
    let serving = tokio::spawn(serve(listener, service, options, stop.clone()));
    Served {
        address,
        stop,
        serving,
    }
}

/// What is answered on a connection that stays open.
async fn ask(stream: &mut TcpStream) -> String {
    stream
        .write_all(b"GET /mcp HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let (mut seen, mut part) = (String::new(), [0; 1024]);
    loop {
        let read = stream.read(&mut part).await.unwrap();
        assert_ne!(read, 0, "the connection ended: {seen}");
        seen.push_str(std::str::from_utf8(&part[..read]).unwrap());
        if let Some((head, body)) = seen.split_once("\r\n\r\n")
            && head.contains(&format!("content-length: {}", body.len()))
        {
            return body.to_owned();
        }
    }
}

async fn connect(served: &Served, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        ask(&mut stream).await;
        streams.push(stream);
    }
    streams
}

fn this_thread() -> Router {
    Router::new().route("/mcp", get(async || format!("{:?}", thread::current().id())))
}

#[tokio::test]
async fn connections_are_shared_evenly_and_stay_where_they_began() {
    let served = served(this_thread(), 3).await;
    let mut streams = connect(&served, 6).await;
    let mut first = Vec::new();
    for stream in &mut streams {
        first.push(ask(stream).await);
    }
    let own = format!("{:?}", thread::current().id());
    assert_eq!(first[0], own, "the first needs no thread");
    for place in &first {
        assert_eq!(
            first.iter().filter(|other| *other == place).count(),
            2,
            "{first:?}"
        );
    }
    for (stream, place) in streams.iter_mut().zip(&first) {
        assert_eq!(&ask(stream).await, place);
    }
}

#[tokio::test]
async fn without_being_asked_for_there_is_no_thread() {
    let served = served(this_thread(), ServeOptions::default().threads).await;
    let mut streams = connect(&served, 4).await;
    for stream in &mut streams {
        assert_eq!(ask(stream).await, format!("{:?}", thread::current().id()));
    }
}

/// Tells that the thread on which it was put has ended.
struct Tell(Arc<Mutex<HashSet<ThreadId>>>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.lock().unwrap().remove(&thread::current().id());
    }
}

thread_local! {
    static TELL: std::cell::RefCell<Option<Tell>> = const { std::cell::RefCell::new(None) };
}

/// A service that keeps the threads on which it was asked.
fn telling(living: &Arc<Mutex<HashSet<ThreadId>>>) -> Router {
    let living = Arc::clone(living);
    let tell = move || {
        let living = Arc::clone(&living);
        async move {
            living.lock().unwrap().insert(thread::current().id());
            TELL.set(Some(Tell(living)));
            "here"
        }
    };
    Router::new().route("/mcp", get(tell))
}

#[tokio::test]
async fn the_threads_end_with_the_listener() {
    let living = Arc::default();
    let served = served(telling(&living), 3).await;
    let streams = connect(&served, 3).await;
    assert_eq!(living.lock().unwrap().len(), 3);
    served.stop.cancel();
    served.serving.await.unwrap();
    let left = living.lock().unwrap().clone();
    assert_eq!(left, HashSet::from([thread::current().id()]));
    drop(streams);
}

#[tokio::test]
async fn what_is_dropped_closes_the_connections_of_all_threads_and_ends_those() {
    let living = Arc::default();
    let (asked, mut begun) = mpsc::channel(3);
    let slow = move || {
        let asked = asked.clone();
        async move {
            asked.send(()).await.unwrap();
            pending::<String>().await
        }
    };
    let service = telling(&living).route("/slow", get(slow));
    let served = served(service, 3).await;
    // On each thread is one that asks nothing and one that waits for its answer.
    let mut streams = connect(&served, 3).await;
    for _ in 0..3 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let request = b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        begun.recv().await.unwrap();
        streams.push(stream);
    }
    let threads = living.lock().unwrap().len();
    assert_eq!(threads, 3);
    served.serving.abort();
    for stream in &mut streams {
        let end = timeout(Duration::from_mins(1), stream.read(&mut [0])).await;
        assert_eq!(end.expect("it is closed").unwrap(), 0);
    }
    common::eventually("the threads end", || {
        *living.lock().unwrap() == HashSet::from([thread::current().id()])
    })
    .await;
}

#[tokio::test]
async fn connections_to_the_server_are_used_again_on_the_thread_that_made_them() {
    let peers = Router::new().route(
        "/mcp",
        get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()),
    );
    let backend = served(peers, 1).await;
    let target = format!("http://{}", backend.address).parse().unwrap();
    let proxy = ReverseProxy::new(target, ReverseProxyConfig::default()).unwrap();
    let served = served(proxy.into_router(), 2).await;
    let mut streams = connect(&served, 2).await;
    let (first, second) = (ask(&mut streams[0]).await, ask(&mut streams[1]).await);
    assert_ne!(first, second);
    for _ in 0..3 {
        assert_eq!(ask(&mut streams[1]).await, second);
        assert_eq!(ask(&mut streams[0]).await, first);
    }
    served.stop.cancel();
    served.serving.await.unwrap();
    assert!(!backend.serving.is_finished());
}
