//! Groups, and workloads that change theirs.

use std::time::Duration;

use thv_core::{GroupName, WorkloadStatus};
use thv_manager::{DeletedGroup, Error, GroupMembers, ListOptions, Manager, RunRequest};
use thv_state::{DocumentKind, DocumentName, Keep, StateStore};

use crate::mortal::{Fault, Life};
use crate::support::{World, name, request, run, until_ready};

fn group(text: &str) -> GroupName {
    GroupName::new(text).unwrap()
}

/// Runs `name` in `group`.
async fn run_in(manager: &Manager, name: &str, group: &str) {
    let request = RunRequest {
        group: Some(group.into()),
        ..request(name)
    };
    assert!(manager.run(request, until_ready()).await.unwrap().ready);
}

async fn group_names(manager: &Manager) -> Vec<String> {
    let listed = manager.groups().await.unwrap();
    assert_eq!(listed.warnings, Vec::<String>::new());
    listed.groups.iter().map(|group| group.name.to_string()).collect()
}

#[tokio::test]
async fn a_group_is_created_once_in_toolhives_format() {
    let world = World::new();
    let manager = world.manager();
    assert_eq!(group_names(&manager).await, ["default"], "it always exists");
    manager.create_group(&group("team a")).await.unwrap();
    for taken in ["team a", "default"] {
        let error = manager.create_group(&group(taken)).await.unwrap_err();
        assert_eq!(error.code(), "group_exists", "{error}");
    }
    assert_eq!(group_names(&manager).await, ["default", "team a"]);
    let document = DocumentName::new("team a").unwrap();
    let file = world.state.read(DocumentKind::Group, &document);
    assert_eq!(
        String::from_utf8(file.await.unwrap().unwrap()).unwrap(),
        "{\n  \"name\": \"team a\",\n  \"registered_clients\": []\n}\n"
    );
}

#[tokio::test]
async fn a_damaged_group_is_a_warning_and_clients_are_shown() {
    let world = World::new();
    let manager = world.manager();
    for (name, text) in [
        ("bad", "{"),
        (
            "with-clients",
            r#"{"name":"with-clients","registered_clients":["cursor"]}"#,
        ),
        (
            "null-clients",
            r#"{"name":"null-clients","registered_clients":null}"#,
        ),
    ] {
        let document = DocumentName::new(name).unwrap();
        let written = world
            .state
            .replace(DocumentKind::Group, &document, text.into(), Keep::nothing());
        written.await.unwrap();
    }
    let listed = manager.groups().await.unwrap();
    let shown: Vec<_> = listed
        .groups
        .iter()
        .map(|group| (group.name.as_str(), group.registered_clients.len()))
        .collect();
    assert_eq!(shown, [("default", 0), ("null-clients", 0), ("with-clients", 1)]);
    assert!(
        listed.warnings[0].starts_with("group \"bad\" cannot be used: it ends too early"),
        "{listed:?}"
    );
}

#[tokio::test]
async fn a_workload_that_moves_runs_on_and_is_retried_as_before() {
    let world = World::new();
    let manager = world.manager();
    manager.create_group(&group("team")).await.unwrap();
    run(&manager, "a").await;
    let before = world.companion(&name("a")).await;
    assert!(manager.move_to_group(&name("a"), &group("team")).await.unwrap());
    assert!(!manager.move_to_group(&name("a"), &group("team")).await.unwrap());
    assert_eq!(world.config(&name("a")).await.unwrap().group, "team");
    let after = world.companion(&name("a")).await;
    assert_eq!(
        (after.claim, after.ready, after.instance),
        (before.claim, before.ready, before.instance)
    );
    assert_eq!(world.status_of(&name("a")).await.0, WorkloadStatus::Running);
    let options = ListOptions {
        group: Some("team".into()),
        ..ListOptions::default()
    };
    assert_eq!(manager.list(options).await.unwrap().workloads[0].name, "a");

    let error = manager
        .move_to_group(&name("a"), &group("nowhere"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::GroupNotFound { .. }), "{error}");
    let error = manager
        .move_to_group(&name("b"), &group("team"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(world.config(&name("a")).await.unwrap().group, "team");
}

#[tokio::test]
async fn the_workloads_of_a_deleted_group_go_to_default_and_run_on() {
    let world = World::new();
    let manager = world.manager();
    manager.create_group(&group("team")).await.unwrap();
    run_in(&manager, "a", "team").await;
    run(&manager, "b").await;
    let done = manager
        .delete_group(&group("team"), GroupMembers::Move)
        .await
        .unwrap();
    assert!(done.deleted);
    assert_eq!(done.workloads.len(), 1);
    assert_eq!(group_names(&manager).await, ["default"]);
    for workload in ["a", "b"] {
        assert_eq!(world.config(&name(workload)).await.unwrap().group, "default");
        assert!(world.runs(&name(workload)).await);
    }
    let again = manager.delete_group(&group("team"), GroupMembers::Move).await;
    assert!(matches!(again, Err(Error::GroupNotFound { .. })), "{again:?}");
    let default = manager.delete_group(&group("default"), GroupMembers::Move).await;
    assert!(matches!(default, Err(Error::Invalid { .. })), "{default:?}");
}

#[tokio::test]
async fn a_group_is_deleted_with_its_workloads_and_no_others() {
    let world = World::new();
    let manager = world.manager();
    manager.create_group(&group("team")).await.unwrap();
    run_in(&manager, "a", "team").await;
    run(&manager, "b").await;
    let done = manager
        .delete_group(&group("team"), GroupMembers::Delete)
        .await
        .unwrap();
    assert!(done.deleted);
    world.assert_nothing_of(&name("a")).await;
    assert!(world.runs(&name("b")).await);
    assert_eq!(group_names(&manager).await, ["default"]);
}

#[tokio::test]
async fn a_deletion_that_was_cut_off_is_done_again() {
    let world = World::new();
    let manager = world.manager();
    manager.create_group(&group("team")).await.unwrap();
    run_in(&manager, "a", "team").await;
    // As if another program had removed the file, and nothing else.
    let document = DocumentName::new("team").unwrap();
    let removed = world
        .state
        .delete(DocumentKind::Group, &document, Keep::nothing());
    removed.await.unwrap();
    let done = manager
        .delete_group(&group("team"), GroupMembers::Move)
        .await
        .unwrap();
    assert!(done.deleted);
    assert_eq!(world.config(&name("a")).await.unwrap().group, "default");
}

/// Deletes `team` while something else is held up for twice as long.
async fn delete_meanwhile(manager: &Manager) -> DeletedGroup {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let team = group("team");
    manager.delete_group(&team, GroupMembers::Move).await.unwrap()
}

/// At whatever point of a `run` its group is deleted, the workload ends in a group that is there.
#[tokio::test(start_paused = true)]
async fn a_group_that_is_deleted_during_a_run_has_no_workload() {
    let mut moved = 0;
    for point in 0..16 {
        let world = World::new();
        let other = world.manager();
        other.create_group(&group("team")).await.unwrap();
        let life = Life::with(Some((point, Fault::Delay(Duration::from_secs(10)))));
        let running = life.manager(&world);
        let (deleted, ()) = tokio::join!(delete_meanwhile(&other), run_in(&running, "echo", "team"));
        assert!(deleted.deleted, "{point}: {deleted:?}");
        assert!(
            deleted.workloads.iter().all(|one| one.result.is_ok()),
            "{point}: {deleted:?}"
        );
        let config = world.config(&name("echo")).await.unwrap();
        assert_eq!(config.group, "default", "{point}");
        assert!(world.runs(&name("echo")).await, "{point}");
        moved += deleted.workloads.len();
    }
    assert!(
        (1..16).contains(&moved),
        "some were found by who deleted the group, some were not: {moved}"
    );
}

/// At whatever point of a move its group is deleted, the workload ends in a group that is there.
#[tokio::test(start_paused = true)]
async fn a_group_that_is_deleted_during_a_move_has_no_workload() {
    let mut too_late = 0;
    for point in 0..6 {
        let world = World::new();
        let other = world.manager();
        other.create_group(&group("team")).await.unwrap();
        run(&other, "echo").await;
        let life = Life::with(Some((point, Fault::Delay(Duration::from_secs(10)))));
        let moving = life.manager(&world);
        let (echo, team) = (name("echo"), group("team"));
        let moving = moving.move_to_group(&echo, &team);
        let (deleted, moved) = tokio::join!(delete_meanwhile(&other), moving);
        assert!(deleted.deleted, "{point}: {deleted:?}");
        let config = world.config(&echo).await.unwrap();
        assert_eq!(config.group, "default", "{point}: {moved:?}");
        assert!(
            matches!(moved, Ok(true) | Err(Error::GroupNotFound { .. })),
            "{point}: {moved:?}"
        );
        too_late += usize::from(moved.is_err());
    }
    assert!(too_late > 0, "none came after the group was deleted");
}
