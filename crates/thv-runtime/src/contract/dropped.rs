//! The promises about calls that were dropped half-way: a second call of the same method, or `remove`, heals.

#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "the names of the promises say what they are"
)]

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::bench::Bench;
use super::promises::{assert_running, ended};
use super::{Outcome, Server};
use crate::{DeploySpec, Expect, InstanceId, InstanceRef, InstanceState, StopOptions};

const GRACE: Duration = Duration::from_secs(2);

/// After how many microseconds a call is dropped, wherever it is by then; it may also be done.
const MICROS: [u64; 6] = [0, 50, 500, 2_000, 10_000, 50_000];

async fn dropped<T>(micros: u64, call: impl Future<Output = T>) {
    let _dropped = timeout(Duration::from_micros(micros), call).await;
}

fn named(spec: &DeploySpec) -> InstanceRef {
    InstanceRef::named(spec.name.clone())
}

pub async fn a_dropped_deploy_is_healed(bench: &Bench<'_>) -> Outcome {
    for micros in MICROS {
        let spec = bench.spec(Server::Echo)?;
        dropped(micros, bench.runtime.deploy(&spec)).await;
        bench.remove(&spec).await;
        let id = bench.deploy(&spec).await.instance.id;
        assert_running(bench, &spec.name, &id).await;
        bench.remove(&spec).await;

        // An engine may go on with what it was asked for, so what is there may change after it was looked at.
        dropped(micros, bench.runtime.deploy(&spec)).await;
        let again = || async {
            let found = bench.ok(bench.runtime.inspect(&spec.name).await, "inspect");
            let mut spec = spec.clone();
            spec.expect = found.map_or(Expect::Absent, |found| Expect::Instance(found.id));
            match bench.runtime.deploy(&spec).await {
                Err(crate::Error::Conflict { .. }) => None,
                other => Some(bench.ok(other, "deploy again")),
            }
        };
        let id = bench.until("a second deploy", again).await.instance.id;
        assert_running(bench, &spec.name, &id).await;
        bench.remove(&spec).await;
    }
    Ok(())
}

pub async fn a_dropped_stop_is_healed(bench: &Bench<'_>) -> Outcome {
    for micros in MICROS {
        let spec = bench.spec(Server::IgnoresTerm)?;
        bench.deploy(&spec).await;
        let opts = StopOptions { grace: GRACE };
        dropped(micros, bench.runtime.stop(&named(&spec), opts)).await;
        bench.stop(&spec, Duration::from_millis(300)).await;
        assert_eq!(ended(bench, &spec.name).await.state, InstanceState::Stopped);
        bench.remove(&spec).await;
    }
    Ok(())
}

pub async fn a_dropped_remove_is_healed(bench: &Bench<'_>) -> Outcome {
    for micros in MICROS {
        let spec = bench.spec(Server::Echo)?;
        bench.deploy(&spec).await;
        dropped(micros, bench.runtime.remove(&named(&spec))).await;
        bench.remove(&spec).await;
        let left = bench.ok(bench.runtime.inspect(&spec.name).await, "inspect");
        assert!(left.is_none(), "{left:?}");
        // Nothing of the first is in the way of another.
        let id = bench.deploy(&spec).await.instance.id;
        assert_running(bench, &spec.name, &id).await;
        bench.remove(&spec).await;
    }
    Ok(())
}

pub async fn a_dropped_attach_is_healed(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().attach, "attachments")?;
    for micros in MICROS {
        let spec = bench.spec(Server::Echo)?;
        bench.deploy(&spec).await;
        dropped(micros, bench.runtime.attach(&named(&spec))).await;
        // It was not attached yet, or the end of the attachment ends the server; nobody stays attached.
        let again = || async {
            match bench.runtime.attach(&named(&spec)).await {
                Err(crate::Error::AlreadyAttached { .. }) => None,
                Err(crate::Error::NotRunning { .. }) => Some(()),
                other => {
                    bench.ok(other, "attach again");
                    Some(())
                }
            }
        };
        bench
            .until("an attachment, or the end of the server", again)
            .await;
        bench.remove(&spec).await;
    }
    Ok(())
}

pub async fn a_dropped_stop_does_not_reach_the_next_deploy(bench: &Bench<'_>) -> Outcome {
    let grace = Duration::from_millis(300);
    for millis in [0, 5, 50, 200] {
        let mut spec = bench.spec(Server::IgnoresTerm)?;
        spec.expect = Expect::Instance(bench.deploy(&spec).await.instance.id);
        let which = InstanceRef::named(spec.name.clone());
        // Dropped wherever it is by then.
        let stop = bench.runtime.stop(&which, StopOptions { grace });
        let _dropped = timeout(Duration::from_millis(millis), stop).await;
        let id = bench.deploy(&spec).await.instance.id;
        assert_stays(bench, &spec.name, &id, grace * 4).await;
        bench.remove(&spec).await;
    }
    Ok(())
}

pub async fn a_dropped_remove_does_not_reach_the_next_deploy(bench: &Bench<'_>) -> Outcome {
    for micros in [0, 500, 5_000, 50_000] {
        let mut spec = bench.spec(Server::Echo)?;
        let id = bench.deploy(&spec).await.instance.id;
        let which = InstanceRef::named(spec.name.clone());
        let _dropped = timeout(Duration::from_micros(micros), bench.runtime.remove(&which)).await;
        spec.expect = Expect::Instance(id);
        let id = match bench.runtime.deploy(&spec).await {
            Ok(deployed) => deployed.instance.id,
            Err(error) => {
                assert_eq!(error.code(), "conflict", "{error:?}");
                bench.remove(&spec).await;
                spec.expect = Expect::Absent;
                bench.deploy(&spec).await.instance.id
            }
        };
        assert_stays(bench, &spec.name, &id, Duration::from_millis(200)).await;
        bench.remove(&spec).await;
    }
    Ok(())
}

/// Nothing ends or removes it any more.
async fn assert_stays(bench: &Bench<'_>, name: &thv_core::WorkloadName, id: &InstanceId, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert_running(bench, name, id).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
