//! Isolated workloads, by the command line, on a real engine.

mod drill;

use std::time::Duration;

use drill::isolated::{containers, isolating};
use drill::{answers, kill_9, proxy_pid, run, status};
use serde_json::{Value, json};
use thv::core::{Env, RunConfig, TransportType, WorkloadName, WorkloadStatus};
use thv::manager::{
    Error, Manager, RollbackPolicy, RunOptions, RunRequest, StopOptions, UpdateOptions, WaitFor,
};
use thv_tests::{Client, Docker, Machine, SseSession, eventually, static_egress};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// A back-off, and a deployment on a busy machine.
const RESTART: Duration = Duration::from_secs(90);

/// What the server sees of its network.
async fn is_isolated(machine: &Machine, name: &str) {
    assert_eq!(status(machine, name).await["thv"]["network_isolated"], true);
    let client = Client::connect(&machine.workload(name).await.url).await;
    // Routes need an interface that is up; kernels may show others.
    let routes = client.call("read", json!({ "path": "/proc/net/route" })).await;
    assert_eq!(routes.lines().count(), 1, "there is a way out: {routes}");
    let proxy = client.call("env", json!({ "name": "HTTPS_PROXY" })).await;
    assert_eq!(proxy, "http://127.0.0.1:3128");
    client.close().await;
}

#[tokio::test]
async fn an_isolated_http_server_takes_its_helpers_along_all_its_life() {
    let Some((docker, machine)) = isolating().await else {
        return;
    };
    let name = machine.name("isolated");
    let with = ["--transport", "streamable-http", "--isolate-network"];
    let workload = run(&machine, &name, docker.image(), &with).await;
    is_isolated(&machine, &name).await;
    let names: Vec<_> = containers(&docker, &name)
        .await
        .into_iter()
        .map(|it| it.0)
        .collect();
    let helpers = [format!("{name}-egress"), format!("{name}-ingress")];
    assert_eq!(names, [&*name, &*helpers[0], &*helpers[1]]);
    let listed = machine.thv(["list", "--all", "--format", "json"]).await.ok();
    assert!(
        !helpers.iter().any(|helper| listed.stdout.contains(helper)),
        "{listed}"
    );

    machine.thv(["stop", &name]).await.ok();
    eventually(RESTART, "all of it is down", async || {
        let all = containers(&docker, &name).await;
        all.iter().all(|(_, state)| state != "running").then_some(())
    })
    .await;
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    let again = machine.workload(&name).await;
    assert_eq!(
        (again.status, again.port),
        (WorkloadStatus::Running, workload.port)
    );
    is_isolated(&machine, &name).await;

    kill_9(proxy_pid(&machine, &name).await);
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    is_isolated(&machine, &name).await;
    assert_eq!(containers(&docker, &name).await.len(), 3);

    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    docker.assert_gone(&name).await;
}

/// What the helper that stands outside lets pass: its arguments, and which container it is.
async fn rules(docker: &Docker, name: &str) -> (String, Vec<String>) {
    let answer = docker.get(&format!("/containers/{name}-egress/json")).await;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let helper: Value = serde_json::from_str(body).expect("a helper");
    let arguments = helper["Config"]["Cmd"].as_array().cloned().unwrap_or_default();
    let arguments = arguments.iter().map(|it| it.as_str().expect("a text").to_owned());
    (helper["Id"].to_string(), arguments.collect())
}

/// A file with a profile that lets this host through.
fn profile(machine: &Machine, host: &str) -> String {
    let path = machine.folder().join(format!("{host}.json"));
    let profile = json!({ "network": { "outbound": { "allow_host": [host], "allow_port": [443] } } });
    std::fs::write(&path, profile.to_string()).expect("a file");
    path.display().to_string()
}

#[tokio::test]
async fn a_replaced_isolated_server_has_the_new_rules_and_leaves_nothing_of_the_old_ones() {
    let Some((docker, machine)) = isolating().await else {
        return;
    };
    let name = machine.name("ruled");
    let (old, new) = (profile(&machine, "old.example"), profile(&machine, "new.example"));
    let with = |profile| {
        [
            "--transport",
            "stdio",
            "--isolate-network",
            "--permission-profile",
            profile,
        ]
    };
    run(&machine, &name, docker.image(), &with(&old)).await;
    let (before, rules_before) = rules(&docker, &name).await;
    assert!(
        rules_before.contains(&"old.example".to_owned()),
        "{rules_before:?}"
    );

    let replaced: Vec<_> = with(&new).into_iter().chain(["--replace"]).collect();
    run(&machine, &name, docker.image(), &replaced).await;
    is_isolated(&machine, &name).await;
    let (after, rules_after) = rules(&docker, &name).await;
    assert_ne!(after, before);
    assert!(rules_after.contains(&"new.example".to_owned()), "{rules_after:?}");
    assert!(
        !rules_after.contains(&"old.example".to_owned()),
        "{rules_after:?}"
    );
    let all = containers(&docker, &name).await;
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all.iter().all(|(_, state)| state == "running"), "{all:?}");

    // One that fails leaves no helper either.
    let fails = ["run", docker.image(), "--name", &name, "--replace", "--wait=1m"];
    let fails = fails
        .iter()
        .copied()
        .chain(with(&old))
        .chain(["--", "--exit-at-start", "3"]);
    machine.thv(fails).await.failed();
    docker.assert_gone(&name).await;
    machine.thv(["rm", &name]).await.ok();
}

/// The hosts that these rules let through. The addresses that they do not come and go with other networks.
fn hosts(rules: &[String]) -> Vec<&str> {
    let pairs = rules.windows(2).filter(|pair| pair[0] == "--allow-host");
    pairs.map(|pair| pair[1].as_str()).collect()
}

/// How an update ends whose server never answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    /// It is given no more time.
    Silent,
    /// It is killed while it is waited for.
    Killed,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_server_whose_update_does_not_answer_is_back_with_the_old_rules_and_helpers_of_its_own() {
    let Some((docker, machine)) = isolating().await else {
        return;
    };
    let env = Env::from_vars([
        ("DOCKER_HOST", docker.host()),
        (
            "TOOLHIVE_EGRESS_HELPER",
            static_egress().expect("as before").display().to_string(),
        ),
    ]);
    let builder = thv::manager_in(machine.dirs().clone(), env).expect("the usual parts");
    let manager = builder.launcher_id("com.example.isolated").build();
    let manager: Manager = manager.expect("a manager");
    let name = machine.name("back");
    let request = RunRequest {
        name: Some(name.clone()),
        transport: Some(TransportType::Stdio),
        isolate_network: Some(true),
        permission_profile: Some(profile(&machine, "old.example")),
        ..RunRequest::new(docker.image())
    };
    let ready = RunOptions {
        wait: WaitFor::Ready(RESTART),
        ..RunOptions::default()
    };
    Box::pin(manager.run(request, ready)).await.expect("it runs");
    let workload: WorkloadName = name.parse().expect("a name");
    let config = machine.dirs().runconfigs().join(format!("{name}.json"));
    let read = || std::fs::read(&config).expect("a configuration");
    let before = read();
    let (mut helper, old_rules) = rules(&docker, &name).await;
    assert_eq!(hosts(&old_rules), ["old.example"]);

    for fails in [Fails::Killed, Fails::Silent] {
        let mut new = RunConfig::from_json(&before).expect("a configuration");
        new.cmd_args.push("--no-answer".to_owned());
        let network = new.permission_profile.as_mut().and_then(|it| it.network.as_mut());
        let outbound = network.and_then(|it| it.outbound.as_mut()).expect("a list");
        outbound.allow_host = vec!["new.example".to_owned()];
        let options = UpdateOptions {
            ready_within: if fails == Fails::Silent {
                Duration::from_secs(10)
            } else {
                Duration::from_mins(5)
            },
            rollback: RollbackPolicy::OnFailure,
            ..UpdateOptions::default()
        };
        let update = Box::pin(manager.update(new, options));
        let killing = async {
            if fails == Fails::Silent {
                return;
            }
            eventually(RESTART, "the new rules", async || {
                let running = containers(&docker, &name)
                    .await
                    .iter()
                    .filter(|it| it.1 == "running")
                    .count()
                    == 3;
                (running && rules(&docker, &name).await.1.contains(&"new.example".to_owned())).then_some(())
            })
            .await;
            docker.post(&format!("/containers/{name}/kill")).await;
        };
        let (updated, ()) = tokio::join!(update, killing);
        match updated {
            Err(Error::UpdateFailed { old, .. }) => assert!(old.contains("serves again"), "{fails:?}: {old}"),
            other => panic!("{fails:?}: {other:?}"),
        }
        assert_eq!(read(), before, "{fails:?}: byte for byte");
        answers(&machine.workload(&name).await).await;
        is_isolated(&machine, &name).await;
        let (now, rules_now) = rules(&docker, &name).await;
        assert_eq!(hosts(&rules_now), ["old.example"], "{fails:?}");
        assert_ne!(now, helper, "{fails:?}: it is the one of the update");
        helper = now;
        let all = containers(&docker, &name).await;
        assert_eq!(all.len(), 3, "{fails:?}: {all:?}");
        assert!(
            all.iter().all(|(_, state)| state == "running"),
            "{fails:?}: {all:?}"
        );
    }
    let removed = manager.delete(&workload, StopOptions::default()).await;
    removed.expect("it goes");
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn an_isolated_stdio_server_is_started_anew_when_a_helper_dies() {
    let Some((docker, machine)) = isolating().await else {
        return;
    };
    let name = machine.name("isolated");
    // By default: the profile lets it reach everything, through the proxy.
    let workload = run(&machine, &name, docker.image(), &["--transport", "stdio"]).await;
    is_isolated(&machine, &name).await;
    let before = docker.instance(&name).await.expect("a container").id;
    let helper = format!("/containers/{name}-ingress/kill");
    docker.post(&helper).await;
    eventually(RESTART, "another container", async || {
        let now = docker.instance(&name).await?;
        let status = machine.workload(&name).await.status;
        (now.id != before && status == WorkloadStatus::Running).then_some(())
    })
    .await;
    answers(&workload).await;
    is_isolated(&machine, &name).await;
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn an_isolated_sse_server_is_proxied() {
    let Some((docker, machine)) = isolating().await else {
        return;
    };
    let name = machine.name("isolated");
    let profile = machine.folder().join("nothing.json");
    std::fs::write(&profile, r#"{"network": {"outbound": {}}}"#).expect("a file");
    let profile = profile.to_str().expect("a plain name");
    let with = ["--transport", "sse", "--permission-profile", profile];
    let workload = run(&machine, &name, docker.image(), &with).await;
    assert_eq!(status(&machine, &name).await["thv"]["network_isolated"], true);
    let mut session = SseSession::open(workload.port).await;
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
    assert!(session.ask(&hello).await["result"]["serverInfo"].is_object());
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn isolation_that_cannot_be_had_is_refused_with_what_to_do() {
    let Some((docker, mut machine)) = isolating().await else {
        return;
    };
    let name = machine.name("refused");
    let run = ["run", docker.image(), "--name", &name, "--transport", "stdio"];
    let required = ["--isolate-network", "--permission-profile", "none"];
    // With all rights there is no isolation.
    let profile = machine.folder().join("privileged.json");
    std::fs::write(&profile, r#"{"privileged": true}"#).expect("a file");
    let privileged = [
        "--permission-profile",
        profile.to_str().expect("a plain name"),
        "--isolate-network",
    ];
    machine
        .thv(run.iter().chain(&privileged))
        .await
        .failed()
        .says(["network isolation", "privileged"]);
    assert_eq!(machine.find(&name).await, None);

    machine.set("TOOLHIVE_EGRESS_HELPER", "/nowhere/thv-egress");
    let output = machine.thv(run.iter().chain(&required)).await.failed();
    output.says(["network isolation", "/nowhere/thv-egress"]);
    assert_eq!(machine.find(&name).await, None);
    docker.assert_gone(&name).await;
}

/// What is left of an isolated workload by a reboot, and by somebody else's stop and removal, which know helpers by name.
#[tokio::test]
async fn an_isolated_server_is_brought_back_with_its_helpers_by_reconcile() {
    let Some((docker, machine)) = isolating().await else {
        return;
    };
    let name = machine.name("isolated");
    let with = ["--transport", "streamable-http", "--isolate-network"];
    let before = run(&machine, &name, docker.image(), &with).await;
    let all = ["", "-egress", "-ingress"].map(|role| format!("{name}{role}"));
    for removed in [false, true] {
        // The proxy first, which would bring it back.
        kill_9(proxy_pid(&machine, &name).await);
        for container in &all {
            docker.post(&format!("/containers/{container}/kill")).await;
            if removed {
                docker.remove(container).await;
            }
        }
        machine.thv(["reconcile"]).await.ok().says([&*name]);
        let after = eventually(RESTART, "it runs", async || {
            let now = machine.workload(&name).await;
            (now.status == WorkloadStatus::Running).then_some(now)
        })
        .await;
        assert_eq!(after.port, before.port);
        answers(&after).await;
        is_isolated(&machine, &name).await;
        assert_eq!(containers(&docker, &name).await.len(), 3, "removed: {removed}");
    }
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
    assert_eq!(containers(&docker, &name).await, []);
}

/// The status of the answer to a request that names this host.
async fn asked_by(port: u16, path: &str, host: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut lines = BufReader::new(stream).lines();
    let line = lines.next_line().await.expect("an answer").expect("a line");
    line.split(' ').nth(1).expect("a status").to_owned()
}

#[tokio::test]
async fn an_isolated_server_is_asked_for_by_the_hosts_of_its_profile_alone() {
    let Some((docker, machine)) = isolating().await else {
        return;
    };
    let profile = machine.folder().join("inbound.json");
    std::fs::write(
        &profile,
        r#"{"network": {"outbound": {}, "inbound": {"allow_host": [".allowed.example"]}}}"#,
    )
    .expect("a file");
    let profile = profile.to_str().expect("a plain name");
    for (transport, path, served) in [("sse", "/sse", "200"), ("streamable-http", "/health", "200")] {
        let name = machine.name("inbound");
        let with = ["--transport", transport, "--permission-profile", profile];
        let port = run(&machine, &name, docker.image(), &with).await.port;
        for (host, expected) in [
            ("mcp.allowed.example", served),
            ("ALLOWED.example:80", served),
            ("notallowed.example", "403"),
            ("localhost", "403"),
            ("127.0.0.1", "403"),
        ] {
            let status = asked_by(port, path, host).await;
            assert_eq!(status, expected, "{transport} {host}");
        }
        machine.thv(["rm", &name]).await.ok();
        docker.assert_gone(&name).await;
    }
}
