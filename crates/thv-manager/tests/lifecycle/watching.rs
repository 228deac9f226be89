//! What those hear who watch.

use futures_util::StreamExt;
use thv_core::WorkloadStatus;
use thv_manager::{StopOptions, Watch, WatchEvent, WatchFrom, Watched};
use thv_process::{Exit, MemoryProcess};
use thv_status::{Authority, Operation, Owner, OwnerKind, StatusManager};

use crate::support::*;

/// The next event in words.
async fn next(watch: &mut Watch) -> (String, Watched) {
    let next = tokio::time::timeout(std::time::Duration::from_secs(60), watch.next());
    let watched = next.await.unwrap().unwrap();
    let text = match &watched.event {
        WatchEvent::Changed(state) => format!("{} {}", state.name, state.status),
        WatchEvent::Removed(name) => format!("{name} gone"),
        WatchEvent::Gap => "gap".into(),
        WatchEvent::Synced => "synced".into(),
        other => format!("{other:?}"),
    };
    (text, watched)
}

/// Hears until `text` comes.
async fn until(watch: &mut Watch, text: &str) -> Watched {
    loop {
        let (heard, watched) = next(watch).await;
        if heard == text {
            return watched;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_watches_hears_this_manager_others_and_toolhive_and_goes_on_by_a_cursor() {
    let world = World::new();
    let (here, there) = (world.manager(), world.manager_of("com.example.other"));
    run(&there, "old").await;
    let mut watch = here.watch(WatchFrom::Beginning).await.unwrap();
    assert_eq!(next(&mut watch).await.0, "old running");
    assert_eq!(next(&mut watch).await.0, "synced");

    run(&here, "mine").await;
    until(&mut watch, "mine running").await;
    run(&there, "theirs").await;
    until(&mut watch, "theirs running").await;
    there.stop(&name("theirs"), StopOptions::default()).await.unwrap();
    let stopped = until(&mut watch, "theirs stopped").await;
    world.toolhive_writes(&name("toolhives"), WorkloadStatus::Stopped, 0);
    until(&mut watch, "toolhives stopped").await;
    drop(watch);

    there
        .delete(&name("theirs"), StopOptions::default())
        .await
        .unwrap();
    let mut watch = here
        .watch(WatchFrom::Since(stopped.cursor.clone()))
        .await
        .unwrap();
    let mut heard = Vec::new();
    loop {
        let (text, watched) = next(&mut watch).await;
        if watched.event == WatchEvent::Synced {
            break;
        }
        heard.push(text);
    }
    assert!(heard.contains(&"toolhives stopped".to_owned()), "{heard:?}");
    assert!(
        !heard.contains(&"old running".to_owned()),
        "it did not change: {heard:?}"
    );
    if !heard.contains(&"theirs gone".to_owned()) {
        until(&mut watch, "theirs gone").await;
    }

    // Another manager has another history.
    let mut elsewhere = there.watch(WatchFrom::Since(stopped.cursor)).await.unwrap();
    assert_eq!(next(&mut elsewhere).await.0, "gap");
    until(&mut elsewhere, "synced").await;
}

#[tokio::test(start_paused = true)]
async fn the_death_of_a_proxy_in_another_process_is_heard() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    // Another process supervises it.
    let proxy = world.processes.add(MemoryProcess::new("/bin/thv"));
    let owner = world.status.acquire_owner(&name("echo")).await.unwrap();
    let op = world
        .status
        .lock_op(&name("echo"), Operation::Start, std::time::Duration::ZERO)
        .await
        .unwrap();
    let recorded = Owner {
        kind: OwnerKind::Detached,
        identity: proxy.clone(),
        ending: false,
    };
    world
        .status
        .update(
            &name("echo"),
            Authority::Verb(&op),
            Box::new(move |draft| {
                draft.companion.owner = Some(recorded);
                draft.companion.desired = thv_status::Desired::Running;
                draft.set_status(WorkloadStatus::Starting, "");
                draft.set_status(WorkloadStatus::Running, "");
            }),
        )
        .await
        .unwrap();
    let mut watch = manager.watch(WatchFrom::Beginning).await.unwrap();
    assert_eq!(next(&mut watch).await.0, "echo running");
    assert_eq!(next(&mut watch).await.0, "synced");
    // No file says that it was killed.
    drop(owner);
    world.processes.exit(proxy.pid, Exit::Signal(9));
    assert_eq!(next(&mut watch).await.0, "echo unhealthy");
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_its_manager() {
    let world = World::new();
    let manager = world.manager();
    let mut watch = manager.watch(WatchFrom::Now).await.unwrap();
    assert_eq!(next(&mut watch).await.0, "synced");
    drop(manager);
    assert!(watch.next().await.is_none());
}
