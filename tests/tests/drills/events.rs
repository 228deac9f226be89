//! Drill: who watches hears what becomes of workloads, whoever does it, and a proxy costs no inotify instance.

use std::path::Path;

use serde_json::{Value, json};
use thv_tests::{Machine, WAIT};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::drill::{self, kill_9, proxy_pid, run_echo, toolhive_writes};

/// `thv events`, listening.
struct Events {
    lines: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Events {
    async fn of(machine: &Machine, args: &[&str]) -> Self {
        let events = ["events", "--format", "json"];
        let mut child = machine
            .command(events.iter().chain(args))
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut events = Self { lines, child };
        events.until(|event| event["event"] == "synced").await;
        events
    }

    /// The first event that is as wanted.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut heard = Vec::new();
        let search = async {
            while let Some(line) = self.lines.next_line().await.expect("it can be read") {
                let event: Value = serde_json::from_str(&line).expect("each line is an object");
                if wanted(&event) {
                    return Some(event);
                }
                heard.push(event);
            }
            None
        };
        let found = tokio::time::timeout(WAIT, search).await;
        found
            .ok()
            .flatten()
            .unwrap_or_else(|| panic!("not heard: {heard:?}"))
    }

    async fn status(&mut self, name: &str, status: &str) -> Value {
        self.until(|event| event["name"] == name && event["status"] == status)
            .await
    }
}

#[tokio::test]
async fn who_watches_hears_verbs_deaths_and_toolhive() {
    let machine = Machine::new();
    let (name, other) = (machine.name("watched"), machine.name("other"));
    let mut all = Events::of(&machine, &[]).await;
    let mut one = Events::of(&machine, &[&name]).await;
    run_echo(&machine, &other).await;
    run_echo(&machine, &name).await;
    all.status(&other, "running").await;
    for events in [&mut all, &mut one] {
        events.status(&name, "running").await;
    }
    // No file says so.
    kill_9(proxy_pid(&machine, &name).await);
    for events in [&mut all, &mut one] {
        let dead = events.status(&name, "unhealthy").await;
        assert_eq!(dead["should_run"], json!(true));
    }
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    one.status(&name, "running").await;
    machine.thv(["stop", &name]).await.ok();
    one.status(&name, "stopped").await;
    toolhive_writes(&machine, &name, "policy_stopped", 0);
    one.status(&name, "policy_stopped").await;
    machine.thv(["rm", &name]).await.ok();
    for events in [&mut all, &mut one] {
        events
            .until(|event| event["name"] == json!(name) && event["event"] == "removed")
            .await;
    }
}

/// How many descriptors of a process are inotify instances.
fn inotify_instances(pid: u32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
    let of = descriptors
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok());
    of.filter(|link| link == Path::new("anon_inode:inotify")).count()
}

#[tokio::test]
async fn a_proxy_needs_no_inotify_instance_and_a_watch_one() {
    let machine = Machine::new();
    let names = ["stdio", "http"].map(|stem| machine.name(stem));
    for (name, transport) in names.iter().zip(["stdio", "streamable-http"]) {
        drill::run(&machine, name, &drill::exec(), &["--transport", transport]).await;
    }
    for name in &names {
        assert_eq!(inotify_instances(proxy_pid(&machine, name).await), 0, "{name}");
    }
    let events = Events::of(&machine, &[]).await;
    let watching = events.child.id().expect("it runs");
    assert_eq!(inotify_instances(watching), 1);
}
