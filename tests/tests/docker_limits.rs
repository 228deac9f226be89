//! What a container may use and see, on a real engine.

use serde_json::{Value, json};
use thv_tests::{Client, Machine, WAIT, docker, eventually};

#[tokio::test]
async fn limits_are_enforced_and_shown_and_memory_is_the_reason_of_an_end() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let name = machine.name("limited");
    let run = [
        "run",
        docker.image(),
        "--name",
        &name,
        "--transport",
        "stdio",
        "--wait=2m",
        "--memory=64m",
        "--cpus=0.5",
        "--pids-limit=64",
        "--read-only",
    ];
    machine.thv(run).await.ok();
    let answer = docker.get(&format!("/containers/{name}/json")).await;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let host = serde_json::from_str::<Value>(body).expect("JSON")["HostConfig"].clone();
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["PidsLimit"], 64);
    assert_eq!(host["ReadonlyRootfs"], true);
    let companion = machine.dirs().lifecycle().join(format!("{name}.json"));
    let companion: Value =
        serde_json::from_slice(&std::fs::read(companion).expect("a companion")).expect("JSON");
    assert_eq!(companion["thv"]["limits"]["cpus"], "0.5", "{companion}");

    let url = machine.workload(&name).await.url;
    // The proxy's log keeps it; the status goes on to the next start. A busy engine may have heard too late of the reason of an end:
    // that server is started again, and ends in the same way.
    let log = machine.dirs().proxy_logs().join(format!("{name}.log"));
    eventually(WAIT, "the reason", async || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        if log.contains("out of memory (limit 64 MiB)") {
            return Some(());
        }
        let client = Client::try_connect(&url).await.ok()?;
        let big = client.try_call("big", json!({ "bytes": 200 << 20 })).await;
        big.expect_err("there is not so much memory");
        None
    })
    .await;
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn what_ignore_files_name_is_not_seen_from_inside() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let name = machine.name("ignore");
    let data = machine.folder().join("data");
    std::fs::create_dir_all(data.join("keys")).expect("a folder");
    for (path, text) in [
        ("open", "seen"),
        (".env", "TOKEN=1"),
        ("keys/id", "private"),
        ("notes.secret", "private"),
        (".thvignore", ".env\nkeys/\n"),
    ] {
        std::fs::write(data.join(path), text).expect("a file");
    }
    let everywhere = machine.dirs().ignore_file();
    std::fs::create_dir_all(everywhere.parent().expect("a folder")).expect("a folder");
    std::fs::write(everywhere, "*.secret\n").expect("a file");
    let volume = format!("{}:/d", data.display());
    let run = [
        "run",
        docker.image(),
        "--name",
        &name,
        "--transport",
        "stdio",
        "--wait=2m",
        "--volume",
        &volume,
        "--print-resolved-overlays",
    ];
    machine
        .thv(run)
        .await
        .ok()
        .says(["/d/.env", "/d/keys", "/d/notes.secret"]);
    let client = Client::connect(&machine.workload(&name).await.url).await;
    let read = async |path: &str| client.try_call("read", json!({ "path": path })).await;
    assert_eq!(read("/d/open").await.as_deref(), Ok("seen"));
    for hidden in ["/d/.env", "/d/notes.secret"] {
        assert_eq!(read(hidden).await.as_deref(), Ok(""), "{hidden}");
    }
    assert!(read("/d/keys/id").await.is_err());
    client.close().await;
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}
