//! Remote workloads: no runtime, and a server that comes and goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use thv_core::{Json, MiddlewareConfig, WorkloadStatus};
use thv_manager::{ListOptions, Manager, RollbackPolicy, RunRequest, StopOptions, UpdateOptions};
use thv_proxy::{Body, Layer, MiddlewareFactory};
use thv_runtime::Runtimes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::*;

/// An MCP server on loopback that can be switched off: then it answers 503.
struct Remote {
    url: String,
    up: Arc<AtomicBool>,
}

impl Remote {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let up = Arc::new(AtomicBool::new(true));
        let switch = up.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, switch.clone()));
            }
        });
        Self { url, up }
    }

    fn request(&self, name: &str) -> RunRequest {
        RunRequest {
            name: Some(name.into()),
            ..RunRequest::new(&self.url)
        }
    }

    fn switch(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }
}

async fn serve(stream: TcpStream, up: Arc<AtomicBool>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let header = line.trim_end().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if header.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let answer = answer(&String::from_utf8_lossy(&body)).filter(|_| up.load(Ordering::Relaxed));
    let response = match answer {
        Some(answer) => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        ),
        None if up.load(Ordering::Relaxed) => {
            "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into()
        }
        None => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into(),
    };
    stream.write_all(response.as_bytes()).await.ok()
}

/// A manager without any runtime.
fn without_runtime(world: &World) -> Manager {
    world.builder(APP).runtimes(Runtimes::new()).build().unwrap()
}

#[tokio::test]
async fn a_remote_lives_without_a_runtime() {
    let (world, remote) = (World::new(), Remote::start().await);
    let manager = without_runtime(&world);
    let outcome = manager.run(remote.request("far"), until_ready()).await.unwrap();
    let listed = manager.list(ListOptions::default()).await.unwrap();
    assert!(listed.workloads[0].remote && listed.workloads[0].status == WorkloadStatus::Running);
    assert_eq!(listed.warnings, Vec::<String>::new());
    let response = post(&outcome.url, &initialize()).await.unwrap();
    let body: Value = serde_json::from_str(response.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["result"]["serverInfo"]["name"], "memory");
    manager.stop(&name("far"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("far")).await;
    let again = manager.start(&name("far"), start_until_ready()).await.unwrap();
    assert_eq!(again.url, outcome.url);
    manager
        .delete(&name("far"), StopOptions::default())
        .await
        .unwrap();
    world.assert_nothing_of(&name("far")).await;
}

/// A URL that does not serve, and what is said of it.
async fn broken(how: &str) -> String {
    let url = |address| format!("http://{address}/mcp");
    if how == "refuses" {
        // Nobody listens, and nobody else has the port.
        let held = TcpSocket::new_v4().unwrap();
        held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = url(held.local_addr().unwrap());
        tokio::spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        return url;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url(listener.local_addr().unwrap());
    let answer = match how {
        "says nothing" => "",
        "wants a login" => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        _ => unreachable!("{how}"),
    };
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(answer.as_bytes()).await;
            silent.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn an_update_to_a_url_that_does_not_serve_goes_back_to_the_old_one() {
    for how in ["refuses", "says nothing", "wants a login"] {
        tokio::time::timeout(Duration::from_mins(2), Box::pin(goes_back_from(how)))
            .await
            .unwrap_or_else(|_| panic!("{how}: it does not go back"));
    }
}

async fn goes_back_from(how: &str) {
    let options = UpdateOptions {
        ready_within: Duration::from_millis(500),
        rollback: RollbackPolicy::OnFailure,
        ..UpdateOptions::default()
    };
    let (world, remote) = (World::new(), Remote::start().await);
    let manager = without_runtime(&world);
    let outcome = manager.run(remote.request("far"), until_ready()).await.unwrap();
    let old = manager.export(&name("far")).await.unwrap();
    let mut new = old.clone();
    new.remote_url = broken(how).await;
    let failed = manager.update(new, options).await.unwrap_err();
    assert_eq!(failed.code(), "update_failed", "{how}: {failed}");
    assert_eq!(
        manager.export(&name("far")).await.unwrap().to_json(),
        old.to_json(),
        "{how}"
    );
    assert_eq!(
        world.status_of(&name("far")).await.0,
        WorkloadStatus::Running,
        "{how}"
    );
    let response = post(&outcome.url, &initialize()).await.unwrap();
    assert!(response.contains("\"memory\""), "{how}: {response}");
    manager
        .delete(&name("far"), StopOptions::default())
        .await
        .unwrap();
    world.assert_nothing_of(&name("far")).await;
}

#[tokio::test]
async fn what_cannot_be_started_again_for_its_certificates_is_not_stopped() {
    let (world, remote) = (World::new(), Remote::start().await);
    let manager = without_runtime(&world);
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    manager.run(remote.request("far"), until_ready()).await.unwrap();
    let mut config = manager.export(&name("far")).await.unwrap();
    manager
        .delete(&name("far"), StopOptions::default())
        .await
        .unwrap();
    config.thv_ca_bundle = bundle.to_str().unwrap().to_owned();
    let missing = manager
        .run_config(config.clone(), None, until_ready())
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("ca.pem"), "{missing}");
    world.assert_nothing_of(&name("far")).await;

    std::fs::write(
        &bundle,
        include_str!("../../../thv-proxy/tests/tls/authority.pem"),
    )
    .unwrap();
    manager.run_config(config, None, until_ready()).await.unwrap();
    std::fs::remove_file(&bundle).unwrap();
    let stop = StopOptions::default();
    let missing = manager
        .restart(&name("far"), stop, start_until_ready())
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("ca.pem"), "{missing}");
    assert_eq!(world.status_of(&name("far")).await.0, WorkloadStatus::Running);
    manager.delete(&name("far"), stop).await.unwrap();
}

#[tokio::test]
async fn an_applications_own_layer_stands_before_its_workload_and_who_does_not_know_it_refuses() {
    let (world, remote) = (World::new(), Remote::start().await);
    let kind = "com.example.teapot";
    let factory = MiddlewareFactory::new().with(kind, |parameters| {
        let status = parameters.as_object().and_then(|pairs| pairs.first()?.1.as_i64());
        let status = u16::try_from(status.unwrap()).unwrap();
        let status = http::StatusCode::from_u16(status).unwrap();
        Ok(Some(Layer::before(move |_| {
            let mut answer = http::Response::new(Body::empty());
            *answer.status_mut() = status;
            Some(answer)
        })))
    });
    let builder = || world.builder(APP).runtimes(Runtimes::new());
    let manager = builder().middleware(factory).build().unwrap();
    let layer = MiddlewareConfig {
        kind: kind.into(),
        parameters: Json::parse(br#"{"status": 418}"#).unwrap(),
        ..MiddlewareConfig::default()
    };
    let request = RunRequest {
        middleware: vec![layer],
        ..remote.request("far")
    };
    let outcome = manager.run(request.clone(), until_ready()).await.unwrap();
    let response = post(&outcome.url, &initialize()).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 418 "), "{response}");
    manager.stop(&name("far"), StopOptions::default()).await.unwrap();

    let stranger = builder().build().unwrap();
    for refused in [
        stranger.start(&name("far"), start_until_ready()).await,
        stranger
            .run(
                RunRequest {
                    name: Some("near".into()),
                    ..request
                },
                until_ready(),
            )
            .await,
    ] {
        assert!(refused.unwrap_err().to_string().contains(kind));
    }
    manager.start(&name("far"), start_until_ready()).await.unwrap();
    manager
        .delete(&name("far"), StopOptions::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_remote_whose_proxy_was_killed_is_told_unhealthy() {
    let (world, remote) = (World::new(), Remote::start().await);
    let manager = without_runtime(&world);
    manager.run(remote.request("far"), until_ready()).await.unwrap();
    drop(manager);
    world.until_unowned(&name("far")).await;
    let workload = without_runtime(&world).get(&name("far")).await.unwrap();
    assert_eq!(workload.status, WorkloadStatus::Unhealthy);
    assert!(
        workload.status_context.contains("proxy"),
        "{}",
        workload.status_context
    );
}

#[tokio::test]
async fn a_remote_that_was_ready_once_and_is_down_is_unhealthy_and_recovers() {
    let (world, remote) = (World::new(), Remote::start().await);
    let manager = without_runtime(&world);
    manager.run(remote.request("far"), until_ready()).await.unwrap();
    manager.stop(&name("far"), StopOptions::default()).await.unwrap();
    remote.switch(false);
    manager
        .start(&name("far"), thv_manager::StartOptions::default())
        .await
        .unwrap();
    world.until(&name("far"), WorkloadStatus::Unhealthy).await;
    assert_ne!(world.status_of(&name("far")).await.1, "");
    remote.switch(true);
    to_the_next_attempt().await;
    world
        .until_running_within(&name("far"), Duration::from_mins(1))
        .await;
}

#[tokio::test]
async fn a_remote_that_is_down_can_be_stopped() {
    let (world, remote) = (World::new(), Remote::start().await);
    let manager = without_runtime(&world);
    manager.run(remote.request("far"), until_ready()).await.unwrap();
    manager.stop(&name("far"), StopOptions::default()).await.unwrap();
    remote.switch(false);
    manager
        .start(&name("far"), thv_manager::StartOptions::default())
        .await
        .unwrap();
    world.until(&name("far"), WorkloadStatus::Unhealthy).await;
    manager.stop(&name("far"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("far")).await;
}

/// The next attempt is at the next health interval, which may not have begun. Besides those seconds no time passes that
/// bytes on their way through the kernel did not take.
async fn to_the_next_attempt() {
    let _still = time_stands_still();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
}

/// A remote that was ready once, with its proxy, and without its server.
async fn away() -> (World, Remote, Manager) {
    let (world, remote) = (World::new(), Remote::start().await);
    let manager = without_runtime(&world);
    manager.run(remote.request("far"), until_ready()).await.unwrap();
    manager.stop(&name("far"), StopOptions::default()).await.unwrap();
    remote.switch(false);
    let options = thv_manager::StartOptions::default();
    manager.start(&name("far"), options).await.unwrap();
    world.until(&name("far"), WorkloadStatus::Unhealthy).await;
    (world, remote, manager)
}

#[tokio::test]
async fn who_waits_for_one_whose_server_is_away_waits_until_it_is_back() {
    let ((_world, remote, manager), far) = (away().await, name("far"));
    let back = async {
        remote.switch(true);
        to_the_next_attempt().await;
    };
    let (started, ()) = tokio::join!(manager.start(&far, start_until_ready()), back);
    let started = started.unwrap();
    assert!(started.already_running && started.ready, "{started:?}");
}

#[tokio::test]
async fn who_waits_for_one_that_is_stopped_meanwhile_is_told() {
    let (_world, _remote, manager) = away().await;
    let far = name("far");
    let stop = manager.stop(&far, StopOptions::default());
    let (started, stopped) = tokio::join!(manager.start(&far, start_until_ready()), stop);
    stopped.unwrap();
    assert_eq!(started.unwrap_err().code(), "conflict");
}
