//! What happens to containers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, select_all};
use futures_util::stream::{self, BoxStream};
use thv_core::WorkloadName;
use thv_runtime::{EventFilter, EventKind, InstanceId, Result, RuntimeEvent};
use tokio::time::Instant;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::first_process::FirstProcess;
use crate::http::{Call, quoted};
use crate::lines::JsonLines;
use crate::wire::Event;
use crate::{helpers, lookup, quirks};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The events of workloads, of which the engine sends no others where it is one workload. When the engine goes away the
/// stream waits for it, with back-off, and then says `Gap`.
pub(crate) async fn events(
    engine: &Engine,
    filter: EventFilter,
) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
    let feeds = Feeds::of_workloads(engine, &filter)
        .await
        .map_err(|e| engine.error(e, "subscribe to events"))?;
    let subscription = Subscription {
        engine: engine.clone(),
        death: Death::of_workload(engine, &filter),
        filter,
        feeds: Some(feeds),
        since: Instant::now(),
        synced: false,
        pause: Duration::ZERO,
    };
    Ok(stream::unfold(subscription, |mut subscription| async move {
        let event = subscription.next().await;
        Some((Ok(event), subscription))
    })
    .boxed())
}

struct Subscription {
    engine: Engine,
    filter: EventFilter,
    feeds: Option<Feeds>,
    /// When those began.
    since: Instant,
    /// Of the one workload's container.
    death: Death,
    synced: bool,
    /// How long to wait before the engine is asked again: longer each time, until it goes on telling for a while.
    pause: Duration,
}

impl Subscription {
    async fn next(&mut self) -> RuntimeEvent {
        if !std::mem::replace(&mut self.synced, true) {
            return RuntimeEvent::of_stream(EventKind::Synced);
        }
        loop {
            let Some(feeds) = &mut self.feeds else {
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                match Feeds::of_workloads(&self.engine, &self.filter).await {
                    Ok(feeds) => {
                        (self.feeds, self.since) = (Some(feeds), Instant::now());
                        self.death = Death::of_workload(&self.engine, &self.filter);
                        return RuntimeEvent::of_stream(EventKind::Gap);
                    }
                    Err(cause) => tracing::debug!(error = %cause, "the engine is away"),
                }
                continue;
            };
            let event = tokio::select! {
                biased;
                event = feeds.next() => event,
                // Of one that was started meanwhile the engine says so first.
                instance = self.death.comes() => return self.ending(instance),
            };
            match event {
                Ok(Some(event)) => {
                    if let Some(event) = self.told(event) {
                        self.death.hear(&self.engine, &self.filter, &event);
                        return event;
                    }
                }
                Ok(None) => self.break_off(),
                Err(cause) => {
                    tracing::debug!(error = %cause, "the engine's events broke off");
                    self.break_off();
                }
            }
        }
    }

    /// The engine is asked again; at once, unless it breaks off again and again.
    fn break_off(&mut self) {
        self.feeds = None;
        if self.since.elapsed() >= LONGEST_PAUSE {
            self.pause = Duration::ZERO;
        }
    }

    fn ending(&self, instance: InstanceId) -> RuntimeEvent {
        let workload = only(&self.filter).map_or("", |name| name.as_str());
        RuntimeEvent::new(workload, Some(instance), EventKind::Ending)
    }

    /// What an engine's event means here, if it is asked for.
    fn told(&self, event: Event) -> Option<RuntimeEvent> {
        let actor = event.actor?;
        let labels = &actor.attributes;
        if let Some(workload) = helpers::helped(labels) {
            let ended = matches!(kind_of(&event.action, labels), Some(EventKind::Exited { .. }));
            return (ended && self.filter.accepts(workload))
                .then(|| RuntimeEvent::new(workload, None, EventKind::Impaired));
        }
        if thv_labels::is_auxiliary(labels) || !thv_labels::is_toolhive(labels) {
            return None;
        }
        let name = labels.get("name").map_or("", String::as_str);
        let workload = thv_labels::base_name(labels).unwrap_or(name).to_owned();
        if !self.filter.accepts(&workload) {
            return None;
        }
        let kind = kind_of(&event.action, labels)?;
        Some(RuntimeEvent::new(workload, Some(InstanceId::new(actor.id)), kind))
    }
}

/// The death of one workload's container, where it can be known before the engine tells. Several workloads would be a question
/// to the engine for each, so nothing is known of them.
enum Death {
    /// Nothing is known.
    Unknown,
    /// The engine is asked what runs.
    Asked(BoxFuture<'static, Option<(InstanceId, Arc<FirstProcess>)>>),
    /// It runs, until this comes.
    Of(InstanceId, BoxFuture<'static, ()>),
}

impl Death {
    /// Of what runs by now, if anything does.
    fn of_workload(engine: &Engine, filter: &EventFilter) -> Self {
        let Some(name) = only(filter) else {
            return Self::Unknown;
        };
        let (engine, name) = (engine.clone(), name.clone());
        Self::Asked(Box::pin(async move {
            let row = lookup::of_workload(&engine, &name).await.ok()??;
            process_of(&engine, row.id).await
        }))
    }

    /// Takes in what the engine says happened.
    fn hear(&mut self, engine: &Engine, filter: &EventFilter, event: &RuntimeEvent) {
        let Some(instance) = event.instance.as_ref().filter(|_| only(filter).is_some()) else {
            return;
        };
        match event.kind {
            EventKind::Started => {
                let (engine, id) = (engine.clone(), instance.to_string());
                *self = Self::Asked(Box::pin(async move { process_of(&engine, id).await }));
            }
            EventKind::Exited { .. } | EventKind::Removed => {
                if matches!(self, Self::Of(id, _) if id == instance) {
                    *self = Self::Unknown;
                }
            }
            _ => {}
        }
    }

    /// Comes when a container's process is dead, once for each; perhaps never. Cancel-safe.
    async fn comes(&mut self) -> InstanceId {
        loop {
            *self = match self {
                Self::Unknown => std::future::pending().await,
                Self::Asked(answer) => match answer.await {
                    Some((id, process)) => Self::Of(id, Box::pin(async move { process.ended().await })),
                    None => Self::Unknown,
                },
                Self::Of(id, ended) => {
                    ended.await;
                    let id = id.clone();
                    *self = Self::Unknown;
                    return id;
                }
            };
        }
    }
}

fn only(filter: &EventFilter) -> Option<&WorkloadName> {
    let mut names = filter.names.iter();
    names.next().filter(|_| names.next().is_none())
}

async fn process_of(engine: &Engine, id: String) -> Option<(InstanceId, Arc<FirstProcess>)> {
    let processes = engine.first_processes();
    let process = match processes.watched(&id) {
        Some(process) => process,
        None => processes.of(&lookup::details(engine, &id).await.ok()??)?,
    };
    Some((InstanceId::new(id), process))
}

fn kind_of(action: &str, attributes: &BTreeMap<String, String>) -> Option<EventKind> {
    Some(match action {
        "create" => EventKind::Created,
        "start" => EventKind::Started,
        // Podman says `died`.
        "die" | "died" => {
            let code = attributes
                .get("exitCode")
                .or_else(|| attributes.get("containerExitCode"));
            EventKind::Exited {
                code: code.and_then(|code| code.parse().ok()),
            }
        }
        "oom" => EventKind::OutOfMemory,
        "pause" => EventKind::Paused,
        "unpause" => EventKind::Resumed,
        // Podman says `remove`.
        "destroy" | "remove" => EventKind::Removed,
        _ => return None,
    })
}

/// The engine's events as they come.
pub(crate) struct Feed {
    body: BoxStream<'static, Result<Bytes, EngineError>>,
    lines: JsonLines,
}

impl Feed {
    /// The next event; `None` when the engine ended the stream. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, EngineError> {
        loop {
            if let Some(line) = self.lines.next_line() {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|e| EngineError::Nonsense(e.to_string()));
            }
            match self.body.next().await {
                Some(chunk) => self.lines.feed(&chunk?)?,
                None => return Ok(None),
            }
        }
    }
}

/// All that a subscription needs.
struct Feeds(Vec<Feed>);

impl Feeds {
    async fn of_workloads(engine: &Engine, filter: &EventFilter) -> Result<Self, EngineError> {
        let mut feeds = Vec::new();
        for label in labels(filter) {
            feeds.push(subscribe(engine, ("label", &label)).await?);
        }
        Ok(Self(feeds))
    }

    /// The next event of any; `None` when the engine ended one. Cancel-safe.
    async fn next(&mut self) -> Result<Option<Event>, EngineError> {
        let (event, _, _) = select_all(self.0.iter_mut().map(|feed| Box::pin(feed.next()))).await;
        event
    }
}

/// What the engine is asked for, each by itself: it knows "and" between labels and no "or".
fn labels(filter: &EventFilter) -> Vec<String> {
    match only(filter) {
        Some(name) => {
            let of = |key: &str| format!("{key}={name}");
            vec![of(thv_labels::BASE_NAME), of(helpers::HELPED)]
        }
        // A connection for each of many would cost more than the events of the others.
        None => vec![format!("{}=true", thv_labels::TOOLHIVE)],
    }
}

/// The events of one container.
pub(crate) async fn of_container(engine: &Engine, id: &str) -> Result<Feed, EngineError> {
    subscribe(engine, ("container", id)).await
}

/// The events of the containers that `which`, one of the engine's filters, means. The engine begins its answer when the
/// subscription stands.
async fn subscribe(engine: &Engine, which: (&str, &str)) -> Result<Feed, EngineError> {
    let mut filters = serde_json::json!({ "type": ["container"], which.0: [which.1] });
    if let Some(actions) = quirks::told_actions(&*engine.info().await?) {
        // What nobody is told need not wake anybody: a health check alone is three events. Nor may it fill the way to who
        // reads nothing for hours, behind which the engine waits.
        filters["event"] = serde_json::json!(actions);
    }
    let path = format!("/events?filters={}", quoted(&filters.to_string()));
    // Nothing may happen for days.
    let body = engine.call(|| Ok(Call::get(path.as_str()))).await?.stream(None);
    Ok(Feed {
        body,
        lines: JsonLines::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_workload_is_asked_for_by_its_name_and_its_helpers_by_theirs() {
        let filter = EventFilter::of("fetch".parse().unwrap());
        assert_eq!(
            labels(&filter),
            ["toolhive-basename=fetch", "thv-helped-workload=fetch"]
        );
        assert_eq!(labels(&EventFilter::default()), ["toolhive=true"]);
        let names = ["a", "b"].map(|name| name.parse().unwrap()).into();
        assert_eq!(labels(&EventFilter { names }), ["toolhive=true"]);
    }
}
