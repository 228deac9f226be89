//! Changes of files, by anybody, without polling.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use inotify::{EventMask, Inotify, WatchMask};
use thv_core::WorkloadName;
use tokio::sync::Notify;

use crate::Changes;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Room for many events at a time; the kernel gives as many as fit.
const BUFFER: usize = 16 << 10;

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

/// The names of the `<name>.json` that change in `folders`: by one inotify instance, as long as the stream lives; where
/// none is to be had, by a look each second.
pub(crate) fn changes(folders: &[&Path]) -> Changes {
    let folders: Vec<PathBuf> = folders.iter().map(|folder| (*folder).to_owned()).collect();
    match told(&folders) {
        Ok(changes) => changes,
        Err(error) => {
            tracing::warn!(%error, "changes of the records are looked for each second");
            polled(folders)
        }
    }
}

/// Only changes are asked for: whoever reads a record must not wake those who listen.
fn told(folders: &[PathBuf]) -> io::Result<Changes> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CREATE | WatchMask::CLOSE_WRITE | WatchMask::MOVE | WatchMask::DELETE;
    for folder in folders {
        inotify.watches().add(folder, mask)?;
    }
    let events = inotify.into_event_stream(vec![0; BUFFER])?;
    // Where events were lost the stream ends: anything may have changed, and whoever listens looks, and listens again.
    let events = events.take_while(|event| {
        match event {
            Ok(event) if event.mask.contains(EventMask::Q_OVERFLOW) => {
                tracing::debug!("more changes of the records than can be told one by one");
                return ready(false);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "changes of the records are not heard any more"),
        }
        ready(event.is_ok())
    });
    let names = events.filter_map(async |event| name_of(Path::new(event.ok()?.name.as_deref()?)));
    Ok(names.boxed())
}

/// What a file looked like: when it was changed, and which one it was.
type Look = BTreeMap<WorkloadName, Vec<(SystemTime, u64)>>;

/// The same by looking. What changes between the call and the first look is told too.
fn polled(folders: Vec<PathBuf>) -> Changes {
    let before = look(&folders);
    let changes = futures_util::stream::unfold(before, move |before| {
        let folders = folders.clone();
        async move {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = tokio::task::spawn_blocking(move || look(&folders)).await.ok()?;
            let changed: BTreeSet<_> = now
                .keys()
                .chain(before.keys())
                .filter(|name| now.get(*name) != before.get(*name))
                .cloned()
                .collect();
            Some((futures_util::stream::iter(changed), now))
        }
    });
    changes.flatten().boxed()
}

fn look(folders: &[PathBuf]) -> Look {
    let mut found = Look::new();
    for entry in folders
        .iter()
        .filter_map(|folder| folder.read_dir().ok())
        .flatten()
        .flatten()
    {
        if let Some(name) = name_of(&entry.path())
            && let Ok(metadata) = entry.metadata()
            && let Ok(modified) = metadata.modified()
        {
            found.entry(name).or_default().push((modified, metadata.ino()));
        }
    }
    found
}

pub(crate) fn stream(changed: Arc<Changed>) -> Changes {
    futures_util::stream::unfold(changed, |changed| async move {
        let name = changed.next().await;
        Some((name, changed))
    })
    .boxed()
}

fn name_of(path: &Path) -> Option<WorkloadName> {
    let file = path.file_name()?.to_str()?;
    WorkloadName::new(file.strip_suffix(".json")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reading_wakes_nobody_and_changes_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("old.json"), "1").unwrap();
        let mut changes = changes(&[folder.path()]);
        std::fs::read(path("old.json")).unwrap();
        std::fs::read_dir(folder.path()).unwrap().count();
        std::fs::write(path("new.tmp"), "1").unwrap();
        std::fs::rename(path("new.tmp"), path("new.json")).unwrap();
        assert_eq!(
            changes.next().await,
            Some("new".parse().unwrap()),
            "the reading was told"
        );
        std::fs::remove_file(path("old.json")).unwrap();
        assert_eq!(changes.next().await, Some("old".parse().unwrap()));
    }

    #[tokio::test]
    async fn the_stream_ends_where_changes_were_lost() {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = changes(&[folder.path()]);
        let room = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let room: usize = room.trim().parse().unwrap();
        // Each makes an event at least, and the next one of the same kind is another file's.
        for number in 0..room {
            std::fs::write(folder.path().join(format!("{}.json", number % 2)), "").unwrap();
        }
        let mut told = 0;
        while changes.next().await.is_some() {
            told += 1;
        }
        assert!(told <= room, "{told} of {room}");
    }

    #[tokio::test]
    async fn changes_are_seen_without_events_too() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("old.json", "1");
        let mut changes = polled(vec![folder.path().to_owned(), folder.path().join("absent")]);
        write("new.json", "1");
        write("new.lock", "1");
        assert_eq!(changes.next().await, Some("new".parse().unwrap()));
        std::fs::remove_file(folder.path().join("old.json")).unwrap();
        assert_eq!(changes.next().await, Some("old".parse().unwrap()));
    }
}
