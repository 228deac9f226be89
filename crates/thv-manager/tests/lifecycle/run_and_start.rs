//! `run` and `start`.

use std::time::Duration;

use thv_core::WorkloadStatus;
use thv_manager::{Error, ListOptions, RunOptions, StartOptions, StopOptions, WaitFor};
use thv_runtime::{Call, MemoryRuntime};
use thv_status::{Desired, OwnerState};

use crate::support::*;

#[tokio::test]
async fn what_is_run_is_ready_listed_and_answers() {
    let world = World::new();
    let manager = world.manager();
    let outcome = run(&manager, "echo").await;
    let listed = manager.list(ListOptions::default()).await.unwrap();
    assert_eq!(listed.warnings, Vec::<String>::new());
    let workload = &listed.workloads[0];
    assert_eq!(
        (workload.name.as_str(), workload.status, &workload.url),
        ("echo", WorkloadStatus::Running, &outcome.url)
    );
    let response = post(&outcome.url, &initialize()).await.unwrap();
    assert!(
        response.starts_with("HTTP/1.1 200") && response.contains("serverInfo"),
        "{response}"
    );
    // In an application nobody may find a pid to signal.
    assert_eq!(world.snapshot(&name("echo")).await.status.unwrap().process_id, 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_refused() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    let config = world.config(&name("echo")).await;
    let error = manager.run(request("echo"), until_ready()).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    assert_eq!(world.config(&name("echo")).await, config);
    assert!(world.runs(&name("echo")).await);
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    let error = manager.run(request("echo"), until_ready()).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_was_never_ready_is_replaced_by_the_next_run() {
    let world = World::new();
    let manager = world.manager();
    world.runtime.fail_next(Call::Attach, refused());
    manager.run(request("echo"), until_ready()).await.unwrap_err();
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Error);
    run(&manager, "echo").await;
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn what_was_ready_once_is_only_replaced_on_request() {
    let world = World::new();
    let manager = world.manager();
    let first = run(&manager, "echo").await;
    let mut other = request("echo");
    other.args = vec!["--other".into()];
    let outcome = manager.run(other, replacing()).await.unwrap();
    assert!(outcome.ready);
    let config = world.config(&name("echo")).await.unwrap();
    assert_eq!(config.cmd_args, ["--other"]);
    assert!(world.runs(&name("echo")).await);
    assert_ne!(first.url, "");
    // It failed, but worked once: somebody may want its configuration back.
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.runtime.memory_images().only([]);
    let error = manager
        .start(
            &name("echo"),
            StartOptions {
                wait: WaitFor::Ready(Duration::from_secs(3600)),
                take_over: false,
            },
        )
        .await
        .unwrap_err();
    assert!(matches!(error, Error::StartFailed { .. }), "{error}");
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Error);
    world
        .runtime
        .memory_images()
        .only([IMAGE.to_owned(), format!("memory:{IMAGE}")]);
    let error = manager.run(request("echo"), until_ready()).await.unwrap_err();
    assert!(
        matches!(&error, Error::AlreadyExists { failed: true, .. }),
        "{error}"
    );
    manager.run(request("echo"), replacing()).await.unwrap();
}

/// A failure after the save leaves configuration and reason, and nothing that runs.
async fn assert_failed(world: &World, workload: &str, reason: &str) {
    let name = name(workload);
    let (status, context) = world.status_of(&name).await;
    assert_eq!(status, WorkloadStatus::Error, "{context}");
    assert!(context.contains(reason), "{context:?} does not say {reason:?}");
    assert!(world.instance(&name).await.is_none(), "an instance is left");
    assert_eq!(world.owner(&name).await, OwnerState::Dead);
    assert_can_bind(world.config(&name).await.expect("the configuration is kept").port);
    let companion = world.companion(&name).await;
    assert_eq!(
        (companion.pending, companion.owner, companion.ready),
        (None, None, None)
    );
}

fn refused() -> thv_runtime::Error {
    thv_runtime::Error::Denied {
        runtime: "memory".into(),
        detail: "not today".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_at_once_is_an_error_with_its_last_words() {
    let world = World::on(MemoryRuntime::new().with_server(|server| async move {
        server.log("no such option: --x");
        3
    }));
    let error = world
        .manager()
        .run(request("echo"), until_ready())
        .await
        .unwrap_err();
    let Error::StartFailed {
        reason, last_lines, ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(reason.contains("code 3"), "{reason}");
    assert_eq!(last_lines, ["no such option: --x"]);
    assert_failed(&world, "echo", "code 3").await;
}

#[tokio::test(start_paused = true)]
async fn that_a_start_failed_is_said_once() {
    let world = World::new();
    let failed = thv_runtime::Error::StartFailed {
        name: name("echo"),
        detail: "exited with code 3".to_owned(),
        last_lines: vec!["no such option: --x".to_owned()],
    };
    world.runtime.fail_next(Call::Deploy, failed);
    let run = world.manager().run(request("echo"), until_ready()).await;
    let error = run.unwrap_err().to_string();
    assert_eq!(error, "workload \"echo\" failed to start: exited with code 3");
    assert_failed(&world, "echo", "exited with code 3").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_an_error() {
    let world = World::on(MemoryRuntime::new().with_server(|mut server| async move {
        while server.next_line().await.is_some() {}
        0
    }));
    let manager = world.manager();
    let options = RunOptions {
        wait: WaitFor::Ready(Duration::from_secs(3600)),
        ..RunOptions::default()
    };
    let error = manager.run(request("echo"), options).await.unwrap_err();
    assert!(matches!(error, Error::StartFailed { .. }), "{error}");
    assert_failed(&world, "echo", "initialize").await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_answer_is_an_error() {
    // The memory runtime's default server sends each line back.
    let world = World::on(MemoryRuntime::new());
    let options = RunOptions {
        wait: WaitFor::Ready(Duration::from_secs(3600)),
        ..RunOptions::default()
    };
    let error = world.manager().run(request("echo"), options).await.unwrap_err();
    assert!(matches!(error, Error::StartFailed { .. }), "{error}");
    assert_failed(&world, "echo", "").await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_leaves_nothing_at_all() {
    let world = World::on(
        MemoryRuntime::new()
            .with_server(mcp_server)
            .with_images(["example.test/other:1"]),
    );
    let error = world
        .manager()
        .run(request("echo"), until_ready())
        .await
        .unwrap_err();
    assert!(error.to_string().contains(IMAGE), "{error}");
    world.assert_nothing_of(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_deployment_is_final_before_it_was_ever_ready() {
    let world = World::new();
    world.runtime.fail_next(Call::Deploy, refused());
    let error = world
        .manager()
        .run(request("echo"), until_ready())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::StartFailed { .. }), "{error}");
    assert_failed(&world, "echo", "not today").await;
    assert_eq!(world.runtime.calls(Call::Deploy), 1);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_not_up_yet_is_waited_for() {
    let world = World::new();
    world.runtime.set_down(true);
    let manager = world.manager();
    let outcome = manager.run(request("echo"), RunOptions::default()).await.unwrap();
    assert!(!outcome.ready, "the launch window is over, and it goes on");
    let (status, context) = world.status_of(&name("echo")).await;
    assert_eq!(status, WorkloadStatus::Starting);
    assert!(context.contains("set down"), "{context}");
    world.runtime.set_down(false);
    world.until(&name("echo"), WorkloadStatus::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_is_on_the_same_port_with_a_new_claim() {
    let world = World::new();
    let manager = world.manager();
    let first = run(&manager, "echo").await;
    let claim = world.companion(&name("echo")).await.claim;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    let second = manager.start(&name("echo"), start_until_ready()).await.unwrap();
    assert_eq!(
        (second.url, second.ready, second.already_running),
        (first.url, true, false)
    );
    let companion = world.companion(&name("echo")).await;
    assert_ne!(companion.claim, claim);
    assert_eq!((companion.desired, companion.pending), (Desired::Running, None));
}

#[tokio::test(start_paused = true)]
async fn a_start_of_what_runs_does_nothing() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    let before = world.companion(&name("echo")).await;
    let outcome = manager
        .start(&name("echo"), StartOptions::default())
        .await
        .unwrap();
    assert!(outcome.already_running && outcome.ready);
    assert_eq!(world.companion(&name("echo")).await, before);
    assert_eq!(world.runtime.calls(Call::Deploy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_of_nothing_is_not_found() {
    let world = World::new();
    let error = world
        .manager()
        .start(&name("echo"), StartOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    world.assert_nothing_of(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_port_fails_before_anything_is_saved() {
    let world = World::new();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut request = request("echo");
    request.proxy_port = Some(busy.local_addr().unwrap().port());
    let error = world.manager().run(request, until_ready()).await.unwrap_err();
    assert!(matches!(error, Error::PortTaken { .. }), "{error}");
    world.assert_nothing_of(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_port_fails_a_start_and_changes_nothing() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    let before = world.companion(&name("echo")).await;
    let port = world.config(&name("echo")).await.unwrap().port;
    let _busy = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let error = manager
        .start(&name("echo"), StartOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PortTaken { .. }), "{error}");
    assert_eq!(world.companion(&name("echo")).await, before);
    assert_eq!(world.owner(&name("echo")).await, OwnerState::Dead);
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_fails_before_anything_is_saved_and_is_named() {
    let world = World::new();
    let mut request = request("echo");
    request.secrets = vec!["token,target=TOKEN".into()];
    let error = world
        .manager()
        .run(request.clone(), until_ready())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Secret { secret, .. } if secret == "token"),
        "{error}"
    );
    // A program can tell it from a password that is wrong, or a keyring that is away.
    assert_eq!(error.code(), "secret_not_found");
    world.assert_nothing_of(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_reaches_the_server_and_no_file() {
    const VALUE: &str = "s3cret-value";
    let (seen, mut got) = tokio::sync::mpsc::channel(1);
    let runtime = MemoryRuntime::new().with_server(move |server| {
        let seen = seen.clone();
        async move {
            let _ = seen.send(server.env.get("TOKEN").cloned()).await;
            mcp_server(server).await
        }
    });
    let world = World::on(runtime);
    let env = thv_core::Env::from_vars([("TOOLHIVE_SECRET_token", VALUE)]);
    let manager = world.builder(APP).env(env).build().unwrap();
    let mut request = request("echo");
    request.secrets = vec!["token,target=TOKEN".into()];
    manager.run(request, until_ready()).await.unwrap();
    assert_eq!(got.recv().await.flatten().as_deref(), Some(VALUE));
    let config = world.config(&name("echo")).await.unwrap().to_json();
    let snapshot = world.snapshot(&name("echo")).await;
    let instance = world.instance(&name("echo")).await.unwrap();
    for text in [
        config,
        serde_json::to_string(&snapshot.companion).unwrap(),
        format!("{snapshot:?} {instance:?}"),
    ] {
        assert!(!text.contains(VALUE), "{text}");
    }
}
