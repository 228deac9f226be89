//! What is told of what happens.

#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "the names of the promises say what they are"
)]

use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::bench::Bench;
use super::promises::SHORT;
use super::{Outcome, Server};
use crate::{EventFilter, EventKind, Result, RuntimeEvent};

type Events = BoxStream<'static, Result<RuntimeEvent>>;

pub async fn events_tell_the_life_of_an_instance(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().events, "events")?;
    let spec = bench.spec(Server::Echo)?;
    let filter = EventFilter::of(spec.name.clone());
    let mut events = bench.ok(bench.runtime.events(filter).await, "subscribe");
    assert_eq!(bench.event(&mut events).await, EventKind::Synced);
    bench.deploy(&spec).await;
    assert_eq!(bench.event(&mut events).await, EventKind::Created);
    assert_eq!(bench.event(&mut events).await, EventKind::Started);
    bench.stop(&spec, SHORT).await;
    assert!(matches!(bench.event(&mut events).await, EventKind::Exited { .. }));
    bench.remove(&spec).await;
    assert_eq!(bench.event(&mut events).await, EventKind::Removed);
    Ok(())
}

pub async fn events_of_one_workload_are_no_other_ones(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().events, "events")?;
    let spec = bench.spec(Server::Echo)?;
    // A name that begins like it is the one that a careless filter lets through.
    let other = bench.spec_beside(&spec, Server::Echo)?;
    let filter = EventFilter::of(spec.name.clone());
    let mut events = bench.ok(bench.runtime.events(filter).await, "subscribe");
    let mut all = bench.ok(bench.runtime.events(EventFilter::default()).await, "subscribe");
    assert_eq!(bench.event(&mut events).await, EventKind::Synced);
    bench.deploy(&other).await;
    bench.stop(&other, SHORT).await;
    bench.remove(&other).await;
    bench.deploy(&spec).await;
    bench.remove(&spec).await;
    let told = async |events: &mut Events| {
        let mut told = BTreeSet::new();
        loop {
            let event = bench.soon("an event", events.next()).await.expect("they go on");
            let event = bench.ok(event, "read events");
            if !event.workload.is_empty() {
                told.insert(event.workload.clone());
            }
            if event.workload == spec.name.as_str() && event.kind == EventKind::Removed {
                return told;
            }
        }
    };
    let (heard, heard_of_all) = (told(&mut events).await, told(&mut all).await);
    assert_eq!(heard, BTreeSet::from([spec.name.to_string()]));
    assert!(heard_of_all.contains(other.name.as_str()), "{heard_of_all:?}");
    Ok(())
}
