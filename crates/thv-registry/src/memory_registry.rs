//! A registry of values.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::{Catalogue, Entry, Error, Registry, Result, Source};

/// A registry of the embedding program's own entries, and for tests one that fails on request.
///
/// ```
/// use thv_registry::{Entry, EntryInfo, ImageEntry, MemoryRegistry, Registry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> thv_registry::Result<()> {
/// let info = EntryInfo { name: "com.example/time".into(), ..EntryInfo::default() };
/// let entry = ImageEntry { info, image: "example/time:1.2.0".into(), ..ImageEntry::default() };
/// let registry = MemoryRegistry::new([Entry::Image(entry)]);
/// assert_eq!(registry.get("time").await?.name(), "com.example/time");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryRegistry {
    source: Source,
    catalogue: Mutex<Arc<Catalogue>>,
    down: Mutex<Option<String>>,
}

impl MemoryRegistry {
    /// A registry of these entries.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        Self::of(Catalogue::new(entries))
    }

    /// A registry of this catalogue.
    pub fn of(catalogue: Catalogue) -> Self {
        Self {
            source: Source::Memory,
            catalogue: Mutex::new(Arc::new(catalogue)),
            down: Mutex::new(None),
        }
    }

    /// The same registry, said to be elsewhere.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Replaces what it has.
    pub fn set(&self, catalogue: Catalogue) {
        *lock(&self.catalogue) = Arc::new(catalogue);
    }

    /// Makes every question fail as [`Unavailable`](Error::Unavailable) with these words, or answers again.
    pub fn set_down(&self, why: Option<&str>) {
        *lock(&self.down) = why.map(str::to_owned);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Registry for MemoryRegistry {
    fn source(&self) -> &Source {
        &self.source
    }

    async fn catalogue(&self) -> Result<Arc<Catalogue>> {
        match lock(&self.down).as_deref() {
            Some(why) => Err(Error::unavailable(self.source.to_string(), why)),
            None => Ok(lock(&self.catalogue).clone()),
        }
    }
}
