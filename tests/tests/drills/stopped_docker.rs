//! Drill: stopped means stopped on a container engine too. After exit 0 nothing of ours lives, the port can be bound, and the
//! container is down with all that stands around it: there is nobody left who could revive it.

use thv::core::{Workload, WorkloadStatus};
use thv::runtime::InstanceState;
use thv_tests::{Docker, Machine, WAIT, eventually};

use crate::drill::isolated::{containers, isolating};
use crate::drill::{kill_9, proxy_pid, run, status_file, written};

/// An isolated workload that runs; what to do to it before it is stopped.
struct Running {
    docker: Docker,
    machine: Machine,
    name: String,
    workload: Workload,
}

impl Running {
    /// `None`: skip.
    async fn new(stem: &str, transport: &str) -> Option<Self> {
        let (docker, machine) = isolating().await?;
        let name = machine.name(stem);
        let with = ["--transport", transport, "--isolate-network"];
        let workload = run(&machine, &name, docker.image(), &with).await;
        // An engine's list lags behind its answers.
        eventually(WAIT, "it and its two helpers", async || {
            (up(&docker, &name).await.len() == 3).then_some(())
        })
        .await;
        Some(Self {
            docker,
            machine,
            name,
            workload,
        })
    }

    async fn ends_with_a_stop(self) {
        let Self {
            docker,
            machine,
            name,
            workload,
        } = self;
        machine.thv(["stop", &name]).await.ok();
        is_down(&docker, &machine, &name, &workload).await;
        // It is the same workload afterwards.
        machine.thv(["start", &name, "--wait=1m"]).await.ok();
        let again = machine.workload(&name).await;
        assert_eq!(
            (again.status, again.port),
            (WorkloadStatus::Running, workload.port)
        );
        machine.thv(["rm", &name]).await.ok();
        machine.assert_nothing_lives(&[workload.port]);
        docker.assert_gone(&name).await;
    }
}

/// The containers of a workload that run.
async fn up(docker: &Docker, name: &str) -> Vec<String> {
    let all = containers(docker, name).await;
    let up = all.into_iter().filter(|(_, state)| state == "running");
    up.map(|(name, _)| name).collect()
}

async fn is_down(docker: &Docker, machine: &Machine, name: &str, workload: &Workload) {
    machine.assert_nothing_lives(&[workload.port]);
    assert_eq!(machine.workload(name).await.status, WorkloadStatus::Stopped);
    let instance = docker.instance(name).await;
    assert!(
        instance.is_none_or(|instance| instance.state == InstanceState::Stopped),
        "it runs"
    );
    eventually(WAIT, "the end of all of it", async || {
        up(docker, name).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stop_with_the_status_file_deleted_stops_the_container() {
    let Some(running) = Running::new("forgotten", "stdio").await else {
        return;
    };
    std::fs::remove_file(status_file(&running.machine, &running.name)).expect("it was there");
    running.ends_with_a_stop().await;
}

#[tokio::test]
async fn a_stop_after_the_container_was_removed_by_hand_stops_its_helpers() {
    let Some(running) = Running::new("removed", "streamable-http").await else {
        return;
    };
    running.docker.remove(&running.name).await;
    running.ends_with_a_stop().await;
}

/// Nobody is there who would notice.
#[tokio::test]
async fn a_stop_after_proxy_and_container_went_stops_the_helpers() {
    let Some(running) = Running::new("orphaned", "streamable-http").await else {
        return;
    };
    kill_9(proxy_pid(&running.machine, &running.name).await);
    running.docker.remove(&running.name).await;
    running.ends_with_a_stop().await;
}

#[tokio::test]
async fn a_stop_ends_the_sleep_between_two_containers() {
    let Some(running) = Running::new("asleep", "stdio").await else {
        return;
    };
    let kill = format!("/containers/{}/kill", running.name);
    assert!(running.docker.post(&kill).await.contains(" 204 "));
    eventually(WAIT, "its supervisor sleeps", async || {
        (written(&running.machine, &running.name)?["status"] == "starting").then_some(())
    })
    .await;
    running.ends_with_a_stop().await;
}

#[tokio::test]
async fn a_stop_of_a_container_whose_proxy_was_killed_stops_it() {
    let Some(running) = Running::new("unhealthy", "streamable-http").await else {
        return;
    };
    kill_9(proxy_pid(&running.machine, &running.name).await);
    eventually(WAIT, "that its proxy is missed", async || {
        let seen = running.machine.workload(&running.name).await.status;
        (seen == WorkloadStatus::Unhealthy).then_some(())
    })
    .await;
    running.ends_with_a_stop().await;
}

#[tokio::test]
async fn a_stop_of_a_container_that_never_gets_ready_stops_it() {
    let Some((docker, machine)) = isolating().await else {
        return;
    };
    let name = machine.name("starting");
    let run = ["run", docker.image(), "--name", &name, "--transport", "stdio"];
    let rest = ["--isolate-network", "--no-wait", "--", "--no-answer"];
    machine.thv(run.iter().chain(&rest)).await.ok();
    eventually(WAIT, "its container", async || {
        (up(&docker, &name).await.len() == 3).then_some(())
    })
    .await;
    let workload = machine.workload(&name).await;
    assert_eq!(workload.status, WorkloadStatus::Starting);
    machine.thv(["stop", &name]).await.ok();
    is_down(&docker, &machine, &name, &workload).await;
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}
