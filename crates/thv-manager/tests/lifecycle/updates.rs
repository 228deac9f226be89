//! `update`: one rename, and back where that was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thv_core::{GroupName, RunConfig, WorkloadStatus};
use thv_manager::{Error, Manager, RollbackPolicy, StopOptions, UpdateOptions};
use thv_runtime::{MemoryRuntime, MemoryServer};
use thv_state::{DocumentKind, StateStore};

use crate::mortal::Life;
use crate::support::*;

fn back() -> UpdateOptions {
    UpdateOptions {
        ready_within: Duration::from_secs(30),
        rollback: RollbackPolicy::OnFailure,
        ..UpdateOptions::default()
    }
}

/// A server that serves unless it is started with `--broken`, and never answers with `--mute`.
async fn picky_server(server: MemoryServer) -> i64 {
    let has = |arg: &str| server.command.iter().any(|given| given == arg);
    if has("--broken") {
        return 3;
    }
    if has("--mute") {
        server.term.cancelled().await;
        return 143;
    }
    mcp_server(server).await
}

fn world() -> World {
    World::on(MemoryRuntime::new().with_server(picky_server))
}

async fn with_args(world: &World, args: &[&str]) -> RunConfig {
    let mut config = world.config(&name("echo")).await.unwrap();
    config.cmd_args = args.iter().map(|&arg| arg.to_owned()).collect();
    config
}

async fn bytes(world: &World) -> Vec<u8> {
    let document = (&name("echo")).into();
    let read = world.state.read(DocumentKind::RunConfig, &document).await;
    read.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_update_keeps_the_port_and_serves_the_new_configuration() {
    let world = world();
    let manager = world.manager();
    let url = run(&manager, "echo").await.url;
    let mut config = with_args(&world, &["--new"]).await;
    config.port = 0;
    let outcome = manager.update(config, UpdateOptions::default()).await.unwrap();
    assert!(outcome.ready);
    assert_eq!(outcome.url, url);
    assert_eq!(world.config(&name("echo")).await.unwrap().cmd_args, ["--new"]);
    assert_eq!(world.companion(&name("echo")).await.pending, None);
}

#[tokio::test(start_paused = true)]
async fn what_an_update_refuses_leaves_everything_as_it_was() {
    let world = world();
    let manager = world.manager();
    run(&manager, "echo").await;
    let before = (world.companion(&name("echo")).await, bytes(&world).await);
    let mut config = with_args(&world, &[]).await;
    config.group = "unknown".into();
    let refused = manager.update(config, back()).await;
    assert!(matches!(refused, Err(Error::GroupNotFound { .. })), "{refused:?}");
    assert_eq!(
        (world.companion(&name("echo")).await, bytes(&world).await),
        before
    );
    assert!(world.runs(&name("echo")).await);
    let mut config = with_args(&world, &[]).await;
    config.base_name = "other".into();
    config.container_name = "other".into();
    let refused = manager.update(config, back()).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_fails_stands_unless_the_old_one_is_wanted_back() {
    for (fault, says) in [("--broken", "code 3"), ("--mute", "30")] {
        let world = world();
        let manager = world.manager();
        run(&manager, "echo").await;
        let old = bytes(&world).await;
        let ready = world.companion(&name("echo")).await.ready;
        let config = with_args(&world, &[fault]).await;
        let failed = manager.update(config, back()).await.unwrap_err();
        assert_eq!(failed.code(), "update_failed");
        let text = failed.to_string();
        assert!(text.contains(says) && text.contains("serves again"), "{text}");
        assert!(!text.contains("failed to start"), "said twice: {text}");
        assert_eq!(bytes(&world).await, old, "byte for byte");
        let companion = world.companion(&name("echo")).await;
        assert_eq!((companion.ready, companion.previous), (ready, None));
        assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Running);
        assert!(world.runs(&name("echo")).await);
    }
    let world = world();
    let manager = world.manager();
    run(&manager, "echo").await;
    let config = with_args(&world, &["--broken"]).await;
    let failed = manager.update(config, UpdateOptions::default()).await;
    assert!(matches!(failed, Err(Error::StartFailed { .. })), "{failed:?}");
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Error);
    assert_eq!(world.config(&name("echo")).await.unwrap().cmd_args, ["--broken"]);
}

/// The old configuration would bring its group along.
#[tokio::test(start_paused = true)]
async fn what_is_being_updated_does_not_move_to_another_group() {
    let world = world();
    let manager = world.manager();
    let team = GroupName::new("team").unwrap();
    manager.create_group(&team).await.unwrap();
    run(&manager, "echo").await;
    let config = with_args(&world, &["--mute"]).await;
    let moving = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        manager.move_to_group(&name("echo"), &team).await
    };
    let (updated, moved) = tokio::join!(manager.update(config, back()), moving);
    assert_eq!(updated.unwrap_err().code(), "update_failed");
    assert!(matches!(moved, Err(Error::Conflict { .. })), "{moved:?}");
    assert!(manager.move_to_group(&name("echo"), &team).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_old_image_is_kept_as_long_as_it_may_be_needed() {
    for (args, is_new) in [("--new", true), ("--mute", false)] {
        let world = world();
        let manager = world.manager();
        run(&manager, "echo").await;
        let config = with_args(&world, &[args]).await;
        let done = manager.update(config, back()).await;
        assert_eq!(done.is_ok(), is_new, "{args}");
        let images = world.runtime.memory_images();
        assert_eq!(images.times_kept(), 1, "{args}");
        assert!(eventually(|| async { images.kept().is_empty() }).await, "{args}");
        let kept = || async { world.companion(&name("echo")).await.image_kept_on.is_some() };
        assert!(eventually(|| async { !kept().await }).await, "{args}");
    }
    // Nobody goes back without being told to.
    let world = world();
    let manager = world.manager();
    run(&manager, "echo").await;
    let config = with_args(&world, &["--new"]).await;
    manager.update(config, UpdateOptions::default()).await.unwrap();
    assert_eq!(world.runtime.memory_images().times_kept(), 0);
}

#[tokio::test(start_paused = true)]
async fn both_reasons_are_told_when_the_old_one_does_not_serve_either() {
    let starts = Arc::new(AtomicUsize::new(0));
    let world = World::on(MemoryRuntime::new().with_server(move |server| {
        let started = starts.fetch_add(1, Ordering::Relaxed);
        async move {
            match started {
                0 => mcp_server(server).await,
                1 => 3,
                _ => 4,
            }
        }
    }));
    let manager = world.manager();
    run(&manager, "echo").await;
    let config = with_args(&world, &["--new"]).await;
    let failed = manager.update(config, back()).await.unwrap_err();
    assert_eq!(failed.code(), "update_rollback_failed");
    let text = failed.to_string();
    assert!(text.contains("code 3") && text.contains("code 4"), "{text}");
    assert!(world.config(&name("echo")).await.unwrap().cmd_args.is_empty());
}

/// Kills an update at each step; what stands afterwards is one of the two, and it serves.
async fn killed_at_any_step(fault: &'static str, options: UpdateOptions, may_be_new: bool) {
    for step in 0..300 {
        let world = world();
        let manager = world.manager();
        run(&manager, "echo").await;
        drop(manager);
        world.until_unowned(&name("echo")).await;
        let old = bytes(&world).await;
        let config = with_args(&world, &[fault]).await;
        let options = options.clone();
        let life = Life::of(step);
        life.live(&world, |manager: Manager| async move {
            let _ = Box::pin(manager.update(config, options)).await;
        })
        .await;
        let over = life.is_over();
        let manager = world.manager();
        manager.reconcile(start_until_ready()).await.unwrap();
        let now = bytes(&world).await;
        let is_new = now != old;
        assert!(
            !is_new || may_be_new,
            "step {step}: the new one stands and does not serve"
        );
        let companion = world.companion(&name("echo")).await;
        assert_eq!(
            (&companion.pending, &companion.previous),
            (&None, &None),
            "step {step}"
        );
        let outcome = manager.start(&name("echo"), start_until_ready()).await;
        assert!(outcome.unwrap().ready, "step {step}");
        let kept = || async { world.companion(&name("echo")).await.image_kept_on.is_some() };
        assert!(eventually(|| async { !kept().await }).await, "step {step}");
        let images = world.runtime.memory_images();
        assert!(images.kept().is_empty(), "step {step}: {:?}", images.kept());
        manager
            .delete(&name("echo"), StopOptions::default())
            .await
            .unwrap();
        world.assert_nothing_of(&name("echo")).await;
        if !over {
            assert!(step > 5);
            return;
        }
    }
    panic!("the verb has no end");
}

#[tokio::test(start_paused = true)]
async fn an_update_killed_at_any_step_leaves_the_old_or_the_new() {
    Box::pin(killed_at_any_step("--new", UpdateOptions::default(), true)).await;
    Box::pin(killed_at_any_step("--new", back(), true)).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_update_killed_at_any_step_ends_with_the_old_one() {
    Box::pin(killed_at_any_step("--broken", back(), false)).await;
}
