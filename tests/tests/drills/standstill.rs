//! Drill: somebody pauses a container, or its engine hangs. No call waits for it, the status says what to do, and all goes on
//! afterwards as it was, without a restart.

use rustix::process::Signal;
use serde_json::{Value, json};
use thv::core::WorkloadStatus;
use thv_tests::{Docker, Machine, PrivateEngine, WAIT, docker, eventually, post};
use tokio::task::JoinHandle;

use crate::drill::{run, signal, written};

/// A client's session.
#[derive(Clone)]
struct Session {
    port: u16,
    id: String,
}

impl Session {
    async fn open(port: u16) -> Self {
        let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
        let answer = post(port, &[], hello.to_string()).await;
        let id = answer.header("mcp-session-id").expect("a session").to_owned();
        Self { port, id }
    }

    /// What a tool answers, or the error of the call: of one that took too long that is another than those awaited here.
    async fn call(&self, tool: &str, arguments: Value) -> String {
        let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call",
            "params": { "name": tool, "arguments": arguments } });
        let headers = [("mcp-session-id", &*self.id)];
        let answer = post(self.port, &headers, call.to_string()).await.json();
        let said = answer.pointer("/result/content/0/text");
        let said = said.or_else(|| answer.pointer("/error/message"));
        said.and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    }

    async fn echo(&self) -> String {
        self.call("echo", json!({ "text": "hello" })).await
    }

    /// A call that takes longer than any test.
    fn under_way(&self) -> JoinHandle<String> {
        let session = self.clone();
        tokio::spawn(async move { session.call("slow", json!({ "ms": 600_000 })).await })
    }
}

async fn is_paused(docker: &Docker, transport: &str) {
    let machine = Machine::with_docker(docker);
    let name = machine.name("paused");
    let with = ["--transport", transport, "--isolate-network=false"];
    let workload = run(&machine, &name, docker.image(), &with).await;
    let instance = docker.instance(&name).await.expect("a container").id;
    let session = Session::open(workload.port).await;
    let under_way = session.under_way();
    assert_eq!(session.echo().await, "hello");

    let ask = async |verb: &str| docker.post(&format!("/containers/{name}/{verb}")).await;
    assert!(ask("pause").await.contains(" 204 "));
    let advice = format!("`docker unpause {name}`");
    let said = under_way.await.expect("no panic");
    assert!(said.contains(&advice), "{said}");
    let said = session.echo().await;
    assert!(said.contains(&advice), "{said}");
    eventually(WAIT, "the reason in the status", async || {
        let file = written(&machine, &name)?;
        let context = file["status_context"].to_string();
        (file["status"] == "unhealthy" && context.contains(&advice)).then_some(())
    })
    .await;
    let seen = machine.workload(&name).await;
    assert_eq!(seen.status, WorkloadStatus::Unhealthy);
    assert!(seen.status_context.contains(&advice), "{seen:?}");

    assert!(ask("unpause").await.contains(" 204 "));
    eventually(WAIT, "that it goes on", async || {
        (machine.workload(&name).await.status == WorkloadStatus::Running).then_some(())
    })
    .await;
    assert_eq!(session.echo().await, "hello");
    let same = docker.instance(&name).await.expect("a container").id;
    assert_eq!(same, instance, "it was not restarted");

    assert!(ask("pause").await.contains(" 204 "));
    machine.thv(["stop", &name]).await.ok();
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn calls_to_a_paused_stdio_server_fail_at_once() {
    let Some(docker) = docker().await else { return };
    is_paused(&docker, "stdio").await;
}

#[tokio::test]
async fn calls_to_a_paused_http_server_fail_at_once() {
    let Some(docker) = docker().await else { return };
    is_paused(&docker, "streamable-http").await;
}

/// A stopped process, which goes on when this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Self {
        signal(pid, Signal::STOP);
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

#[tokio::test]
async fn calls_that_wait_for_an_engine_that_hangs_fail() {
    let Some(engine) = PrivateEngine::start().await else {
        return;
    };
    let machine = Machine::with_docker(engine.docker());
    let name = machine.name("hangs");
    let with = ["--transport", "stdio", "--isolate-network=false"];
    let workload = run(&machine, &name, engine.docker().image(), &with).await;
    let instance = engine.docker().instance(&name).await.expect("a container").id;
    let session = Session::open(workload.port).await;
    let under_way = session.under_way();
    assert_eq!(session.echo().await, "hello");

    let stopped = Stopped::new(engine.pid());
    let said = under_way.await.expect("no panic");
    assert!(said.contains("does not answer"), "{said}");
    let said = session.echo().await;
    assert!(said.contains("does not answer"), "{said}");
    let file = eventually(WAIT, "the reason in the status", async || {
        written(&machine, &name).filter(|file| file["status"] == "unhealthy")
    });
    let context = file.await["status_context"].to_string();
    assert!(context.contains("does not answer"), "{context}");

    drop(stopped);
    eventually(WAIT, "that it goes on", async || {
        (written(&machine, &name)?["status"] == "running").then_some(())
    })
    .await;
    assert_eq!(session.echo().await, "hello");
    let same = engine.docker().instance(&name).await.expect("a container").id;
    assert_eq!(same, instance, "it was not restarted");
    machine.thv(["rm", &name]).await.ok();
}
