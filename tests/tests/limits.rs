//! The limits of a shell, on commands and on proxies that it starts.

mod drill;

use drill::{assert_no_files_of, exec};
use serde_json::json;
use thv::core::WorkloadStatus;
use thv_tests::{Client, Machine, Output, thv};

/// `thv` under `ulimit` with these arguments.
async fn limited<const N: usize>(machine: &Machine, limit: &str, args: [&str; N]) -> Output {
    let mut command = machine.program("sh");
    command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]);
    command.arg(thv()).args(args);
    machine.finish(command).await
}

#[tokio::test]
async fn a_file_that_may_not_grow_is_an_error() {
    let machine = Machine::new();
    let (server, name) = (exec(), machine.name("short"));
    let run = ["run", &server, "--name", &name, "--transport", "stdio"];
    let folder = machine.dirs().state.display().to_string();
    let told = limited(&machine, "-f 0", run).await.failed();
    told.says(["File too large", &folder, "ulimit -f"]);
    assert_no_files_of(&machine, &name);
    machine.assert_nothing_lives(&[]);
}

#[tokio::test]
async fn a_log_that_may_not_grow_ends_no_proxy() {
    let machine = Machine::new();
    let (server, name) = (exec(), machine.name("full"));
    let log = machine.dirs().proxy_log(&name);
    std::fs::create_dir_all(machine.dirs().proxy_logs()).expect("a folder");
    std::fs::write(&log, vec![b'\n'; 256 << 10]).expect("a log");
    let run = [
        "run",
        &server,
        "--name",
        &name,
        "--transport",
        "stdio",
        "--wait=1m",
    ];
    limited(&machine, "-f 64", run).await.ok();
    let workload = machine.workload(&name).await;
    assert_eq!(workload.status, WorkloadStatus::Running);
    let client = Client::connect(&workload.url).await;
    assert_eq!(client.call("echo", json!({ "text": "on" })).await, "on");
    client.close().await;
    let length = std::fs::metadata(&log).expect("it is there").len();
    assert_eq!(length, 256 << 10, "nothing went into it");
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
}
