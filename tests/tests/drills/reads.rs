//! Drill: `list` and `status` write nothing, whatever they find.

use std::fs;

use thv::core::WorkloadStatus;
use thv_tests::{Machine, docker};

use crate::drill::{
    assert_same, exec, files_of, kill_9, proxy_pid, run, run_echo, status_file, toolhive_writes,
};

/// All that only looks, on everything that is there.
async fn look(machine: &Machine, names: &[&str]) {
    machine.thv(["list"]).await.ok();
    machine.thv(["list", "--all"]).await.ok();
    machine.thv(["list", "--all", "--format", "json"]).await.ok();
    for name in names {
        machine.thv(["status", name]).await.ok();
        machine.thv(["status", name, "--format", "json"]).await.ok();
    }
    machine.thv(["status", "never-heard-of"]).await.failed();
}

async fn changes_nothing(machine: &Machine, names: &[&str]) {
    let before = files_of(machine);
    look(machine, names).await;
    assert_same(&before, &files_of(machine));
}

#[tokio::test]
async fn looking_at_an_empty_machine_creates_nothing() {
    let machine = Machine::new();
    look(&machine, &[]).await;
    let dirs = machine.dirs();
    assert!(!dirs.state.exists() && !dirs.data.exists() && !dirs.config.exists());
}

#[tokio::test]
async fn looking_changes_nothing_on_disk() {
    let machine = Machine::new();
    let [running, dead, stopped, damaged, migrated, orphan, foreign] = [
        "running", "dead", "stopped", "damaged", "migrated", "orphan", "foreign",
    ]
    .map(|stem| machine.name(stem));
    for name in [&running, &dead, &stopped, &damaged, &foreign] {
        run_echo(&machine, name).await;
    }
    machine.thv(["stop", &stopped]).await.ok();
    kill_9(proxy_pid(&machine, &dead).await);
    // What ToolHive would repair, migrate or mark while it lists.
    let text = fs::read_to_string(status_file(&machine, &damaged)).expect("a status file");
    fs::write(status_file(&machine, &damaged), format!("{text}}}}}")).expect("written");
    toolhive_writes(&machine, &migrated, "running", 0);
    fs::create_dir_all(machine.dirs().pids()).expect("a folder");
    fs::write(
        machine.dirs().pids().join(format!("toolhive-{migrated}.pid")),
        "1",
    )
    .expect("written");
    toolhive_writes(&machine, &orphan, "running", 1);
    toolhive_writes(&machine, &foreign, "unhealthy", 1);

    let names = [&running, &dead, &stopped, &damaged, &migrated, &orphan, &foreign];
    changes_nothing(&machine, &names.map(String::as_str)).await;
    assert_eq!(machine.workload(&running).await.status, WorkloadStatus::Running);
    assert_eq!(
        machine.workload(&damaged).await.status,
        WorkloadStatus::Running,
        "it was repaired in memory"
    );
    assert_ne!(machine.workload(&dead).await.status, WorkloadStatus::Running);
}

#[tokio::test]
async fn looking_while_the_engine_is_down_changes_nothing() {
    let Some(docker) = docker().await else { return };
    let mut machine = Machine::with_docker(&docker);
    let [up, dead, local] = ["up", "dead", "local"].map(|stem| machine.name(stem));
    run(&machine, &up, docker.image(), &["--transport", "stdio"]).await;
    run(&machine, &dead, docker.image(), &["--transport", "stdio"]).await;
    run(&machine, &local, &exec(), &["--transport", "stdio"]).await;
    kill_9(proxy_pid(&machine, &dead).await);
    changes_nothing(&machine, &[&up, &dead, &local]).await;

    let nowhere = format!("unix://{}", machine.folder().join("no-engine.sock").display());
    machine.set("DOCKER_HOST", nowhere);
    changes_nothing(&machine, &[&up, &dead, &local]).await;
    assert_eq!(
        machine.workload(&local).await.status,
        WorkloadStatus::Running,
        "it needs no engine"
    );
    let unseen = machine.workload(&dead).await;
    assert_ne!(unseen.status, WorkloadStatus::Running, "{unseen:?}");

    machine.set("DOCKER_HOST", docker.host());
    changes_nothing(&machine, &[&up, &dead, &local]).await;
    assert_eq!(machine.workload(&up).await.status, WorkloadStatus::Running);
}
