//! Work that is cut off at any of its calls, and what comes of it.

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use thv_runtime::{DeploySpec, Expect, InstanceRef, InstanceState, Runtime};
use thv_runtime_docker::{DockerConfig, DockerRuntime};

use crate::SHORT;
use crate::support::isolating::Isolating;
use crate::support::meddler::{Do, Meddler};
use crate::support::raw::api;
use crate::support::{soon, until};

/// So many workloads beside each other, where each waits most of its time for the engine.
const AT_ONCE: usize = 3;

/// The number of the call that is cut, and whether the engine has heard it by then.
type Cut = (usize, bool);

impl Isolating {
    /// Deploys through a socket that cuts the call of this number, before or after the engine heard it. The calls that were
    /// made, and whether the deployment succeeded.
    async fn deploy_cut(&self, spec: &DeploySpec, cut: Option<Cut>) -> (Vec<String>, bool) {
        let work = async |runtime: DockerRuntime| runtime.deploy(spec).await;
        let (calls, deployed) = self.cut(cut, work).await;
        (calls, deployed.is_ok())
    }

    /// What comes of work with a runtime whose call of this number is cut, once the engine has heard it or before, and the calls.
    async fn cut<T>(&self, cut: Option<Cut>, work: impl AsyncFnOnce(DockerRuntime) -> T) -> (Vec<String>, T) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let socket = Meddler::open(&path, self.engine.socket(), move |at, _| match cut {
            Some((number, true)) if number == at => Do::CutAfter,
            Some((number, false)) if number == at => Do::CutBefore,
            _ => Do::Forward,
        });
        let config = DockerConfig::at(&path).with_egress_helper(&self.helper);
        let done = soon("an end", work(DockerRuntime::new(config))).await;
        (socket.calls(), done)
    }

    /// So many of a workload and its helpers run. The engine's list lags behind its answers.
    async fn running(&self, spec: &DeploySpec, count: usize, after: &str) {
        let name = format!("/{}", spec.name);
        until(&format!("{count} that run after {after}"), async || {
            let path = "/v1.41/containers/json";
            let (_, answer) = api(self.engine.socket(), "GET", path, &Value::Null).await;
            let rows: Vec<Value> = serde_json::from_str(&answer).unwrap();
            let of_it = |row: &&Value| row["Names"][0].as_str().unwrap().starts_with(&name);
            (rows.iter().filter(of_it).count() == count).then_some(())
        })
        .await;
    }
}

/// Each call that changes something once it is heard, the first of them before that, and some that look.
fn cuts(calls: &[String]) -> Vec<Cut> {
    let first = calls.iter().position(|call| !call.starts_with("GET "));
    let changed = (0..calls.len()).filter(|&number| !calls[number].starts_with("GET "));
    let looked = (0..calls.len()).filter(|&number| calls[number].starts_with("GET ") && number % 6 == 0);
    let before = first.into_iter().chain(looked).map(|number| (number, false));
    changed.map(|number| (number, true)).chain(before).collect()
}

/// Each call once: one that changes something once it is heard.
fn each_once(calls: &[String]) -> Vec<Cut> {
    let heard = calls.iter().map(|call| !call.starts_with("GET "));
    heard.enumerate().collect()
}

#[tokio::test]
async fn an_isolated_deployment_that_is_cut_anywhere_leaves_nothing_that_the_next_does_not_heal() {
    let Some(on) = Isolating::get().await else { return };
    let spec = on.spec(&["echo"]);
    let (calls, deployed) = on.deploy_cut(&spec, None).await;
    assert!(deployed, "{calls:?}");
    on.remove(&spec).await;
    let cuts = cuts(&calls);
    assert!(cuts.len() > 8, "{calls:?}");
    let healed = stream::iter(cuts).for_each_concurrent(AT_ONCE, async |(number, heard)| {
        let spec = on.spec(&["echo"]);
        let what = format!("{} (heard: {heard})", calls[number]);
        let (_, deployed) = on.deploy_cut(&spec, Some((number, heard))).await;
        if !deployed {
            let left = on.containers(spec.name.as_str()).await;
            assert!(left.is_empty(), "{what} left {left:?}");
            let healed = on.runtime.deploy(&spec).await.unwrap();
            assert_eq!(healed.instance.state, InstanceState::Running, "{what}");
        }
        on.remove(&spec).await;
    });
    healed.await;
}

/// None of the workload and its helpers runs on after the stop, and all do after the start.
#[tokio::test]
async fn a_stop_or_start_of_an_isolated_workload_that_is_cut_anywhere_is_done_by_the_next() {
    let Some(on) = Isolating::get().await else { return };
    let mut spec = on.spec(&["echo"]);
    spec.expect = Expect::Instance(on.runtime.deploy(&spec).await.unwrap().instance.id);
    let which = InstanceRef::named(spec.name.clone());
    let (stops, _) = on
        .cut(None, async |runtime| runtime.stop(&which, SHORT).await)
        .await;
    let (starts, _) = on.cut(None, async |runtime| runtime.deploy(&spec).await).await;
    on.remove(&spec).await;
    let (stops, starts) = (each_once(&stops), cuts(&starts));
    let pairs =
        (0..stops.len().max(starts.len())).map(|at| (stops[at % stops.len()], starts[at % starts.len()]));
    let pairs: Vec<_> = pairs.collect();
    let workloads = pairs
        .chunks(pairs.len().div_ceil(AT_ONCE))
        .map(|pairs| stops_and_starts_cut(&on, pairs));
    join_all(workloads).await;
}

async fn stops_and_starts_cut(on: &Isolating, cuts: &[(Cut, Cut)]) {
    let mut spec = on.spec(&["echo"]);
    spec.expect = Expect::Instance(on.runtime.deploy(&spec).await.unwrap().instance.id);
    let which = InstanceRef::named(spec.name.clone());
    for &(stop_cut, start_cut) in cuts {
        let (calls, _) = on
            .cut(Some(stop_cut), async |runtime| runtime.stop(&which, SHORT).await)
            .await;
        let what = format!("{:?} (heard: {})", calls.get(stop_cut.0), stop_cut.1);
        on.runtime.stop(&which, SHORT).await.unwrap();
        on.running(&spec, 0, &what).await;

        let (calls, _) = on
            .cut(Some(start_cut), async |runtime| runtime.deploy(&spec).await)
            .await;
        let what = format!("{:?} (heard: {})", calls.get(start_cut.0), start_cut.1);
        let found = on.runtime.inspect(&spec.name).await.unwrap();
        spec.expect = found.map_or(Expect::Absent, |found| Expect::Instance(found.id));
        let deployed = on.runtime.deploy(&spec).await;
        let deployed = deployed.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        spec.expect = Expect::Instance(deployed.instance.id);
        on.running(&spec, 3, &what).await;
    }
    on.remove(&spec).await;
}

#[tokio::test]
async fn a_removal_of_an_isolated_workload_that_is_cut_anywhere_is_done_by_the_next() {
    let Some(on) = Isolating::get().await else { return };
    let removed = async |cut| {
        let spec = on.spec(&["echo"]);
        on.runtime.deploy(&spec).await.unwrap();
        let which = InstanceRef::named(spec.name.clone());
        let (calls, _) = on.cut(cut, async |runtime| runtime.remove(&which).await).await;
        on.remove(&spec).await;
        calls
    };
    let cuts = each_once(&removed(None).await);
    let all = stream::iter(cuts).for_each_concurrent(AT_ONCE, async |cut| {
        removed(Some(cut)).await;
    });
    all.await;
}
