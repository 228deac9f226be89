//! Drill: several names at once. Each has its result; one that fails cancels nobody.

use serde_json::json;
use thv_tests::{Machine, docker};

use crate::drill::{self, run, run_echo};

#[tokio::test]
async fn what_does_not_exist_is_deleted_already() {
    let machine = Machine::new();
    let [aa, missing, cc] = ["aa", "missing", "cc"].map(|stem| machine.name(stem));
    let ports = [
        run_echo(&machine, &aa).await.port,
        run_echo(&machine, &cc).await.port,
    ];
    let removed = machine
        .thv(["rm", &aa, &missing, &cc, "--format", "json"])
        .await
        .ok();
    let result = |name: &str| json!({ "name": name, "ok": true, "result": { "removed": true } });
    assert_eq!(
        removed.json(),
        json!([result(&aa), result(&missing), result(&cc)])
    );
    assert_eq!(machine.workloads().await, []);
    machine.assert_nothing_lives(&ports);
    // So is all of it, again.
    machine.thv(["rm", &aa, &missing, &cc]).await.ok();
}

#[tokio::test]
async fn a_name_that_no_workload_can_have_is_refused_before_anything_is_touched() {
    let machine = Machine::new();
    let [aa, cc] = ["aa", "cc"].map(|stem| machine.name(stem));
    let precious = machine.dirs().home.join("precious.json");
    std::fs::write(&precious, "{}").expect("a file");
    run_echo(&machine, &aa).await;
    for verb in ["rm", "stop"] {
        let refused = machine
            .thv([verb, &aa, "../../../home/precious", &cc])
            .await
            .failed();
        refused.says(["../../../home/precious"]);
        drill::answers(&machine.workload(&aa).await).await;
        assert!(precious.exists());
    }
}

#[tokio::test]
async fn what_cannot_be_removed_is_named_and_the_others_are_gone() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let [aa, theirs, cc] = ["aa", "theirs", "cc"].map(|stem| machine.name(stem));
    run_echo_local(&machine, &aa).await;
    run_echo_local(&machine, &cc).await;
    // Another installation on the same engine.
    let other = Machine::with_docker(&docker);
    run(&other, &theirs, docker.image(), &["--transport", "stdio"]).await;

    let removed = machine
        .thv(["rm", &aa, &theirs, &cc, "--format", "json"])
        .await
        .failed();
    let results = removed.json();
    let ok: Vec<_> = results
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| (&one["name"], &one["ok"]))
        .collect();
    let expected = [
        (json!(aa), json!(true)),
        (json!(theirs), json!(false)),
        (json!(cc), json!(true)),
    ];
    assert_eq!(ok, expected.each_ref().map(|(name, ok)| (name, ok)), "{results}");
    let mine = machine.workloads().await;
    assert!(
        mine.iter()
            .all(|workload| workload.name != aa && workload.name != cc),
        "{mine:?}"
    );
    drill::answers(&other.workload(&theirs).await).await;
}

async fn run_echo_local(machine: &Machine, name: &str) {
    run(
        machine,
        name,
        &drill::exec(),
        &["--transport", "stdio", "--runtime", "local"],
    )
    .await;
}
