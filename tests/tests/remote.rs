//! Servers elsewhere as workloads, by URL, on a machine without an engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use thv::core::{Workload, WorkloadStatus};
use thv_tests::{Client, Machine, Upstream, WAIT, echo_server, eventually, node};

async fn lives_its_whole_life(
    machine: &Machine,
    upstream: &Upstream,
    arguments: serde_json::Value,
    expected: &str,
) {
    let name = machine.name("remote");
    machine
        .thv(["run", "--wait=1m", &upstream.url(), "--name", &name])
        .await
        .ok();
    let workload = machine.workload(&name).await;
    assert_eq!(workload.status, WorkloadStatus::Running, "{workload:?}");
    assert!(workload.remote);
    assert_eq!(workload.package, "remote");
    assert_ne!(workload.port, upstream.port());

    let client = Client::connect(&workload.url).await;
    assert!(client.tools().await.contains(&"echo".to_owned()));
    assert_eq!(client.call("echo", arguments.clone()).await, expected);
    client.ping().await;
    client.close().await;

    machine.thv(["stop", &name]).await.ok();
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    assert!(
        std::net::TcpListener::bind(("127.0.0.1", workload.port)).is_ok(),
        "the proxy's port is free"
    );
    assert!(upstream.answers().await, "the server is somebody else's");

    machine.thv(["start", "--wait=1m", &name]).await.ok();
    let again = machine.workload(&name).await;
    assert_eq!(
        (again.status, again.port),
        (WorkloadStatus::Running, workload.port)
    );
    let client = Client::connect(&again.url).await;
    assert_eq!(client.call("echo", arguments).await, expected);
    client.close().await;

    machine.thv(["rm", &name]).await.ok();
    assert_eq!(machine.find(&name).await, None);
    assert!(upstream.answers().await, "the server is somebody else's");
}

#[tokio::test]
async fn a_remote_server_needs_no_engine() {
    let machine = Machine::new();
    let upstream = Upstream::echo(&machine).await;
    lives_its_whole_life(&machine, &upstream, json!({ "text": "hello" }), "hello").await;
}

#[tokio::test]
async fn server_everything_is_proxied_as_a_remote_server() {
    let Some(node) = node() else { return };
    let machine = Machine::new();
    let upstream = Upstream::everything(&machine, &node).await;
    lives_its_whole_life(&machine, &upstream, json!({ "message": "hello" }), "Echo: hello").await;
}

#[tokio::test]
async fn list_mixes_remote_and_local_workloads() {
    let machine = Machine::new();
    let upstream = Upstream::echo(&machine).await;
    let (far, near) = (machine.name("far"), machine.name("near"));
    machine
        .thv(["run", "--wait=1m", &upstream.url(), "--name", &far])
        .await
        .ok();
    let server = format!("exec://{}", echo_server().display());
    machine
        .thv([
            "run",
            "--wait=1m",
            &server,
            "--name",
            &near,
            "--transport",
            "stdio",
        ])
        .await
        .ok();
    let listed = machine.thv(["list"]).await.ok();
    assert!(
        listed.stdout.contains(&far) && listed.stdout.contains(&near),
        "{listed}"
    );
    let kinds: Vec<_> = machine
        .workloads()
        .await
        .iter()
        .map(|it| (it.name.clone(), it.remote))
        .collect();
    assert_eq!(kinds, [(far.clone(), true), (near.clone(), false)]);
    machine.thv(["rm", &far, &near]).await.ok();
    assert_eq!(machine.workloads().await, []);
}

#[tokio::test]
async fn a_remote_server_that_is_not_there_fails_run() {
    let machine = Machine::new();
    let free = std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|it| it.local_addr())
        .expect("a free port");
    let name = machine.name("nobody");
    let url = format!("http://{free}/mcp");
    machine
        .thv(["run", &url, "--name", &name, "--wait=3s"])
        .await
        .failed()
        .says([name.as_str()]);
    let workload = machine.workload(&name).await;
    assert_ne!(workload.status, WorkloadStatus::Running);
    assert_ne!(workload.status_context, "", "it says why");
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
}

/// A server as Starlette mounts it, behind a key: `/mcp` is redirected, and without the key there is nothing.
async fn keyed_server() -> u16 {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_with_key(stream));
        }
    });
    port
}

async fn answer_with_key(mut stream: tokio::net::TcpStream) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut seen = Vec::new();
    while seen.windows(4).all(|end| end != b"\r\n\r\n") && stream.read_buf(&mut seen).await.unwrap_or(0) > 0 {
    }
    let head = String::from_utf8_lossy(&seen).to_lowercase();
    let body = r#"{"jsonrpc":"2.0","id":"toolhive-init-check","result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"keyed","version":"1"}}}"#;
    let answer = if !head.contains("\r\nx-key: opensesame\r\n") {
        "401 Unauthorized\r\ncontent-length: 0".to_owned()
    } else if head.contains(" /mcp/ http") {
        format!(
            "200 OK\r\ncontent-type: application/json\r\ncontent-length: {}",
            body.len()
        )
    } else {
        "307 Temporary Redirect\r\nlocation: /mcp/\r\ncontent-length: 0".to_owned()
    };
    let body = if answer.starts_with("200") { body } else { "" };
    let whole = format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n{body}");
    let _ = stream.write_all(whole.as_bytes()).await;
    // What is left of the request is read, so that the answer is not lost with the connection.
    while stream.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
}

#[tokio::test]
async fn a_server_is_ready_when_it_answers_with_the_headers_and_redirects_that_clients_get() {
    let machine = Machine::new();
    let url = format!("http://127.0.0.1:{}/mcp", keyed_server().await);
    let (keyed, keyless) = (machine.name("keyed"), machine.name("keyless"));
    let header = "--remote-forward-headers=X-Key=opensesame";
    machine
        .thv(["run", "--wait=1m", &url, header, "--name", &keyed])
        .await
        .ok();
    assert_eq!(machine.workload(&keyed).await.status, WorkloadStatus::Running);
    machine
        .thv(["run", "--wait=1m", &url, "--name", &keyless])
        .await
        .failed()
        .says(["401"]);
    machine.thv(["rm", &keyed, &keyless]).await.ok();
}

async fn shows(machine: &Machine, name: &str, status: WorkloadStatus) -> Workload {
    let what = format!("{name} is {status}");
    eventually(WAIT, &what, async || {
        Some(machine.workload(name).await).filter(|it| it.status == status)
    })
    .await
}

/// It goes while its proxy runs, or, with `restart`, while the proxy is restarted. Then it comes back.
async fn goes_and_comes_back(restart: bool) {
    let mut machine = Machine::new();
    machine
        .set("TOOLHIVE_HEALTH_CHECK_INTERVAL", "100ms")
        .set("TOOLHIVE_HEALTH_CHECK_RETRY_DELAY", "50ms");
    let upstream = Upstream::echo(&machine).await;
    let port = upstream.port();
    let name = machine.name("flaky");
    machine
        .thv(["run", &upstream.url(), "--name", &name, "--wait=1m"])
        .await
        .ok();
    let url = machine.workload(&name).await.url;
    upstream.kill().await;
    if restart {
        machine.thv(["restart", &name, "--no-wait"]).await.ok();
    }
    let gone = shows(&machine, &name, WorkloadStatus::Unhealthy).await;
    assert_ne!(gone.status_context, "", "it says why");

    let _upstream = Upstream::echo_at(&machine, port).await;
    shows(&machine, &name, WorkloadStatus::Running).await;
    let client = Client::connect(&url).await;
    assert_eq!(client.call("echo", json!({ "text": "again" })).await, "again");
    client.close().await;
}

#[tokio::test]
async fn a_remote_server_that_goes_is_unhealthy_and_one_that_comes_back_runs() {
    goes_and_comes_back(false).await;
}

#[tokio::test]
async fn a_remote_server_that_was_ready_once_is_awaited_after_a_restart() {
    goes_and_comes_back(true).await;
}

/// Answers one request as a server that says hello to everybody.
async fn greet(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut seen = Vec::new();
    while seen.windows(4).all(|end| end != b"\r\n\r\n") && stream.read_buf(&mut seen).await.unwrap_or(0) > 0 {
    }
    let body = r#"{"jsonrpc":"2.0","id":"toolhive-init-check","result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"greeter","version":"1"}}}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    let whole = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = stream.write_all(whole.as_bytes()).await;
    let _ = stream.shutdown().await;
    // What is left of the request is read, so that the answer is not lost with the connection.
    while stream.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
}

#[tokio::test]
async fn a_remote_server_is_looked_at_unless_that_is_switched_off() {
    for (said, looked_at) in [("false", false), ("true", true)] {
        let mut machine = Machine::new();
        machine
            .set("TOOLHIVE_HEALTH_CHECK_INTERVAL", "50ms")
            .set("TOOLHIVE_REMOTE_HEALTHCHECKS", said);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&visits);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(greet(stream));
            }
        });
        let name = machine.name("watched");
        let url = format!("http://127.0.0.1:{port}/mcp");
        machine
            .thv(["run", &url, "--name", &name, "--wait=1m"])
            .await
            .ok();
        // The session that was opened to see that it is ready is closed again, a moment later.
        let before = eventually(WAIT, "the server is left alone", async || {
            let before = visits.load(Ordering::SeqCst);
            for _ in 0..5 {
                machine.thv(["list"]).await.ok();
            }
            Some(before).filter(|before| looked_at || visits.load(Ordering::SeqCst) == *before)
        })
        .await;
        if looked_at {
            eventually(WAIT, "the server is looked at", async || {
                Some(()).filter(|()| visits.load(Ordering::SeqCst) > before + 2)
            })
            .await;
        } else {
            for _ in 0..5 {
                machine.thv(["list"]).await.ok();
            }
            assert_eq!(visits.load(Ordering::SeqCst), before, "it is left alone");
        }
        machine.thv(["rm", &name]).await.ok();
    }
}

#[tokio::test]
async fn a_remote_server_of_ones_own_authority_is_believed_when_its_certificate_is_named() {
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    macro_rules! tls {
        ($file:literal) => {
            include_bytes!(concat!("../../crates/thv-proxy/tests/tls/", $file))
        };
    }
    let key = PrivateKeyDer::try_from(&tls!("server.key.der")[..]).expect("a key");
    let certificate = CertificateDer::from_slice(tls!("server.der"));
    let config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    greet(stream).await;
                }
            });
        }
    });
    let machine = Machine::new();
    let authority = format!(
        "{}/../crates/thv-proxy/tests/tls/authority.pem",
        env!("CARGO_MANIFEST_DIR")
    );
    let url = format!("https://localhost:{port}/mcp");
    let (known, stranger) = (machine.name("known"), machine.name("stranger"));
    machine
        .thv([
            "run",
            &url,
            "--name",
            &known,
            "--thv-ca-bundle",
            &authority,
            "--wait=1m",
        ])
        .await
        .ok();
    assert_eq!(machine.workload(&known).await.status, WorkloadStatus::Running);
    machine
        .thv(["run", &url, "--name", &stranger, "--wait=1m"])
        .await
        .failed()
        .says(["its authority is not known here", "--thv-ca-bundle"]);
    let failed = machine.workload(&stranger).await;
    assert_eq!(failed.status, WorkloadStatus::Error, "{failed:?}");
    machine.thv(["rm", &known, &stranger]).await.ok();
}
