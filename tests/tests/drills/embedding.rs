//! Drill: an application with the manager in its own process, and the command line beside it.

use thv::core::WorkloadStatus;
use thv_tests::Machine;

use crate::drill::application::Application;
use crate::drill::{self, answers, kill_9, lives};

#[tokio::test]
async fn a_stop_by_another_process_stops_the_workload_and_the_application_hears_of_it() {
    let machine = Machine::new();
    let name = machine.name("embedded");
    let (mut application, _) = Application::up(&machine, &name).await;
    let workload = machine.workload(&name).await;
    assert_eq!(workload.status, WorkloadStatus::Running, "{workload:?}");
    answers(&workload).await;

    // After its grace `stop` would help itself: no command of a test takes so long.
    machine.thv(["stop", &name, "--timeout", "3600"]).await.ok();
    application.says(&format!("event {name} stopped")).await;
    assert!(
        lives(application.pid()),
        "it is not ToolHive's, nor ours, to kill"
    );
    assert_eq!(machine.processes(), [application.pid()], "its server is gone");
    let port = std::net::TcpListener::bind(("127.0.0.1", workload.port));
    assert!(port.is_ok(), "{port:?}");
    drop(port);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    application.close().await;
}

#[tokio::test]
async fn an_application_whose_async_runtime_ended_serves_nothing_and_can_be_taken_over() {
    let machine = Machine::new();
    let name = machine.name("closed");
    let (mut application, _) = Application::up(&machine, &name).await;
    let before = machine.workload(&name).await;
    application.close().await;
    let dead = machine.workload(&name).await;
    assert_ne!(dead.status, WorkloadStatus::Running, "{dead:?}");
    assert!(!dead.status_context.is_empty(), "no reason: {dead:?}");

    let refused = machine.thv(["start", &name]).await.failed();
    refused.says(["com.example.drill", "--take-over"]);
    machine
        .thv(["start", &name, "--take-over", "--wait=1m"])
        .await
        .ok();
    let after = machine.workload(&name).await;
    assert_eq!((after.status, after.port), (WorkloadStatus::Running, before.port));
    answers(&after).await;
    assert!(lives(application.pid()));
    machine.thv(["rm", &name]).await.ok();
    assert_eq!(machine.processes(), [application.pid()]);
}

#[tokio::test]
async fn all_that_an_application_left_can_be_taken_over_at_once() {
    let machine = Machine::new();
    let (theirs, ours) = (machine.name("theirs"), machine.name("ours"));
    let (mut application, _) = Application::up(&machine, &theirs).await;
    let port = machine.workload(&theirs).await.port;
    application.close().await;
    drill::run_echo(&machine, &ours).await;
    machine.thv(["stop", &ours]).await.ok();

    let left = machine.thv(["start", "--all", "--wait=1m"]).await.ok();
    left.says([theirs.as_str(), "is left out", "com.example.drill", "--take-over"]);
    assert_ne!(machine.workload(&theirs).await.status, WorkloadStatus::Running);
    assert_eq!(machine.workload(&ours).await.status, WorkloadStatus::Running);
    machine.thv(["stop", &ours]).await.ok();

    machine
        .thv(["start", "--all", "--take-over", "--wait=1m"])
        .await
        .ok();
    for name in [&theirs, &ours] {
        let workload = machine.workload(name).await;
        assert_eq!(workload.status, WorkloadStatus::Running, "{workload:?}");
        answers(&workload).await;
    }
    assert_eq!(machine.workload(&theirs).await.port, port);
    // It is ours to bring back from now on.
    kill_9(drill::proxy_pid(&machine, &theirs).await);
    let done = machine.thv(["reconcile"]).await.ok();
    done.says([format!("{theirs}: started").as_str()]);
    machine.thv(["rm", "--all"]).await.ok();
    assert_eq!(machine.processes(), [application.pid()]);
}

#[tokio::test]
async fn a_killed_application_brings_its_workload_back_itself() {
    let machine = Machine::new();
    let name = machine.name("killed");
    let (mut application, said) = Application::up(&machine, &name).await;
    assert!(
        !said.iter().any(|line| line.starts_with("reconciled")),
        "{said:?}"
    );
    let before = machine.workload(&name).await;
    kill_9(application.pid());
    application.process.wait().await.expect("it is a child");
    assert_ne!(machine.workload(&name).await.status, WorkloadStatus::Running);

    let reconciled = machine.thv(["reconcile"]).await.ok();
    reconciled.says([&*name, "com.example.drill"]);
    let left = machine.workload(&name).await;
    assert_ne!(
        left.status,
        WorkloadStatus::Running,
        "it is not ours to start: {left:?}"
    );

    let (_application, said) = Application::up(&machine, &name).await;
    assert!(said.contains(&format!("reconciled {name} Started")), "{said:?}");
    let after = machine.workload(&name).await;
    assert_eq!((after.status, after.port), (WorkloadStatus::Running, before.port));
    answers(&after).await;
}
