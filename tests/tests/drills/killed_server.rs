//! Drill: `kill -9` of the server, of the server with its proxy, and another boot of the machine.

use rustix::process::Signal;
use serde_json::{Value, json};
use thv::core::{Workload, WorkloadStatus};
use thv_tests::{Client, Docker, Machine, PrivateEngine, Upstream, WAIT, docker, eventually, post};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;

use crate::drill::{self, Victim, answers, exec, kill_9, proxy_pid, run, signal, token_of, with_token};

const TRANSPORTS: [&str; 2] = ["stdio", "streamable-http"];

/// The server's process, of this host or in a container of its engine.
async fn server_pid(workload: &Workload, docker: Option<&Docker>) -> u32 {
    if let Some(docker) = docker {
        return docker.pid(&workload.name).await;
    }
    let [pid] = with_token(&token_of(workload).await)[..] else {
        panic!("not one server: {workload:?}");
    };
    pid
}

/// Waits until a tool call is answered.
async fn serves(workload: &Workload) {
    eventually(WAIT, "it answers again", async || {
        let client = Client::try_connect(&workload.url).await.ok()?;
        let answer = client.try_call("echo", json!({ "text": "again" })).await;
        client.close().await;
        answer.is_ok_and(|text| text == "again").then_some(())
    })
    .await;
}

async fn comes_back_by_itself(machine: &Machine, server: &str, transport: &str, docker: Option<&Docker>) {
    let name = machine.name("server");
    let before = run(machine, &name, server, &["--transport", transport]).await;
    let proxy = proxy_pid(machine, &name).await;
    kill_9(server_pid(&before, docker).await);
    serves(&before).await;
    assert_eq!(proxy_pid(machine, &name).await, proxy, "by the same supervisor");
    let after = machine.workload(&name).await;
    assert_eq!((after.status, after.port), (WorkloadStatus::Running, before.port));
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[before.port]);
}

/// Kills the proxy, then what it left of its server: one that speaks stdio ends with its proxy.
async fn kill_both(machine: &Machine, workload: &Workload, docker: Option<&Docker>) {
    let server = Victim::new(server_pid(workload, docker).await);
    kill_9(proxy_pid(machine, &workload.name).await);
    server.kill_9();
}

async fn both_are_missed_and_one_start_restores(
    machine: &Machine,
    server: &str,
    transport: &str,
    docker: Option<&Docker>,
) {
    let name = machine.name("both");
    let before = run(machine, &name, server, &["--transport", transport]).await;
    kill_both(machine, &before, docker).await;
    let dead = machine.workload(&name).await;
    assert_ne!(dead.status, WorkloadStatus::Running, "{dead:?}");
    assert!(dead.status_context.contains("proxy"), "no reason: {dead:?}");
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    let after = machine.workload(&name).await;
    assert_eq!((after.status, after.port), (WorkloadStatus::Running, before.port));
    answers(&after).await;
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[before.port]);
}

/// As if the machine had been started anew since: the records name another boot.
fn reboot(machine: &Machine) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the boot's id");
    let mut changed = 0;
    for path in drill::files_of(machine).keys() {
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        if text.contains(boot.trim()) {
            std::fs::write(
                path,
                text.replace(boot.trim(), "00000000-0000-4000-8000-000000000000"),
            )
            .expect("the record");
            changed += 1;
        }
    }
    assert_ne!(changed, 0, "no record names the boot");
}

async fn is_back_after_a_reboot(machine: &Machine, server: &str, transport: &str, docker: Option<&Docker>) {
    let name = machine.name("booted");
    let before = run(machine, &name, server, &["--transport", transport]).await;
    let stays = machine.name("stays-down");
    run(machine, &stays, server, &["--transport", transport]).await;
    machine.thv(["stop", &stays]).await.ok();
    if before.remote {
        kill_9(proxy_pid(machine, &name).await);
    } else {
        kill_both(machine, &before, docker).await;
    }
    reboot(machine);

    // An engine does not know at once that a container was killed; from then on the list does.
    if let Some(docker) = docker {
        eventually(WAIT, "the engine knows", async || {
            let seen = docker.instance(&name).await?;
            (!seen.state.is_up()).then_some(())
        })
        .await;
    }
    let down = machine.workload(&name).await;
    assert_eq!(down.status, WorkloadStatus::Stopped, "{down:?}");
    assert!(down.status_context.contains("machine restarted"), "{down:?}");
    let said = machine.thv(["reconcile"]).await.ok().says([&*name]);
    assert!(!said.stdout.contains(&stays), "{said}");
    // Of one that takes long it says that it is still starting.
    let after = eventually(WAIT, "it runs", async || {
        Some(machine.workload(&name).await).filter(|it| it.status == WorkloadStatus::Running)
    });
    let after = after.await;
    assert_eq!(after.port, before.port);
    assert_eq!(machine.workload(&stays).await.status, WorkloadStatus::Stopped);
    answers(&after).await;
    let again = machine.thv(["reconcile"]).await.ok();
    assert!(!again.stdout.contains(&name), "{again}");
    machine.thv(["rm", &name, &stays]).await.ok();
}

/// A call that goes on without end, once its server is at it.
struct UnderWay(Lines<BufReader<TcpStream>>);

impl UnderWay {
    async fn begin(port: u16) -> Self {
        let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
        let answer = post(port, &[], hello.to_string()).await;
        let session = answer.header("mcp-session-id").expect("a session");
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        post(port, &[("mcp-session-id", session)], initialized.to_string()).await;
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
            "name": "progress", "arguments": { "steps": 1_000_000, "ms": 20 }, "_meta": { "progressToken": "p" } } });
        let call = call.to_string();
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nmcp-session-id: {session}\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n{call}",
            call.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("the port is open");
        stream.write_all(request.as_bytes()).await.expect("it is read");
        let mut call = Self(BufReader::new(stream).lines());
        let progress = call.told(|message| message["method"] == "notifications/progress");
        progress.await.expect("its server is at it");
        call
    }

    /// The next message of this kind, if there is one. The proxy's own limit of a call is a minute.
    async fn told(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let messages = async {
            loop {
                let line = self.0.next_line().await.ok()??;
                let message = line.strip_prefix("data:").map(serde_json::from_str);
                match message {
                    Some(Ok(message)) if wanted(&message) => return Some(message),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(2 * WAIT, messages).await.ok()?
    }
}

/// The engine stands still: what is told is the death alone, and no timeout.
#[tokio::test]
async fn a_call_under_way_fails_with_the_death_of_its_server_while_the_engine_says_nothing() {
    let Some(engine) = PrivateEngine::start().await else {
        return;
    };
    let machine = Machine::with_docker(engine.docker());
    let name = machine.name("dies");
    let alone = ["--transport", "stdio", "--isolate-network=false"];
    let workload = run(&machine, &name, engine.docker().image(), &alone).await;
    let mut call = UnderWay::begin(workload.port).await;
    let server = engine.docker().pid(&name).await;
    signal(engine.pid(), Signal::STOP);
    kill_9(server);
    let answer = call.told(|message| message["id"] == 7).await;
    signal(engine.pid(), Signal::CONT);
    let answer = answer.expect("an answer");
    assert_eq!(answer["error"]["code"], -32000, "{answer}");
    assert_eq!(answer["error"]["message"], "the server ended during the call");
    serves(&workload).await;
    machine.thv(["rm", &name]).await.ok();
}

#[tokio::test]
async fn a_killed_local_server_comes_back_by_itself() {
    for transport in TRANSPORTS {
        comes_back_by_itself(&Machine::new(), &exec(), transport, None).await;
    }
}

#[tokio::test]
async fn a_killed_container_comes_back_by_itself() {
    let Some(docker) = docker().await else { return };
    for transport in TRANSPORTS {
        let machine = Machine::with_docker(&docker);
        comes_back_by_itself(&machine, docker.image(), transport, Some(&docker)).await;
    }
}

#[tokio::test]
async fn a_local_server_and_its_proxy_are_missed_and_one_start_restores_both() {
    for transport in TRANSPORTS {
        both_are_missed_and_one_start_restores(&Machine::new(), &exec(), transport, None).await;
    }
}

#[tokio::test]
async fn a_container_and_its_proxy_are_missed_and_one_start_restores_both() {
    let Some(docker) = docker().await else { return };
    for transport in TRANSPORTS {
        let machine = Machine::with_docker(&docker);
        both_are_missed_and_one_start_restores(&machine, docker.image(), transport, Some(&docker)).await;
    }
}

#[tokio::test]
async fn a_local_server_is_back_after_a_reboot() {
    for transport in TRANSPORTS {
        is_back_after_a_reboot(&Machine::new(), &exec(), transport, None).await;
    }
}

#[tokio::test]
async fn a_container_is_back_after_a_reboot() {
    let Some(docker) = docker().await else { return };
    for transport in TRANSPORTS {
        let machine = Machine::with_docker(&docker);
        is_back_after_a_reboot(&machine, docker.image(), transport, Some(&docker)).await;
    }
}

#[tokio::test]
async fn a_remote_server_is_back_after_a_reboot() {
    let machine = Machine::new();
    let upstream = Upstream::echo(&machine).await;
    is_back_after_a_reboot(&machine, &upstream.url(), "streamable-http", None).await;
}
