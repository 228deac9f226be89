//! A remote server that speaks TLS: whom the proxy believes, and which HTTP it speaks.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use common::{Answer, finish, tls};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use thv_proxy::{ProxyError, ReverseProxy, ReverseProxyConfig, ServeOptions, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const AUTHORITY: &[u8] = include_bytes!("tls/authority.pem");

/// A server on loopback, with a certificate of the test's authority, that tells which HTTP it was asked with.
async fn server(protocols: &[&str]) -> SocketAddr {
    server_at("127.0.0.1", protocols).await
}

async fn server_at(host: &str, protocols: &[&str]) -> SocketAddr {
    let acceptor = tls(protocols);
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(tell))
                    .await;
            });
        }
    });
    address
}

async fn tell(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/plain" {
        let authority = request.uri().authority().map(ToString::to_string);
        let host = authority.unwrap_or_else(|| request.headers()["host"].to_str().unwrap().to_owned());
        let response = Response::builder().status(307);
        let response = response.header("location", format!("http://{host}/mcp"));
        return Ok(response.body(Full::default()).unwrap());
    }
    let forwarded = request.headers().get("x-forwarded-proto").cloned();
    let text = format!("{:?} {} {forwarded:?}", request.version(), request.uri().path());
    Ok(Response::new(Full::from(text)))
}

/// What a client of the proxy gets.
async fn ask(target: SocketAddr, config: ReverseProxyConfig) -> Answer {
    ask_at("/mcp", target, config).await
}

async fn ask_at(path: &str, target: SocketAddr, config: ReverseProxyConfig) -> Answer {
    let target = format!("https://localhost:{}{path}", target.port())
        .parse()
        .unwrap();
    let service = ReverseProxy::new(target, config).unwrap().into_service();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = ServeOptions::default();
    tokio::spawn(serve(listener, service, options, CancellationToken::new()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;
    finish(client.post(format!("http://{address}/")).body(body)).await
}

fn remote(ca_certificates: &[u8]) -> ReverseProxyConfig {
    ReverseProxyConfig {
        remote: true,
        ca_certificates: ca_certificates.to_vec(),
        ..ReverseProxyConfig::default()
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_believed_when_it_is_named_and_the_newest_http_is_spoken() {
    for (protocols, expected) in [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1")] {
        let target = server(protocols).await;
        let answer = ask(target, remote(AUTHORITY)).await;
        assert_eq!(answer.text, format!("{expected} /mcp Some(\"https\")"));
        let stranger = ask(target, remote(b"")).await;
        assert_eq!(stranger.status, 502, "{}", stranger.text);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_no_matter_of_waiting() {
    for (host, authority, why) in [
        ("127.0.0.1", &b""[..], "its authority is not known here"),
        ("127.0.0.2", AUTHORITY, "it is for another name"),
    ] {
        let target = format!("https://{}/mcp", server_at(host, &["http/1.1"]).await);
        let proxy = ReverseProxy::new(target.parse().unwrap(), remote(authority)).unwrap();
        let asked = [
            proxy.initialize(Duration::from_mins(2)).await.map(drop),
            proxy.reachable(Duration::from_mins(2)).await,
        ];
        for error in asked.map(Result::unwrap_err) {
            assert!(!error.is_retryable(), "{error:?}");
            let ProxyError::Certificate { reason } = error else {
                panic!("{error:?}");
            };
            assert_eq!(reason, why);
        }
    }
}

#[tokio::test]
async fn what_was_asked_under_tls_is_not_asked_in_plain_text() {
    for protocol in ["h2", "http/1.1"] {
        let answer = ask_at("/plain", server(&[protocol]).await, remote(AUTHORITY)).await;
        assert!(
            answer.status == 502 && answer.text.contains("plain text"),
            "{}",
            answer.text
        );
    }
}

#[test]
fn what_is_no_certificate_is_refused() {
    for bad in [
        &b"garbage"[..],
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        // PEM, and nothing that a certificate is.
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let made = ReverseProxy::new("https://localhost/".parse().unwrap(), remote(bad));
        assert!(matches!(made, Err(ProxyError::Invalid { .. })), "{made:?}");
    }
}
