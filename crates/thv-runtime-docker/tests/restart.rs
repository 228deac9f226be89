//! An engine that goes away and comes back, with all that was under way.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it is skipped"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;
use support::{TestEngine, soon, until};
use thv_runtime::{EventFilter, EventKind, Expect, InstanceRef, InstanceState, Runtime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

/// A Docker of the test's own, as `scripts/engine` makes it.
struct Private(tempfile::TempDir);

impl Private {
    /// `None` where the other engine of the tests is not from that script either.
    async fn start() -> Option<Self> {
        let script = script();
        let there = Command::new(&script).args(["docker", "status"]).output();
        if !there.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no engine of scripts/engine runs");
            return None;
        }
        let engine = Self(tempfile::tempdir_in("/tmp").unwrap());
        engine.run("start").await;
        Some(engine)
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("docker.sock")
    }

    async fn run(&self, command: &'static str) {
        let folder = self.0.path().to_owned();
        tokio::task::spawn_blocking(move || run(&folder, command))
            .await
            .unwrap();
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        run(self.0.path(), "stop");
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/engine")
}

fn run(folder: &Path, command: &str) {
    let mut call = Command::new(script());
    let output = call
        .args(["docker", command, "--in"])
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_engine_is_found_again_with_all_that_was_under_way() {
    let Some(private) = Private::start().await else {
        return;
    };
    let engine = TestEngine::at(private.socket()).await;
    let runtime = &engine.runtime;
    let mut spec = engine.spec(&["echo"]);
    let which = InstanceRef::named(spec.name.clone());
    spec.expect = Expect::Instance(runtime.deploy(&spec).await.unwrap().instance.id);
    let mut events = runtime.events(EventFilter::of(spec.name.clone())).await.unwrap();
    let mut next = async || soon("an event", events.next()).await.unwrap().unwrap().kind;
    assert_eq!(next().await, EventKind::Synced);

    for pause in [0, 20, 200] {
        // A deployment is under way, wherever it is by then.
        let cut = engine.spec(&["echo"]);
        let deploying = {
            let (runtime, cut) = (runtime.clone(), cut.clone());
            tokio::spawn(async move { runtime.deploy(&cut).await })
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        private.run("stop").await;
        let _either = timeout(Duration::from_mins(3), deploying).await.unwrap();

        assert_eq!(
            soon("the list", runtime.list()).await.unwrap_err().code(),
            "unavailable"
        );
        let error = soon("the deployment", runtime.deploy(&spec)).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        let error = soon("the attachment", runtime.attach(&which)).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");

        private.run("start").await;
        while next().await != EventKind::Gap {}
        until("the end of the server", async || {
            let seen = runtime.inspect(&spec.name).await.unwrap().unwrap();
            (seen.state == InstanceState::Stopped).then_some(())
        })
        .await;
        let deployed = runtime.deploy(&spec).await.unwrap();
        spec.expect = Expect::Instance(deployed.instance.id);
        while next().await != EventKind::Started {}
        let mut stdio = runtime.attach(&which).await.unwrap();
        stdio.stdin.write_all(b"hello\n").await.unwrap();
        let mut lines = BufReader::new(&mut stdio.stdout).lines();
        assert_eq!(
            soon("the answer", lines.next_line()).await.unwrap().as_deref(),
            Some("hello")
        );

        // What was cut off does not stand in the way.
        engine.remove(&cut.name).await;
        runtime.deploy(&cut).await.unwrap();
        engine.remove(&cut.name).await;
        drop(stdio);
    }
    engine.remove(&spec.name).await;
}
