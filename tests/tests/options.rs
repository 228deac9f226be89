//! The flags of the command line that no other test is about, on real workloads.

mod drill;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Stdio;

use drill::{exec, run, run_echo, signal};
use rustix::process::Signal;
use serde_json::{Value, json};
use thv::core::WorkloadStatus;
use thv_tests::{Client, Machine, WAIT, docker, eventually};
use tokio::io::{AsyncBufReadExt as _, BufReader};

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

async fn statuses_of_all(machine: &Machine) -> Vec<(String, WorkloadStatus)> {
    let all = machine.workloads().await;
    all.into_iter().map(|it| (it.name, it.status)).collect()
}

/// The tool `env` of a workload.
async fn variable(machine: &Machine, name: &str, variable: &str) -> String {
    let client = Client::connect(&machine.workload(name).await.url).await;
    let value = client.call("env", json!({ "name": variable })).await;
    client.close().await;
    value
}

#[tokio::test]
async fn that_the_network_is_not_isolated_is_said_and_shown() {
    let machine = Machine::new();
    let name = machine.name("open");
    let stdio = ["--name", &*name, "--transport", "stdio"];
    let warning = format!("Warning: the network of \"{name}\" is not isolated");
    let said = machine
        .thv(["run", "--wait=1m", &exec()].iter().copied().chain(stdio))
        .await
        .ok();
    said.says([&*warning]);
    let shown = machine.thv(["status", &name]).await.ok();
    let shown_line = shown.stdout.lines().find(|line| line.starts_with("Network:"));
    assert!(
        shown_line.is_some_and(|line| line.ends_with(" not isolated")),
        "{shown}"
    );
    assert_eq!(
        drill::status(&machine, &name).await["thv"]["network_isolated"],
        false
    );
    machine.thv(["stop", &name]).await.ok();
    machine
        .thv(["start", "--wait=1m", &name])
        .await
        .ok()
        .says([&*warning]);
    machine.thv(["rm", &name]).await.ok();
    // Who does not ask for isolation is not told that there is none.
    let asked = ["run", &exec(), "--isolate-network=false", "--wait=1m"];
    let said = machine.thv(asked.iter().copied().chain(stdio)).await.ok();
    assert!(!said.stderr.contains("isolated"), "{said}");
}

#[tokio::test]
async fn status_has_toolhives_keys_in_its_order_then_ours() {
    let machine = Machine::new();
    let name = machine.name("known");
    let workload = run_echo(&machine, &name).await;
    let shown = machine.thv(["status", &name]).await.ok();
    let labels: Vec<_> = shown
        .stdout
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|it| it.0)
        .collect();
    let expected = [
        "Name",
        "Status",
        "Health",
        "Package",
        "URL",
        "Port",
        "Transport",
        "Proxy Mode",
        "Group",
        "Created",
        "Uptime",
        "Should run",
        "Runtime",
        "Network",
        "Launched by",
        "Proxy process",
        "Proxy log",
    ];
    assert_eq!(labels, expected, "{shown}");

    let json = machine.thv(["status", &name, "--format", "json"]).await.ok();
    let status = json.json();
    let pid = status["thv"]["proxy_pid"].to_string();
    let log = machine.dirs().proxy_logs().join(format!("{name}.log"));
    let normal = json
        .stdout
        .replace(&name, "NAME")
        .replace(&workload.port.to_string(), "PORT")
        .replace(&exec(), "exec://SERVER")
        .replace(&pid, "PID")
        .replace(&text(&log).replace(&name, "NAME"), "LOG");
    assert_eq!(
        normal,
        r#"{
  "name": "NAME",
  "status": "running",
  "health": "healthy",
  "package": "exec://SERVER",
  "url": "http://127.0.0.1:PORT/mcp",
  "port": PORT,
  "transport": "stdio",
  "proxy_mode": "streamable-http",
  "group": "default",
  "uptime": "0m",
  "thv": {
    "desired_running": true,
    "network_isolated": false,
    "runtime": "local",
    "launcher": "thv",
    "proxy_pid": PID,
    "proxy_log": "LOG"
  }
}
"#
    );
    let missing = machine
        .thv(["status", "nobody", "--format", "json"])
        .await
        .failed();
    missing.says([r#"workload "nobody" not found"#]);
}

#[tokio::test]
async fn logs_are_cut_and_followed() {
    let machine = Machine::new();
    let name = machine.name("talks");
    let url = run_echo(&machine, &name).await.url;
    let client = Client::connect(&url).await;
    for line in ["one", "two", "three"] {
        client.call("stderr", json!({ "text": line })).await;
    }
    let tail = machine.thv(["logs", &name, "--tail", "2"]).await.ok();
    assert_eq!(tail.stdout, "two\nthree\n");
    let all = machine.thv(["logs", &name]).await.ok();
    assert!(all.stdout.ends_with("one\ntwo\nthree\n"), "{all}");

    let mut following = machine
        .command(["logs", &name, "--follow", "--tail", "1"])
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(following.stdout.take().expect("it is piped")).lines();
    let mut next = async || {
        let line = tokio::time::timeout(WAIT, lines.next_line()).await;
        line.expect("a line comes").expect("a pipe")
    };
    assert_eq!(next().await.as_deref(), Some("three"));
    client.call("stderr", json!({ "text": "four" })).await;
    assert_eq!(next().await.as_deref(), Some("four"), "what comes is shown");
    client.close().await;
    signal(following.id().expect("it goes on"), Signal::INT);
    let ended = following.wait().await.expect("it ends");
    assert_eq!(ended.code(), Some(130));
}

#[tokio::test]
async fn what_is_exported_runs_again_and_nobody_else_reads_it() {
    let machine = Machine::new();
    let name = machine.name("saved");
    let given = ["--transport", "stdio", "--env", "GIVEN=1", "--label", "team=a"];
    let before = run(&machine, &name, &exec(), &given).await;
    let folder = machine.folder().join("a/b");
    let (first, second) = (folder.join("first.json"), folder.join("second.json"));
    machine.thv(["export", &name, text(&first)]).await.ok();
    assert_eq!(mode(&first), 0o600);
    assert_eq!(mode(&folder), 0o750);

    // Over one that others may read, it is another file: who has the old one open does not see it.
    std::fs::write(&second, "old").expect("a file");
    std::fs::set_permissions(&second, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let inode = std::fs::metadata(&second).expect("a file").ino();
    machine.thv(["export", &name, text(&second)]).await.ok();
    assert_eq!(mode(&second), 0o600);
    assert_ne!(std::fs::metadata(&second).expect("a file").ino(), inode);
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
    assert_eq!(read(&first), read(&second));

    // A link stays one, and a pipe is written to.
    let link = machine.folder().join("link.json");
    std::os::unix::fs::symlink(&second, &link).expect("a link");
    machine.thv(["export", &name, text(&link)]).await.ok();
    assert!(std::fs::symlink_metadata(&link).is_ok_and(|it| it.is_symlink()));
    let pipe = machine.folder().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from(0o600)).expect("a pipe");
    let reading = tokio::task::spawn_blocking({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe)
    });
    machine.thv(["export", &name, text(&pipe)]).await.ok();
    assert_eq!(reading.await.expect("no panic").expect("a pipe"), read(&first));

    machine.thv(["rm", &name]).await.ok();
    machine
        .thv(["run", "--from-config", text(&first), "--wait=1m"])
        .await
        .ok();
    let after = machine.workload(&name).await;
    assert_eq!((after.port, &after.labels), (before.port, &before.labels));
    assert_eq!(variable(&machine, &name, "GIVEN").await, "1");
    machine.thv(["export", &name, text(&second)]).await.ok();
    assert_eq!(read(&first), read(&second), "the same configuration");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").mode() & 0o777
}

#[tokio::test]
async fn a_configuration_file_runs_in_the_foreground() {
    let machine = Machine::new();
    let name = machine.name("front");
    run_echo(&machine, &name).await;
    let file = machine.folder().join("config.json");
    machine.thv(["export", &name, text(&file)]).await.ok();
    machine.thv(["rm", &name]).await.ok();
    for (flags, end, left) in [
        (&[][..], None, Some(WorkloadStatus::Stopped)),
        (&["--keep"], None, Some(WorkloadStatus::Stopped)),
        (&["--keep"], Some(Signal::TERM), Some(WorkloadStatus::Stopped)),
        (&[], Some(Signal::INT), None),
    ] {
        let run = ["run", "--from-config", text(&file), "--foreground", "--replace"];
        let mut child = machine
            .command(run.iter().chain(flags))
            .spawn()
            .expect("it starts");
        eventually(WAIT, "it runs", async || {
            let found = machine.find(&name).await?;
            (found.status == WorkloadStatus::Running).then_some(())
        })
        .await;
        assert_eq!(variable(&machine, &name, "MCP_TRANSPORT").await, "stdio");
        match end {
            Some(end) => signal(child.id().expect("it runs"), end),
            None => drop(machine.thv(["stop", &name]).await.ok()),
        }
        let ended = tokio::time::timeout(WAIT, child.wait()).await.expect("it ends");
        assert!(ended.expect("it was there").success(), "{end:?}");
        assert_eq!(machine.find(&name).await.map(|it| it.status), left, "{end:?}");
        machine.assert_nothing_lives(&[]);
    }
    let script = json!({ "schema_version": "v0.1.0", "image": "exec:///bin/false", "name": name, "transport": "stdio" });
    std::fs::write(&file, script.to_string()).expect("a file");
    let failed = machine
        .thv(["run", "--from-config", text(&file), "--foreground"])
        .await
        .failed();
    failed.says([&*name, "code 1"]);
    machine.assert_nothing_lives(&[]);
}

#[tokio::test]
async fn all_and_those_of_a_group_are_stopped_started_and_removed() {
    let machine = Machine::new();
    let groups = machine.dirs().groups();
    std::fs::create_dir_all(&groups).expect("a folder");
    let group = r#"{"name":"team","registered_clients":[]}"#;
    std::fs::write(groups.join("team.json"), group).expect("a file");
    let [one, two, other] = ["one", "two", "xother"].map(|stem| machine.name(stem));
    for name in [&one, &two] {
        run(
            &machine,
            name,
            &exec(),
            &["--transport", "stdio", "--group", "team"],
        )
        .await;
    }
    run_echo(&machine, &other).await;
    let expect = async |team: WorkloadStatus, rest: WorkloadStatus| {
        let expected = [(one.clone(), team), (two.clone(), team), (other.clone(), rest)];
        assert_eq!(statuses_of_all(&machine).await, expected);
    };
    use WorkloadStatus::{Running, Stopped};

    machine.thv(["stop", "--group", "team"]).await.ok();
    expect(Stopped, Running).await;
    machine.thv(["start", "--group", "team", "--wait=1m"]).await.ok();
    expect(Running, Running).await;
    let listed = machine
        .thv(["list", "--group", "team", "--format", "json"])
        .await
        .ok();
    assert_eq!(listed.json().as_array().map(Vec::len), Some(2), "{listed}");
    machine.thv(["stop", "--all"]).await.ok();
    expect(Stopped, Stopped).await;
    let started = machine.thv(["start", "--all", "--wait=1m"]).await.ok();
    started.says([&*one, &*two, &*other, "3 succeeded, 0 failed"]);
    expect(Running, Running).await;
    let port = machine.workload(&one).await.port;
    machine
        .thv(["restart", "--group", "team", "--wait=1m"])
        .await
        .ok();
    expect(Running, Running).await;
    assert_eq!(machine.workload(&one).await.port, port);
    machine.thv(["rm", "--group", "team"]).await.ok();
    assert_eq!(statuses_of_all(&machine).await, [(other.clone(), Running)]);
    machine.thv(["rm", "--all"]).await.ok();
    assert_eq!(statuses_of_all(&machine).await, []);
    machine.assert_nothing_lives(&[]);
    for verb in ["stop", "start", "rm", "list"] {
        let unknown = machine.thv([verb, "--group", "nobodys"]).await.failed();
        unknown.says(["nobodys"]);
    }
}

#[tokio::test]
async fn what_an_older_program_named_as_nobody_may_today_is_removed() {
    // An engine is asked whether it has a container of that name.
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let name = machine.name("named");
    let local = ["--transport", "stdio", "--runtime", "local"];
    run(&machine, &name, &exec(), &local).await;
    let (runconfigs, statuses) = (machine.dirs().runconfigs(), machine.dirs().statuses());
    let make = |old: &str| {
        for folder in [&runconfigs, &statuses] {
            let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).expect("a file");
            let text = text.replace(&name, old).replace("\"running\"", "\"stopped\"");
            std::fs::write(folder.join(format!("{old}.json")), text).expect("a file");
        }
    };
    make("-dash");
    let listed = machine.workload("-dash").await;
    assert!(listed.status_context.contains("can be removed"), "{listed:?}");
    // One that is not there is a mistake, and nothing is touched for the others.
    let refused = machine.thv(["rm", "--", "-dash", "-other"]).await.failed();
    refused.says(["invalid workload name \"-other\""]);
    assert!(machine.find("-dash").await.is_some());
    let removed = machine
        .thv(["rm", "--format", "json", "--", "-dash", &name])
        .await
        .ok();
    let result = |name: &str| json!({ "name": name, "ok": true, "result": { "removed": true } });
    assert_eq!(removed.json(), json!([result("-dash"), result(&name)]));
    assert_eq!(machine.find("-dash").await, None);
    assert_eq!(machine.find(&name).await, None);
}

#[tokio::test]
async fn list_selects_by_label() {
    let machine = Machine::new();
    let [one, two] = ["one", "two"].map(|stem| machine.name(stem));
    for (name, color) in [(&one, "color=red"), (&two, "color=blue")] {
        let labels = ["--transport", "stdio", "--label", "team=a", "--label", color];
        run(&machine, name, &exec(), &labels).await;
    }
    for (selectors, expected) in [
        (&["team=a"][..], vec![&one, &two]),
        (&["team=a", "color=red"], vec![&one]),
        (&["color=green"], vec![]),
    ] {
        let flags = selectors.iter().flat_map(|selector| ["-l", selector]);
        let listed = machine
            .thv(["list", "--format", "json"].into_iter().chain(flags))
            .await
            .ok()
            .json();
        let names: Vec<_> = listed
            .as_array()
            .into_iter()
            .flatten()
            .map(|it| &it["name"])
            .collect();
        assert_eq!(names, expected, "{selectors:?}");
    }
    machine.thv(["list", "-l", "no selector"]).await.failed();
}

#[tokio::test]
async fn a_name_that_is_taken_is_replaced_only_when_that_is_said() {
    let machine = Machine::new();
    let name = machine.name("taken");
    let before = run(
        &machine,
        &name,
        &exec(),
        &["--transport", "stdio", "--env", "N=1"],
    )
    .await;
    let again = [
        "run",
        &exec(),
        "--name",
        &name,
        "--transport",
        "stdio",
        "--env",
        "N=2",
    ];
    let refused = machine.thv(again).await.failed();
    refused.says(["already exists", "--replace", &format!("thv start {name}")]);
    assert_eq!(variable(&machine, &name, "N").await, "1");
    machine
        .thv(again.iter().chain(&["--replace", "--wait=1m"]))
        .await
        .ok();
    assert_eq!(variable(&machine, &name, "N").await, "2");
    assert_eq!(machine.workload(&name).await.port, before.port, "clients know it");
    // Of one that does not run somebody else may have taken it by now.
    machine.thv(["stop", &name]).await.ok();
    let taken = std::net::TcpListener::bind(("127.0.0.1", before.port)).expect("it is free");
    machine
        .thv(again.iter().chain(&["--replace", "--wait=1m"]))
        .await
        .ok()
        .says([&*before.port.to_string(), "another one"]);
    drop(taken);
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[before.port]);
}

#[tokio::test]
async fn a_container_of_another_installation_is_touched_only_by_force() {
    let Some(docker) = docker().await else { return };
    let [ours, theirs] = [(); 2].map(|()| Machine::with_docker(&docker));
    let name = ours.name("foreign");
    run(&theirs, &name, docker.image(), &["--transport", "stdio"]).await;
    for verb in ["start", "restart"] {
        let all = ours.thv([verb, "--all"]).await.ok();
        all.says([&*name, "is left out"]);
    }
    for verb in ["stop", "rm"] {
        let refused = ours.thv([verb, &name]).await.failed();
        refused.says([&*name, "another installation", "--force"]);
    }
    assert!(docker.instance(&name).await.is_some());
    ours.thv(["rm", &name, "--force"]).await.ok();
    assert!(docker.instance(&name).await.is_none());
    theirs.thv(["rm", &name]).await.ok();
}

#[tokio::test]
async fn variables_come_from_files_and_the_command_line_wins() {
    let machine = Machine::new();
    let name = machine.name("files");
    let file = machine.folder().join("variables");
    std::fs::write(&file, "# ours\nexport ONE=1\nTWO=2\n").expect("a file");
    let folder = machine.folder().join("variables.d");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("one"), "ONE=one\n").expect("a file");
    let flags = [
        "--transport",
        "stdio",
        "--env-file",
        text(&file),
        "--env-file-dir",
        text(&folder),
        "--env",
        "TWO=two",
    ];
    run(&machine, &name, &exec(), &flags).await;
    assert_eq!(variable(&machine, &name, "ONE").await, "one");
    assert_eq!(variable(&machine, &name, "TWO").await, "two");
    let missing = machine.folder().join("nowhere");
    for flag in ["--env-file", "--env-file-dir"] {
        let nowhere = ["run", &exec(), "--name", "nobody", flag, text(&missing)];
        machine.thv(nowhere).await.failed().says([text(&missing)]);
    }
}

/// Numbers of the environment that are none.
const NO_NUMBERS: [(&str, &str); 6] = [
    ("THV_PULL_TIMEOUT", "soon"),
    ("THV_REGISTRY_TIMEOUT", "10s"),
    ("TOOLHIVE_LOG_MAX_SIZE", "10MB"),
    ("TOOLHIVE_LOG_MAX_FILES", "0"),
    ("TOOLHIVE_PROXY_MAX_BODY_BYTES", "-1"),
    ("TOOLHIVE_PROXY_MAX_LINE_BYTES", "much"),
];

#[tokio::test]
async fn a_number_of_the_environment_that_is_none_stops_nobody_from_stopping() {
    let mut machine = Machine::new();
    let name = machine.name("stopped");
    let port = run_echo(&machine, &name).await.port;
    for (variable, value) in NO_NUMBERS {
        machine.set(variable, value);
    }
    let told = NO_NUMBERS.map(|(variable, value)| format!("Warning: {variable} is {value:?}: "));
    let told = || told.iter().map(String::as_str);
    let listed = machine.thv(["list", "--format", "json"]).await.ok();
    assert_eq!(listed.json()[0]["name"], name);
    listed.says(told());
    let read = [
        &["status", &name][..],
        &["logs", &name],
        &["logs", &name, "--proxy"],
    ];
    for command in read {
        machine.thv(command).await.ok().says(told());
    }
    machine.thv(["stop", &name]).await.ok().says(told());
    machine.assert_nothing_lives(&[port]);
    // What starts something does not guess.
    machine
        .thv(["start", &name])
        .await
        .failed()
        .says(["whole number"]);
    machine.thv(["rm", &name]).await.ok().says(told());
    assert_eq!(machine.find(&name).await, None);
}

#[tokio::test]
async fn a_number_of_the_environment_that_is_none_is_no_default() {
    for (variable, value) in NO_NUMBERS {
        let mut machine = Machine::new();
        machine.set(variable, value);
        let run = ["run", "https://127.0.0.1:9/mcp", "--name", "far", "--no-wait"];
        let refused = machine.thv(run).await.failed();
        refused.says([variable, value, "whole number"]);
        machine.set(variable, "");
        assert_eq!(
            machine
                .thv(["list", "--all", "--format", "json"])
                .await
                .ok()
                .stdout,
            "[]\n"
        );
    }
}

/// ToolHive goes on with the default, and so does this; who set it is told.
#[tokio::test]
async fn a_number_of_toolhives_that_is_none_is_told_on_the_terminal() {
    let mut machine = Machine::new();
    machine.set("TOOLHIVE_HEALTH_CHECK_INTERVAL", "often");
    machine.set("TOOLHIVE_PROXY_REQUEST_TIMEOUT", "0");
    let run = ["run", "https://127.0.0.1:9/mcp", "--name", "far", "--no-wait"];
    let told = [
        "TOOLHIVE_HEALTH_CHECK_INTERVAL is \"often\"",
        "TOOLHIVE_PROXY_REQUEST_TIMEOUT is \"0\"",
    ];
    machine.thv(run).await.ok().says(told);
    machine.thv(["stop", "far"]).await.ok();
    machine.thv(["start", "far", "--no-wait"]).await.ok().says(told);
    machine.thv(["rm", "far"]).await.ok();
}

#[tokio::test]
async fn of_what_does_not_run_no_health_is_told() {
    let machine = Machine::new();
    machine
        .thv(["run", "https://127.0.0.1:9/mcp", "--name", "far", "--no-wait"])
        .await
        .ok();
    let starting = machine.thv(["status", "far"]).await.ok().stdout;
    assert!(starting.contains("Health:          unknown"), "{starting}");
    machine.thv(["stop", "far"]).await.ok();
    let stopped = machine.thv(["status", "far"]).await.ok().stdout;
    assert!(
        stopped.contains("stopped") && !stopped.contains("Health"),
        "{stopped}"
    );
    // For programs it is as ToolHive says it.
    let json = machine
        .thv(["status", "far", "--format", "json"])
        .await
        .ok()
        .json();
    assert_eq!(json["health"], "unhealthy");
    machine.thv(["rm", "far"]).await.ok();
}

#[tokio::test]
async fn runtimes_are_asked_and_named() {
    let mut machine = Machine::new();
    let local = machine.thv(["runtime", "check", "--runtime", "local"]).await.ok();
    assert_eq!(local.stdout, "Runtime local is responsive\n");
    // One that is away is a line of the list, with the reason.
    let away = machine.thv(["runtime", "list"]).await.ok();
    assert!(
        away.stdout.contains("docker is away: ") && away.stdout.contains("no-engine.sock"),
        "{away}"
    );
    let unknown = machine
        .thv(["runtime", "check", "--runtime", "bogus"])
        .await
        .failed();
    unknown.says(["bogus", "docker", "local"]);
    machine.set("TOOLHIVE_RUNTIME", "bogus");
    let unknown = machine.thv(["list"]).await.failed();
    unknown.says(["TOOLHIVE_RUNTIME", "bogus", "docker", "local"]);
    for (named, default, because) in [
        ("", "docker", "no other one goes before its priority 100"),
        (" local ", "local", "TOOLHIVE_RUNTIME names it"),
    ] {
        machine.set("TOOLHIVE_RUNTIME", named);
        let listed = machine.thv(["runtime", "list"]).await.ok();
        let wanted = format!("{default} is the default: {because}\n");
        assert!(listed.stdout.contains(&wanted), "{listed}");
    }

    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let there = machine.thv(["runtime", "check"]).await.ok();
    assert_eq!(there.stdout, "Container runtime is responsive\n");
    let json = machine.thv(["runtime", "check", "--format", "json"]).await.ok();
    let json = json.json();
    assert_eq!(
        (&json["runtime"], &json["responsive"]),
        (&json!("docker"), &json!(true))
    );
    assert_eq!(json["chosen_by"], "DOCKER_HOST", "{json}");
    let all = machine
        .thv(["runtime", "list", "--format", "json"])
        .await
        .ok()
        .json();
    assert_eq!(
        (&all[0]["runtime"], &all[0]["default"]),
        (&json!("docker"), &json!(true))
    );
    assert_eq!(all[0]["version"], json["version"], "{all}");
    assert_eq!(
        (&all[1]["runtime"], &all[1]["responsive"]),
        (&json!("local"), &json!(true))
    );
}

#[tokio::test]
async fn a_reader_that_has_gone_is_nobodys_failure() {
    let machine = Machine::new();
    let name = machine.name("unread");
    run_echo(&machine, &name).await;
    let file = machine.folder().join("config.json");
    for args in [
        &["logs", &name, "--proxy"][..],
        &["list", "--all"],
        &["list", "--format", "json"],
        &["list", "--format", "mcpservers"],
        &["status", &name],
        &["status", &name, "--format", "json"],
        &["export", &name, text(&file)],
        &["start", &name, "--format", "json"],
        &["runtime", "check", "--runtime", "local"],
        &["version"],
        &["version", "--json"],
        &["completion", "bash"],
        &["run", "--help"],
        &[],
        &["rm", &name, "--format", "json"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = machine.command(args);
        command.stdout(Stdio::from(writer));
        let output = machine.finish(command).await;
        assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{output}");
    }
}

#[tokio::test]
async fn json_of_a_run_is_for_programs() {
    let machine = Machine::new();
    let name = machine.name("json");
    let run = [
        "run",
        &exec(),
        "--name",
        &name,
        "--transport",
        "stdio",
        "--wait=1m",
        "--format",
        "json",
    ];
    let said: Value = machine.thv(run).await.ok().json();
    let url = machine.workload(&name).await.url;
    assert_eq!(
        said,
        json!({ "name": name, "url": url, "ready": true, "already_running": false })
    );
    let again = machine.thv(["start", "--wait=1m", &name]).await.ok();
    assert_eq!(again.stderr, format!("\"{name}\" is running already at {url}\n"));
    let front = machine.thv(["start", &name, "--foreground"]).await.ok();
    assert_eq!(front.stderr, format!("\"{name}\" is running already at {url}\n"));
}
