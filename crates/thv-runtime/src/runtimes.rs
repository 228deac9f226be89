//! A routed set of runtimes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::{Error, Instance, Result, Runtime, RuntimeKind};

/// How long one runtime may keep a list waiting.
const LIST_TIMEOUT: Duration = Duration::from_secs(15);

/// The runtimes of an application, by kind. A workload's record names the one that it belongs to.
#[derive(Debug, Clone)]
pub struct Runtimes {
    by_kind: BTreeMap<RuntimeKind, Arc<dyn Runtime>>,
    default: Option<RuntimeKind>,
    list_timeout: Duration,
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

    /// Adds a runtime; one of the same kind is replaced. The first one added is the default.
    #[must_use]
    pub fn with(mut self, runtime: Arc<dyn Runtime>) -> Self {
        let kind = runtime.kind().clone();
        self.default.get_or_insert_with(|| kind.clone());
        self.by_kind.insert(kind, runtime);
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
    pub fn get(&self, kind: &RuntimeKind) -> Result<Arc<dyn Runtime>> {
        self.by_kind
            .get(kind)
            .cloned()
            .ok_or_else(|| Error::UnknownRuntime {
                runtime: kind.clone(),
                detail: self.choices(),
            })
    }

    /// The default runtime's kind, if there is one.
    pub fn default_kind(&self) -> Option<&RuntimeKind> {
        self.default.as_ref()
    }

    /// All kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &RuntimeKind> {
        self.by_kind.keys()
    }

    /// Lists all runtimes at once. One that is down or does not answer in time is its own answer, not a failure of the
    /// list.
    pub async fn list(&self) -> Vec<Listing> {
        join_all(self.by_kind.values().map(|runtime| async move {
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
