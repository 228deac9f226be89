//! Changes of files, by anybody, without polling.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use notify::event::{AccessKind, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use thv_core::WorkloadName;
use tokio::sync::Notify;

use crate::{Changes, Error, Result};

/// The names that changed and were not told yet: bounded by the number of workloads.
#[derive(Default)]
pub(crate) struct Changed {
    names: Mutex<BTreeSet<WorkloadName>>,
    some: Notify,
}

impl Changed {
    pub(crate) fn tell(&self, name: WorkloadName) {
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name);
        self.some.notify_one();
    }

    fn take(&self) -> Option<WorkloadName> {
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_first()
    }

    pub(crate) async fn next(&self) -> WorkloadName {
        loop {
            if let Some(name) = self.take() {
                return name;
            }
            self.some.notified().await;
        }
    }
}

/// The names of the `<name>.json` that change in `folders`. One inotify instance, as long as the stream lives.
pub(crate) fn changes(folders: &[&Path]) -> Result<Changes> {
    let changed = Arc::new(Changed::default());
    let failed = |error: notify::Error| Error::io("watch", folders[0], std::io::Error::other(error));
    let mut watcher = notify::recommended_watcher({
        let changed = Arc::clone(&changed);
        move |event: notify::Result<notify::Event>| match event {
            // Reading is no change.
            Ok(event) if matches!(event.kind, EventKind::Access(kind) if !matches!(kind, AccessKind::Close(_))) => {}
            Ok(event) => event.paths.iter().filter_map(|path| name_of(path)).for_each(|name| changed.tell(name)),
            Err(error) => tracing::warn!(%error, "a change of the records may be missed"),
        }
    })
    .map_err(failed)?;
    for folder in folders {
        watcher
            .watch(folder, RecursiveMode::NonRecursive)
            .map_err(failed)?;
    }
    Ok(stream(changed, Some(watcher)))
}

pub(crate) fn stream(changed: Arc<Changed>, watcher: Option<RecommendedWatcher>) -> Changes {
    futures_util::stream::unfold((changed, watcher), |(changed, watcher)| async move {
        let name = changed.next().await;
        Some((name, (changed, watcher)))
    })
    .boxed()
}

fn name_of(path: &Path) -> Option<WorkloadName> {
    let file = path.file_name()?.to_str()?;
    WorkloadName::new(file.strip_suffix(".json")?).ok()
}
