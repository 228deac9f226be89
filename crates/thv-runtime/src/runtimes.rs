//! A routed set of runtimes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::{Error, Instance, Result, Runtime, RuntimeKind};

/// How long one runtime may keep a list waiting.
const LIST_TIMEOUT: Duration = Duration::from_secs(15);

/// The priority of a runtime for which none is said, as that of a container engine.
const USUAL_PRIORITY: u32 = 100;

/// The runtimes of an application, by kind. A workload's record names the one that it belongs to.
///
/// For what no record names one is the default, whoever brought it: the one that [`with_default`](Self::with_default) names,
/// else that with the lowest number as its priority, and among equals the first one added. Whether it answers does not
/// matter: another one would hold other workloads.
#[derive(Debug, Clone)]
pub struct Runtimes {
    by_kind: BTreeMap<RuntimeKind, Entry>,
    default: Option<RuntimeKind>,
    list_timeout: Duration,
}

#[derive(Debug, Clone)]
struct Entry {
    runtime: Arc<dyn Runtime>,
    priority: u32,
    /// How many were there before it.
    place: usize,
}

impl Default for Runtimes {
    fn default() -> Self {
        Self {
            by_kind: BTreeMap::new(),
            default: None,
            list_timeout: LIST_TIMEOUT,
        }
    }
}

/// What one runtime answered to a list.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listing {
    /// The runtime.
    pub runtime: RuntimeKind,
    /// Its instances, or why it did not answer.
    pub instances: Result<Vec<Instance>>,
}

impl Runtimes {
    /// No runtime: enough for remote workloads.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a runtime with priority 100; one of the same kind is replaced.
    #[must_use]
    pub fn with(self, runtime: Arc<dyn Runtime>) -> Self {
        self.with_priority(runtime, USUAL_PRIORITY)
    }

    /// Adds a runtime; one of the same kind is replaced. A lower number goes first.
    #[must_use]
    pub fn with_priority(mut self, runtime: Arc<dyn Runtime>, priority: u32) -> Self {
        let kind = runtime.kind().clone();
        let place = self
            .by_kind
            .get(&kind)
            .map_or(self.by_kind.len(), |entry| entry.place);
        let entry = Entry {
            runtime,
            priority,
            place,
        };
        self.by_kind.insert(kind, entry);
        self
    }

    /// Makes `kind` the one that is used when nothing else is said.
    #[must_use]
    pub fn with_default(mut self, kind: RuntimeKind) -> Self {
        self.default = Some(kind);
        self
    }

    /// How long one runtime may keep a list waiting; 15 s by default.
    #[must_use]
    pub fn with_list_timeout(mut self, limit: Duration) -> Self {
        self.list_timeout = limit;
        self
    }

    /// The runtime of that kind.
    ///
    /// # Errors
    /// [`Error::UnknownRuntime`] with those that there are.
    pub fn get(&self, kind: &RuntimeKind) -> Result<Arc<dyn Runtime>> {
        self.by_kind
            .get(kind)
            .map(|entry| entry.runtime.clone())
            .ok_or_else(|| Error::UnknownRuntime {
                runtime: kind.clone(),
                detail: self.choices(),
            })
    }

    /// The default runtime's kind, if there is one.
    pub fn default_kind(&self) -> Option<&RuntimeKind> {
        let first = || {
            self.by_kind
                .iter()
                .min_by_key(|(_, entry)| (entry.priority, entry.place))
        };
        self.default.as_ref().or_else(|| first().map(|(kind, _)| kind))
    }

    /// The priority of that kind; lower goes first.
    pub fn priority(&self, kind: &RuntimeKind) -> Option<u32> {
        self.by_kind.get(kind).map(|entry| entry.priority)
    }

    /// Whether the default was named, rather than found by priority.
    pub fn default_is_named(&self) -> bool {
        self.default.is_some()
    }

    /// All kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &RuntimeKind> {
        self.by_kind.keys()
    }

    /// Lists all runtimes at once. One that is down or does not answer in time is its own answer, not a failure of the
    /// list.
    pub async fn list(&self) -> Vec<Listing> {
        self.list_each(self.by_kind.values()).await
    }

    /// As [`list`](Self::list), only those of `kinds`.
    pub async fn list_of(&self, kinds: &BTreeSet<RuntimeKind>) -> Vec<Listing> {
        self.list_each(kinds.iter().filter_map(|kind| self.by_kind.get(kind)))
            .await
    }

    async fn list_each(&self, entries: impl Iterator<Item = &Entry>) -> Vec<Listing> {
        join_all(entries.map(|entry| async move {
            let runtime = &entry.runtime;
            let listed = timeout(self.list_timeout, runtime.list()).await;
            let instances = listed.unwrap_or_else(|_| {
                Err(Error::Unavailable {
                    runtime: runtime.kind().clone(),
                    detail: format!("it did not list its instances within {:?}", self.list_timeout),
                    source: None,
                })
            });
            Listing {
                runtime: runtime.kind().clone(),
                instances,
            }
        }))
        .await
    }

    fn choices(&self) -> String {
        if self.by_kind.is_empty() {
            return "no runtime is configured".to_owned();
        }
        let kinds: Vec<_> = self.by_kind.keys().map(RuntimeKind::as_str).collect();
        format!("there are {}", kinds.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryRuntime;

    #[test]
    fn the_default_is_the_named_one_else_the_lowest_priority_else_the_first() {
        let of = |kind: &str| Arc::new(MemoryRuntime::new().with_kind(kind)) as Arc<dyn Runtime>;
        let default = |runtimes: &Runtimes| runtimes.default_kind().map(ToString::to_string);
        assert_eq!(default(&Runtimes::new()), None);
        let two = Runtimes::new().with(of("z")).with(of("a"));
        assert_eq!(default(&two).as_deref(), Some("z"));
        let three = two.with_priority(of("mine"), 50);
        assert_eq!(default(&three).as_deref(), Some("mine"));
        assert!(!three.default_is_named() && three.priority(&"mine".into()) == Some(50));
        let named = three.clone().with_default("a".into());
        assert_eq!(default(&named).as_deref(), Some("a"));
        assert!(named.default_is_named());
        // One of the same kind takes its place.
        let moved = three.with_priority(of("mine"), 150);
        assert_eq!(default(&moved).as_deref(), Some("z"));
    }
}
