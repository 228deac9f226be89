//! What brings workloads back at boot.

mod drill;

use drill::{kill_9, proxy_pid, run_echo};
use thv::core::WorkloadStatus;
use thv_tests::{Machine, systemd_analyze};

#[tokio::test]
async fn the_printed_unit_is_one_that_systemd_takes() {
    if !systemd_analyze() {
        return;
    }
    let machine = Machine::new();
    let unit = machine.thv(["reconcile", "--print-unit"]).await.ok().stdout;
    for promised in [
        "Type=oneshot\n",
        "RemainAfterExit=yes\n",
        "KillMode=process\n",
        "systemctl --user enable --now thv-reconcile.service\n",
        "loginctl enable-linger\n",
    ] {
        assert!(unit.contains(promised), "{promised}: {unit}");
    }
    let path = machine.folder().join("thv-reconcile.service");
    std::fs::write(&path, unit).expect("a file");
    let mut verify = machine.program("systemd-analyze");
    verify.args(["--user", "verify", "--man=no"]).arg(&path);
    let verified = machine.finish(verify).await.ok();
    assert!(!verified.stderr.contains("thv-reconcile"), "{verified}");
}

#[tokio::test]
async fn reconcile_says_what_it_did_and_why_and_waits_for_no_engine_that_is_not_needed() {
    let machine = Machine::new();
    let (dead, stopped) = (machine.name("dead"), machine.name("stopped"));
    for name in [&dead, &stopped] {
        run_echo(&machine, name).await;
    }
    machine.thv(["stop", &stopped]).await.ok();
    kill_9(proxy_pid(&machine, &dead).await);
    let done = machine.thv(["reconcile"]).await.ok();
    let done = done.says([format!("{dead}: started: it should run and did not").as_str()]);
    assert!(!done.stderr.contains(&stopped), "{done}");
    assert_eq!(machine.workload(&stopped).await.status, WorkloadStatus::Stopped);
    let again = machine.thv(["reconcile"]).await.ok();
    assert_eq!(again.stderr, "", "nothing is left to do");
}
