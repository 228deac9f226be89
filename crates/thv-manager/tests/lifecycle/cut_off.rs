//! A process killed at any step of a verb: nothing is lost, nothing is left, and the next verb goes on from there.

use std::future::Future;

use thv_core::WorkloadStatus;
use thv_manager::{Error, Manager, StopOptions};
use thv_state::StateStoreExt;
use thv_status::{Desired, INTERRUPTED};

use crate::mortal::Life;
use crate::support::*;

/// Each step of a verb, on a world of its own.
struct Step {
    number: usize,
    world: World,
    /// Whether the process died before its verb was done.
    cut_off: bool,
}

/// Kills the process of `verb` at each of its steps in turn, and gives what it leaves to `check`.
async fn at_each_step<P, V, VF, C, CF>(prepare: P, verb: V, check: C)
where
    P: AsyncFn(&World),
    V: Fn(Manager) -> VF,
    VF: Future<Output = ()>,
    C: Fn(Step) -> CF,
    CF: Future<Output = ()>,
{
    for number in 0..200 {
        let world = World::new();
        prepare(&world).await;
        let life = Life::of(number);
        life.live(&world, &verb).await;
        let cut_off = life.is_over();
        assert!(world.snapshot(&name("echo")).await.damage.is_none());
        check(Step {
            number,
            world,
            cut_off,
        })
        .await;
        if !cut_off {
            assert!(number > 3, "there are steps");
            return;
        }
    }
    panic!("the verb has no end");
}

async fn nothing(_: &World) {}

/// A workload whose application was killed.
async fn orphaned(world: &World) {
    let manager = world.manager();
    run(&manager, "echo").await;
    drop(manager);
    world.until_unowned(&name("echo")).await;
}

async fn stopped(world: &World) {
    let manager = world.manager();
    run(&manager, "echo").await;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
}

async fn run_verb(manager: Manager) {
    run(&manager, "echo").await;
}

async fn start_verb(manager: Manager) {
    manager.start(&name("echo"), start_until_ready()).await.unwrap();
}

async fn stop_verb(manager: Manager) {
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
}

async fn delete_verb(manager: Manager) {
    manager
        .delete(&name("echo"), StopOptions::default())
        .await
        .unwrap();
}

/// Runs it, stops it and deletes it in this very process.
async fn whole_life(manager: Manager) {
    run(&manager, "echo").await;
    stop_verb(manager.clone()).await;
    start_verb(manager.clone()).await;
    delete_verb(manager).await;
}

/// What reconcile made of it: it runs and may be used, it is stopped, or it does not exist.
async fn assert_converged(world: &World, number: usize) {
    let manager = world.manager();
    for reconciled in manager.reconcile(start_until_ready()).await.unwrap() {
        let failed = matches!(reconciled.action, thv_manager::ReconcileAction::Failed(_));
        assert!(!failed, "step {number}: {reconciled:?}");
    }
    let snapshot = world.snapshot(&name("echo")).await;
    let Some(companion) = &snapshot.companion else {
        return world.assert_nothing_of(&name("echo")).await;
    };
    assert_eq!(companion.pending, None, "step {number}");
    assert!(
        world.config(&name("echo")).await.is_some(),
        "step {number}: {snapshot:?}"
    );
    match snapshot.desired() {
        Desired::Running => {
            let status = world.status_of(&name("echo")).await;
            assert_eq!(status.0, WorkloadStatus::Running, "step {number}: {status:?}");
            assert!(world.runs(&name("echo")).await, "step {number}");
        }
        Desired::Stopped => world.assert_stopped(&name("echo")).await,
    }
    let again = manager.reconcile(start_until_ready()).await.unwrap();
    assert!(again.is_empty(), "step {number}: {again:?}");
    manager
        .delete(&name("echo"), StopOptions::default())
        .await
        .unwrap();
    world.assert_nothing_of(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn run_killed_at_any_step_is_reconciled() {
    at_each_step(nothing, run_verb, async |step: Step| {
        let existed = world_has_config(&step.world).await;
        assert_converged(&step.world, step.number).await;
        assert!(existed || step.cut_off);
    })
    .await;
}

async fn world_has_config(world: &World) -> bool {
    world.config(&name("echo")).await.is_some()
}

#[tokio::test(start_paused = true)]
async fn run_killed_at_any_step_is_run_or_started_again() {
    at_each_step(nothing, run_verb, async |step: Step| {
        let manager = step.world.manager();
        let was_ready = step
            .world
            .snapshot(&name("echo"))
            .await
            .companion
            .is_some_and(|companion| companion.ready.is_some());
        match manager.run(request("echo"), until_ready()).await {
            Ok(outcome) => assert!(outcome.ready && !was_ready, "step {}", step.number),
            Err(Error::AlreadyExists { .. }) => {
                assert!(was_ready, "step {}: it never served", step.number);
                let outcome = manager.start(&name("echo"), start_until_ready()).await.unwrap();
                assert!(outcome.ready);
            }
            Err(error) => panic!("step {}: {error}", step.number),
        }
        manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
        step.world.assert_stopped(&name("echo")).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn run_killed_after_its_commit_says_that_it_was_interrupted() {
    at_each_step(nothing, run_verb, async |step: Step| {
        let snapshot = step.world.snapshot(&name("echo")).await;
        let launching = snapshot
            .companion
            .is_some_and(|companion| companion.pending.is_some());
        let committed = world_has_config(&step.world).await;
        // Any verb finishes what was begun, whatever it does itself.
        let manager = step.world.manager_of("com.example.other");
        let _elsewhere = manager.reconcile(start_until_ready()).await.unwrap();
        if !committed {
            step.world.assert_nothing_of(&name("echo")).await;
        } else if launching {
            let (status, context) = step.world.status_of(&name("echo")).await;
            assert_eq!(
                (status, context.as_str()),
                (WorkloadStatus::Error, INTERRUPTED),
                "step {}",
                step.number
            );
            assert_eq!(
                step.world.snapshot(&name("echo")).await.desired(),
                Desired::Running
            );
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn run_killed_at_any_step_is_deleted() {
    at_each_step(nothing, run_verb, async |step: Step| {
        delete_verb(step.world.manager()).await;
        step.world.assert_nothing_of(&name("echo")).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn start_killed_at_any_step_is_reconciled() {
    at_each_step(stopped, start_verb, async |step: Step| {
        assert_converged(&step.world, step.number).await;
    })
    .await;
    at_each_step(orphaned, start_verb, async |step: Step| {
        assert_converged(&step.world, step.number).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn start_killed_at_any_step_is_started_and_stopped_again() {
    at_each_step(stopped, start_verb, async |step: Step| {
        let manager = step.world.manager();
        let outcome = manager.start(&name("echo"), start_until_ready()).await.unwrap();
        assert!(outcome.ready, "step {}", step.number);
        stop_verb(manager).await;
        step.world.assert_stopped(&name("echo")).await;
    })
    .await;
    at_each_step(stopped, start_verb, async |step: Step| {
        stop_verb(step.world.manager()).await;
        step.world.assert_stopped(&name("echo")).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn stop_killed_at_any_step_is_reconciled() {
    at_each_step(orphaned, stop_verb, async |step: Step| {
        assert_converged(&step.world, step.number).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn stop_killed_at_any_step_is_stopped_or_started_again() {
    at_each_step(orphaned, stop_verb, async |step: Step| {
        stop_verb(step.world.manager()).await;
        step.world.assert_stopped(&name("echo")).await;
    })
    .await;
    at_each_step(orphaned, stop_verb, async |step: Step| {
        let outcome = step
            .world
            .manager()
            .start(&name("echo"), start_until_ready())
            .await;
        assert!(outcome.unwrap().ready, "step {}", step.number);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn delete_killed_at_any_step_is_reconciled() {
    for prepare in [true, false] {
        at_each_step(
            async |world: &World| {
                if prepare {
                    orphaned(world).await;
                } else {
                    stopped(world).await;
                }
            },
            delete_verb,
            async |step: Step| assert_converged(&step.world, step.number).await,
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn delete_killed_at_any_step_is_finished_by_the_next_verb() {
    at_each_step(orphaned, delete_verb, async |step: Step| {
        delete_verb(step.world.manager()).await;
        step.world.assert_nothing_of(&name("echo")).await;
    })
    .await;
    at_each_step(orphaned, delete_verb, async |step: Step| {
        let manager = step.world.manager();
        let removing = step
            .world
            .snapshot(&name("echo"))
            .await
            .companion
            .is_none_or(|companion| companion.pending.is_some());
        let stopped = manager.stop(&name("echo"), StopOptions::default()).await;
        if removing {
            assert!(
                matches!(stopped, Err(Error::NotFound { .. })),
                "step {}: {stopped:?}",
                step.number
            );
            step.world.assert_nothing_of(&name("echo")).await;
        } else {
            step.world.assert_stopped(&name("echo")).await;
        }
    })
    .await;
    at_each_step(orphaned, delete_verb, async |step: Step| {
        // Its supervisor died with the first owner: what is in the way is the name, or nothing.
        let outcome = step.world.manager().run(request("echo"), replacing()).await;
        assert!(outcome.unwrap().ready, "step {}", step.number);
    })
    .await;
}

/// The new workload of another program under a name whose deletion was cut off is untouched.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_was_cut_off_spares_what_toolhive_made_since() {
    for status in [WorkloadStatus::Starting, WorkloadStatus::Stopped] {
        spares_what_toolhive_made(status).await;
    }
}

async fn spares_what_toolhive_made(status: WorkloadStatus) {
    at_each_step(orphaned, delete_verb, async |step: Step| {
        let world = &step.world;
        let mut config = if let Some(config) = world.config(&name("echo")).await {
            config
        } else {
            let other = World::new();
            run(&other.manager(), "echo").await;
            other.config(&name("echo")).await.unwrap()
        };
        config.cmd_args = vec!["--made-by-another-program".into()];
        world
            .state
            .write_run_config(&name("echo"), &config)
            .await
            .unwrap();
        world.toolhive_writes(&name("echo"), status, 0);
        world
            .manager_of("com.example.other")
            .reconcile(start_until_ready())
            .await
            .unwrap();
        assert_eq!(
            world.config(&name("echo")).await,
            Some(config),
            "step {}",
            step.number
        );
        assert!(
            world.snapshot(&name("echo")).await.status.is_some(),
            "step {}",
            step.number
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_replacement_killed_at_any_step_leaves_the_old_or_the_new() {
    let verb = async |manager: Manager| {
        let mut other = request("echo");
        other.args = vec!["--new".into()];
        manager.run(other, replacing()).await.unwrap();
    };
    at_each_step(orphaned, verb, async |step: Step| {
        let config = step
            .world
            .config(&name("echo"))
            .await
            .expect("there is no moment without it");
        let companion = step.world.companion(&name("echo")).await;
        if config.cmd_args.is_empty() {
            assert!(
                companion.ready.is_some(),
                "the old one's record: step {}",
                step.number
            );
        }
        let manager = step.world.manager();
        manager.reconcile(start_until_ready()).await.unwrap();
        assert_eq!(
            step.world.config(&name("echo")).await,
            Some(config),
            "step {}",
            step.number
        );
        let outcome = manager.start(&name("echo"), start_until_ready()).await.unwrap();
        assert!(outcome.ready, "step {}", step.number);
        assert_eq!(step.world.companion(&name("echo")).await.pending, None);
        delete_verb(manager).await;
        step.world.assert_nothing_of(&name("echo")).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_life_killed_at_any_step_is_reconciled() {
    at_each_step(nothing, whole_life, async |step: Step| {
        assert_converged(&step.world, step.number).await;
    })
    .await;
}
