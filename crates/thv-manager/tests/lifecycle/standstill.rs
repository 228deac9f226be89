//! Servers that are paused, and engines that hang: calls fail at once, the status says why, and all goes on afterwards.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use thv_core::WorkloadStatus;
use thv_manager::RunOptions;
use thv_runtime::{Call, MemoryRuntime};
use tokio::sync::Notify;

use crate::support::*;

const LONG: Duration = Duration::from_hours(1);

fn tool_call(text: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": text}}})
}

/// As [`mcp_server`], but a call of a tool whose text is a number is answered after so many seconds. That it has such a call
/// is said by what is given with it.
fn slow_server() -> (MemoryRuntime, Arc<Notify>) {
    let called = Arc::new(Notify::new());
    let told = called.clone();
    let runtime = MemoryRuntime::new().with_server(move |mut server| {
        let told = told.clone();
        async move {
            while let Some(line) = server.next_line().await {
                let message: Value = serde_json::from_str(&line).unwrap();
                let text = &message["params"]["arguments"]["text"];
                if let Some(seconds) = text.as_str().and_then(|text| text.parse().ok()) {
                    told.notify_one();
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                if let Some(answer) = answer(&line) {
                    server.write_line(&answer).await;
                }
            }
            0
        }
    });
    (runtime, called)
}

#[tokio::test(start_paused = true)]
async fn calls_to_a_paused_server_fail_at_once_and_it_goes_on_without_a_restart() {
    let (runtime, called) = slow_server();
    let world = World::on(runtime);
    let manager = world.manager();
    let url = run(&manager, "echo").await.url;
    let call = tool_call("50");
    let pausing = async {
        called.notified().await;
        assert!(world.runtime.pause(&name("echo"), true));
    };
    let (answer, ()) = tokio::join!(post(&url, &call), pausing);
    assert!(answer.unwrap().contains("paused by the test"));
    let answer = post(&url, &tool_call("hello")).await.unwrap();
    assert!(answer.contains("paused by the test"), "{answer}");
    world.until(&name("echo"), WorkloadStatus::Unhealthy).await;
    assert_eq!(world.status_of(&name("echo")).await.1, "paused by the test");
    let seen = manager.get(&name("echo")).await.unwrap();
    assert_eq!(seen.status, WorkloadStatus::Unhealthy);
    assert_eq!(seen.status_context, "paused by the test");
    tokio::time::sleep(LONG).await;

    assert!(world.runtime.pause(&name("echo"), false));
    world.until(&name("echo"), WorkloadStatus::Running).await;
    // The other call comes to its end first.
    let answer = post(&url, &tool_call("hello")).await.unwrap();
    assert!(answer.contains(r#""text":"hello""#), "{answer}");
    assert_eq!(world.runtime.calls(Call::Deploy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_paused_before_it_is_ready_gets_its_time_afterwards() {
    let runtime = MemoryRuntime::new().with_server(|server| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        mcp_server(server).await
    });
    let world = World::on(runtime);
    let manager = world.manager();
    manager.run(request("echo"), RunOptions::default()).await.unwrap();
    let runs = eventually(|| async { world.runs(&name("echo")).await });
    assert!(runs.await);
    assert!(world.runtime.pause(&name("echo"), true));
    let told = eventually(|| async { world.status_of(&name("echo")).await.1 == "paused by the test" });
    assert!(told.await, "{:?}", world.status_of(&name("echo")).await);
    tokio::time::sleep(LONG).await;
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Starting);
    assert!(world.runtime.pause(&name("echo"), false));
    world
        .until_running_within(&name("echo"), Duration::from_secs(200))
        .await;
    assert_eq!(world.runtime.calls(Call::Deploy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_nobody_told_of_is_seen_after_a_gap_and_ends_nothing() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    assert!(world.runtime.pause(&name("echo"), true));
    world.until(&name("echo"), WorkloadStatus::Unhealthy).await;
    world.runtime.set_down(true);
    world.runtime.set_down(false);
    tokio::time::sleep(LONG).await;
    assert_eq!(world.status_of(&name("echo")).await.1, "paused by the test");
    assert_eq!(world.runtime.calls(Call::Deploy), 1);
    // Told to end, it ends.
    manager
        .stop(&name("echo"), thv_manager::StopOptions::default())
        .await
        .unwrap();
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_fails_the_calls_that_wait_for_it() {
    let (runtime, called) = slow_server();
    let world = World::on(runtime);
    let manager = world.manager();
    let url = run(&manager, "echo").await.url;
    let pings = world.runtime.calls(Call::Ping);
    tokio::time::sleep(LONG).await;
    assert_eq!(
        world.runtime.calls(Call::Ping),
        pings,
        "an idle server is left alone"
    );
    // A slow server is no failure, as long as its engine answers.
    let answer = post_slow(&url, &tool_call("50"), &called).await.unwrap();
    assert!(answer.contains(r#""text":"50""#), "{answer}");
    assert!(world.runtime.calls(Call::Ping) > pings);

    world.runtime.delay(Call::Ping, LONG);
    let answer = post_slow(&url, &tool_call("1000"), &called).await.unwrap();
    assert!(answer.contains("does not answer"), "{answer}");
    world.until(&name("echo"), WorkloadStatus::Unhealthy).await;
    let (_, context) = world.status_of(&name("echo")).await;
    assert!(context.contains("does not answer"), "{context}");
    let answer = post(&url, &tool_call("hello")).await.unwrap();
    assert!(answer.contains("does not answer"), "{answer}");

    world.runtime.delay(Call::Ping, Duration::ZERO);
    world.until_running_within(&name("echo"), 2 * LONG).await;
    let answer = post(&url, &tool_call("hello")).await.unwrap();
    assert!(answer.contains(r#""text":"hello""#), "{answer}");
    assert_eq!(world.runtime.calls(Call::Deploy), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_paused_while_its_engine_hangs_stays_so_when_that_answers() {
    let (runtime, called) = slow_server();
    let world = World::on(runtime);
    let manager = world.manager();
    let url = run(&manager, "echo").await.url;
    world.runtime.delay(Call::Ping, LONG);
    let answer = post_slow(&url, &tool_call("1000"), &called).await.unwrap();
    assert!(answer.contains("does not answer"), "{answer}");
    assert!(world.runtime.pause(&name("echo"), true));
    let told = eventually(|| async { world.status_of(&name("echo")).await.1 == "paused by the test" });
    assert!(told.await, "{:?}", world.status_of(&name("echo")).await);

    world.runtime.delay(Call::Ping, Duration::ZERO);
    tokio::time::sleep(2 * LONG).await;
    let (status, context) = world.status_of(&name("echo")).await;
    assert_eq!(
        (status, context.as_str()),
        (WorkloadStatus::Unhealthy, "paused by the test")
    );
    let answer = post(&url, &tool_call("hello")).await.unwrap();
    assert!(answer.contains("paused by the test"), "{answer}");

    assert!(world.runtime.pause(&name("echo"), false));
    world.until(&name("echo"), WorkloadStatus::Running).await;
}
