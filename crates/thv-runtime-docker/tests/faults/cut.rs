//! Connections that are cut at each call of a verb in turn.

use futures_util::future::join_all;
use thv_runtime::{DeployOutcome, Expect, InstanceRef, InstanceState, Runtime};
use thv_runtime_docker::{DockerConfig, DockerRuntime};

use crate::SHORT;
use crate::support::meddler::{Do, Meddler};
use crate::support::{TestEngine, soon};

/// When the connection of a call is cut: before the engine heard it, before its answer, in the middle of that.
#[derive(Debug, Clone, Copy)]
enum When {
    Before,
    After,
    Within,
}

const EVER: [When; 3] = [When::Before, When::After, When::Within];

/// A runtime behind a socket that cuts the call of that number; [`what`](Self::what) once it did.
struct Cut {
    _folder: tempfile::TempDir,
    socket: Meddler,
    number: usize,
    runtime: DockerRuntime,
}

impl Cut {
    fn new(engine: &TestEngine, number: usize, when: When) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let socket = Meddler::open(&path, engine.socket(), move |at, _| match when {
            _ if at != number => Do::Forward,
            When::Before => Do::CutBefore,
            When::After => Do::CutAfter,
            When::Within => Do::CutWithin,
        });
        Self {
            _folder: folder,
            socket,
            number,
            runtime: DockerRuntime::new(DockerConfig::at(&path)),
        }
    }

    /// What was cut; `None` when there were not so many calls.
    fn what(&self) -> Option<String> {
        self.socket.calls().get(self.number).cloned()
    }
}

/// Beyond any number of calls that one verb makes.
const CALLS: usize = 40;

#[tokio::test]
async fn a_deployment_that_is_cut_anywhere_leaves_nothing() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    // Each waits most of its time for an engine that may still be at it.
    join_all(EVER.map(|when| deployments_cut(&engine, when))).await;
}

async fn deployments_cut(engine: &TestEngine, when: When) {
    for number in 0..CALLS {
        let cut = Cut::new(engine, number, when);
        let mut spec = engine.spec(&["echo"]);
        // It attaches as well, as each stdio server is deployed.
        spec.private_output = true;
        let deployed = soon("the deployment", cut.runtime.deploy(&spec)).await;
        let Some(what) = cut.what() else {
            deployed.unwrap();
            engine.remove(&spec.name).await;
            assert!(number > 6, "it made only {number} calls");
            return;
        };
        if deployed.is_err() {
            let left = engine.runtime.inspect(&spec.name).await.unwrap();
            assert!(left.is_none(), "{what} ({when:?}) left {left:?}");
            cut.runtime.deploy(&spec).await.unwrap();
        }
        engine.remove(&spec.name).await;
    }
    panic!("more calls than were cut");
}

#[tokio::test]
async fn a_start_that_is_cut_anywhere_leaves_the_container_stopped() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    join_all(EVER.map(|when| starts_cut(&engine, when))).await;
}

async fn starts_cut(engine: &TestEngine, when: When) {
    let mut spec = engine.spec(&["echo"]);
    spec.private_output = true;
    let which = InstanceRef::named(spec.name.clone());
    spec.expect = Expect::Instance(engine.runtime.deploy(&spec).await.unwrap().instance.id);
    for number in 0..CALLS {
        engine.runtime.stop(&which, SHORT).await.unwrap();
        let cut = Cut::new(engine, number, when);
        let deployed = soon("the deployment", cut.runtime.deploy(&spec)).await;
        let Some(what) = cut.what() else {
            assert_eq!(deployed.unwrap().outcome, DeployOutcome::Started);
            engine.remove(&spec.name).await;
            return;
        };
        if deployed.is_err() {
            let left = engine.runtime.inspect(&spec.name).await.unwrap().unwrap();
            assert_eq!(left.state, InstanceState::Stopped, "{what} ({when:?})");
            cut.runtime.deploy(&spec).await.unwrap();
        }
    }
    panic!("more calls than were cut");
}

#[tokio::test]
async fn a_stop_or_removal_that_is_cut_anywhere_is_done_by_the_next() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    join_all(EVER.map(|when| stops_and_removals_cut(&engine, when))).await;
}

async fn stops_and_removals_cut(engine: &TestEngine, when: When) {
    for number in 0..CALLS {
        let spec = engine.spec(&["echo"]);
        let which = InstanceRef::named(spec.name.clone());
        engine.runtime.deploy(&spec).await.unwrap();
        let cut = Cut::new(engine, number, when);
        let _either = soon("the stop", cut.runtime.stop(&which, SHORT)).await;
        let stop_was_cut = cut.what().is_some();
        engine.runtime.stop(&which, SHORT).await.unwrap();
        let stopped = engine.runtime.inspect(&spec.name).await.unwrap().unwrap();
        assert_eq!(stopped.state, InstanceState::Stopped, "{:?}", cut.what());

        let cut = Cut::new(engine, number, when);
        let removed = soon("the removal", cut.runtime.remove(&which)).await;
        if let Some(what) = cut.what()
            && what.starts_with("DELETE /containers/")
        {
            // Asked for once more, whatever became of it the first time.
            removed.unwrap_or_else(|error| panic!("{what} ({when:?}): {error:?}"));
        }
        let remove_was_cut = cut.what().is_some();
        engine.runtime.remove(&which).await.unwrap();
        assert!(
            engine.runtime.inspect(&spec.name).await.unwrap().is_none(),
            "{:?}",
            cut.what()
        );
        if !stop_was_cut && !remove_was_cut {
            return;
        }
    }
    panic!("more calls than were cut");
}
