//! `rm` was killed, then another program made a workload of that name: nothing of the new one is touched.

use std::fs;

use futures_util::future::join_all;
use serde_json::{Value, json};
use thv::core::WorkloadStatus;
use thv_tests::HeldPort;
use tokio::process::Child;

use crate::cases::{At, Before, Verb};
use crate::drill::{lives, status_file, toolhive_writes};
use crate::scene::{Place, Scene};

const POINTS: [&str; 10] = [
    "rm.asked",
    "rm.begun",
    "record.written:2",
    "end.proxy-ended",
    "rm.ended",
    "rm.instance-removed",
    "rm.config-deleted",
    "rm.logs-removed",
    "record.status-removed",
    "record.removed",
];

/// What ToolHive's `run` leaves for a remote server: configuration, status, and the process of its proxy.
fn toolhive_runs(scene: &Scene, port: u16) -> Child {
    let (machine, name) = (&scene.machine, scene.name.as_str());
    let config = json!({
        "schema_version": "v0.1.0", "name": name, "container_name": name, "base_name": name,
        "remote_url": "http://127.0.0.1:9/mcp", "transport": "streamable-http", "host": "127.0.0.1", "port": port,
        "proxy_mode": "streamable-http", "group": "default",
        "middleware_configs": [{ "type": "auth", "parameters": {} }, { "type": "mcp-parser", "parameters": {} }],
    });
    let text = serde_json::to_string_pretty(&config).expect("JSON");
    fs::create_dir_all(machine.dirs().runconfigs()).expect("a folder");
    fs::write(machine.dirs().runconfigs().join(format!("{name}.json")), text).expect("written");
    // `<program> start <name>` with TOOLHIVE_DETACHED=1, of the same user, named by the status file.
    fs::write(machine.folder().join("start"), "while :; do sleep 0.05; done\n").expect("written");
    let mut proxy = machine.program("sh");
    proxy
        .args(["start", name])
        .current_dir(machine.folder())
        .env("TOOLHIVE_DETACHED", "1");
    let proxy = proxy.spawn().expect("a shell");
    toolhive_writes(machine, name, "running", proxy.id().expect("it runs"));
    proxy
}

async fn is_not_touched(point: &'static str) {
    let scene = Scene::new(&Place::Local);
    scene.prepare(Before::Runs, None).await;
    scene.kill(Verb::Remove, At::Command(point)).await;
    // People are slower than a proxy that was told to end.
    scene.is_unowned().await;
    // Nobody listens there, and nobody else has it.
    let held = HeldPort::new();
    let port = held.number();
    let mut proxy = toolhive_runs(&scene, port);
    let files = || {
        let config = scene
            .machine
            .dirs()
            .runconfigs()
            .join(format!("{}.json", scene.name));
        let status = fs::read(status_file(&scene.machine, &scene.name)).ok();
        let status = status.map(|bytes| serde_json::from_slice::<Value>(&bytes).expect("JSON"));
        // That it was taken in is a write of the same status.
        let said = status.map(|file| {
            [
                file["status"].clone(),
                file["created_at"].clone(),
                file["process_id"].clone(),
            ]
        });
        (fs::read_to_string(config).ok(), said)
    };
    let before = files();
    for _ in 0..2 {
        scene.machine.thv(["reconcile"]).await.ok();
        assert_eq!(files(), before, "{point}");
        assert!(proxy.id().is_some_and(lives), "{point}: its proxy was ended");
        let workload = scene.machine.workload(&scene.name).await;
        let seen = (workload.status, workload.port);
        assert_eq!(seen, (WorkloadStatus::Running, port), "{point}: {workload:?}");
    }
    proxy.kill().await.expect("it is a child");
    scene.machine.thv(["rm", &scene.name]).await.ok();
    assert_eq!(files(), (None, None), "{point}");
}

#[tokio::test]
async fn what_another_program_made_after_a_killed_rm_is_not_touched() {
    join_all(POINTS.map(is_not_touched)).await;
}
