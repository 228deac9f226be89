//! How much a server may say around the body of its answer, whichever way it is asked.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use common::{finish, tls};
use futures_util::stream;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use thv_proxy::{ReverseProxy, ReverseProxyConfig, ServeOptions, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Tls,
    Http2,
}

/// Headers of these paths: so many, each with a value of so many bytes.
fn headers(path: &str) -> (usize, usize) {
    match path {
        "/fits" => (90, 600),
        "/large" => (50, 8_000),
        "/many" => (5_000, 1),
        _ => (0, 0),
    }
}

/// Trailers of these paths.
fn trailers(path: &str) -> (usize, usize) {
    match path {
        "/small-trailers" => (3, 10),
        "/large-trailers" => (50, 8_000),
        _ => (0, 0),
    }
}

fn named((count, length): (usize, usize)) -> impl Iterator<Item = (String, String)> {
    (0..count).map(move |at| (format!("x-{at}"), "v".repeat(length)))
}

/// Reads a request and answers it, as HTTP/1.1 is written.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let lines = |of| -> String {
        named(of)
            .map(|(name, value)| [name, ": ".into(), value, "\r\n".into()].concat())
            .collect()
    };
    let answer = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\n{}transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{}\r\n",
        lines(headers(path)),
        lines(trailers(path)),
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

type Answered = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn answer_request(request: Request<Incoming>) -> Result<Response<Answered>, Infallible> {
    let path = request.uri().path();
    let of = |what| -> HeaderMap {
        named(what)
            .map(|(name, value)| (HeaderName::try_from(name).unwrap(), value.parse().unwrap()))
            .collect()
    };
    let frames = vec![
        Ok(Frame::data(Bytes::from_static(b"ok"))),
        Ok(Frame::trailers(of(trailers(path)))),
    ];
    let mut response = Response::new(StreamBody::new(stream::iter(frames)));
    *response.headers_mut() = of(headers(path));
    Ok(response)
}

/// A server on loopback.
async fn start(way: Way) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tls(if way == Way::Http2 { &["h2"] } else { &["http/1.1"] });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if way == Way::Plain {
                    let _ = answer(stream).await;
                    return;
                }
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                if way == Way::Tls {
                    let _ = answer(stream).await;
                    return;
                }
                let _ = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer_request))
                    .await;
            });
        }
    });
    let scheme = if way == Way::Plain { "http" } else { "https" };
    format!("{scheme}://localhost:{port}")
}

#[tokio::test]
async fn the_head_of_an_answer_has_its_bounds_and_so_has_what_comes_behind_its_body() {
    for way in [Way::Plain, Way::Tls, Way::Http2] {
        let target = start(way).await.parse().unwrap();
        let mut config = ReverseProxyConfig::default();
        if way != Way::Plain {
            config.remote = true;
            config.ca_certificates = include_bytes!("tls/authority.pem").to_vec();
        }
        let service = ReverseProxy::new(target, config).unwrap().into_service();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        tokio::spawn(serve(listener, service, ServeOptions::default(), stop));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for (path, status) in [
            ("/fits", 200),
            ("/large", 502),
            ("/many", 502),
            ("/small-trailers", 200),
            ("/fits", 200),
        ] {
            let answer = finish(client.get(format!("{url}{path}"))).await;
            assert_eq!(answer.status, status, "{way:?} {path}: {}", answer.text);
            if status == 200 {
                let (count, length) = headers(path);
                assert_eq!(answer.text, "ok");
                let passed = named((count, length)).all(|(name, value)| answer.headers[&name] == value);
                assert!(passed, "{way:?} {path}");
            }
        }
        // They come when all else may have gone out: who asked has no whole answer.
        let asking = client.get(format!("{url}/large-trailers")).send();
        let cut = async { asking.await?.text().await };
        let text = cut.await;
        assert!(text.is_err(), "{way:?}: {text:?}");
        let answer = finish(client.get(format!("{url}/fits"))).await;
        assert_eq!(answer.status, 200, "{way:?}: others are served");
    }
}
