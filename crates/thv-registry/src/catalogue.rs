//! All that a registry has, and how a name finds something in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Entry, Error, Result};

/// The entries of a registry by their names.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// The version of the document.
    pub version: String,
    /// When the document was made, in RFC 3339 form.
    pub last_updated: String,
    /// How many skills and plugins the document has besides; nothing here reads them.
    pub others: usize,
    pub(crate) entries: BTreeMap<String, Arc<Entry>>,
    pub(crate) unusable: BTreeMap<String, String>,
}

impl Catalogue {
    /// A catalogue of these entries.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut catalogue = Self::default();
        for entry in entries {
            catalogue.insert(entry);
        }
        catalogue
    }

    /// Adds an entry. Of two with the same name an image counts, else the later one, as in ToolHive.
    pub fn insert(&mut self, entry: Entry) {
        let name = entry.name().to_owned();
        let there = self.entries.get(&name);
        if entry.as_remote().is_some() && there.is_some_and(|there| there.as_image().is_some()) {
            return;
        }
        self.entries.insert(name, Arc::new(entry));
    }

    /// Notes that there is an entry of that name which must not or cannot be used.
    pub fn insert_unusable(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.unusable.insert(name.into(), why.into());
    }

    /// All entries that can be used, in the order of their names.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// The others by name, and why.
    pub fn unusable(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.unusable
            .iter()
            .map(|(name, why)| (name.as_str(), why.as_str()))
    }

    /// How many entries can be used.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of that name, full or short.
    ///
    /// # Errors
    /// [`NotFound`](Error::NotFound), [`Ambiguous`](Error::Ambiguous), or [`Unusable`](Error::Unusable) when what the
    /// name means is an entry that cannot be used.
    pub fn get(&self, name: &str) -> Result<Arc<Entry>> {
        if let Some(entry) = self.entries.get(name) {
            return Ok(entry.clone());
        }
        if let Some(why) = self.unusable.get(name) {
            return Err(unusable(name, why));
        }
        if name.is_empty() || name.contains('/') {
            return Err(Error::not_found(name));
        }
        let short = |full: &str| full.rsplit_once('/').is_some_and(|(_, last)| last == name);
        let known = self.entries.keys().chain(self.unusable.keys());
        let mut candidates: Vec<&String> = known.filter(|full| short(full)).collect();
        candidates.sort();
        candidates.dedup();
        match candidates.as_slice() {
            [] => Err(Error::not_found(name)),
            [one] => match (self.entries.get(*one), self.unusable.get(*one)) {
                (Some(entry), _) => Ok(entry.clone()),
                (None, Some(why)) => Err(unusable(one, why)),
                (None, None) => Err(Error::not_found(name)),
            },
            several => Err(Error::Ambiguous {
                name: name.to_owned(),
                candidates: several.iter().map(|full| (*full).clone()).collect(),
            }),
        }
    }

    /// The entries whose name, description or tags contain `query`, in the order of their names.
    pub fn search(&self, query: &str) -> Vec<Arc<Entry>> {
        self.entries()
            .filter(|entry| entry.matches(query))
            .cloned()
            .collect()
    }
}

fn unusable(name: &str, why: &str) -> Error {
    Error::Unusable {
        name: name.to_owned(),
        detail: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EntryInfo, ImageEntry, RemoteEntry};

    fn info(name: &str) -> EntryInfo {
        EntryInfo {
            name: name.into(),
            description: format!("What {name} does"),
            tags: vec!["Database".into()],
            ..EntryInfo::default()
        }
    }

    fn image(name: &str) -> Entry {
        Entry::Image(ImageEntry {
            info: info(name),
            image: "a/b:1".into(),
            ..ImageEntry::default()
        })
    }

    fn remote(name: &str) -> Entry {
        Entry::Remote(RemoteEntry {
            info: info(name),
            url: "https://a.example".into(),
            ..RemoteEntry::default()
        })
    }

    #[test]
    fn a_name_is_found_exactly_or_by_its_last_part() {
        let catalogue = Catalogue::new([
            image("a/fetch"),
            image("a/time"),
            remote("b/time"),
            image("plain"),
        ]);
        assert_eq!(catalogue.get("a/fetch").unwrap().name(), "a/fetch");
        assert_eq!(catalogue.get("fetch").unwrap().name(), "a/fetch");
        assert_eq!(catalogue.get("plain").unwrap().name(), "plain");
        let error = catalogue.get("time").unwrap_err();
        assert_eq!(
            error.to_string(),
            "multiple servers match 'time': a/time, b/time — use the full name"
        );
        for absent in ["", "etch", "b/fetch", "Fetch", "/fetch", "a/"] {
            assert!(catalogue.get(absent).unwrap_err().is_not_found(), "{absent:?}");
        }
    }

    #[test]
    fn an_entry_that_cannot_be_used_is_not_absent() {
        let mut catalogue = Catalogue::new([image("a/x")]);
        catalogue.insert_unusable("b/sh", "its image is a program");
        catalogue.insert_unusable("b/x", "no package");
        for name in ["b/sh", "sh"] {
            assert_eq!(catalogue.get(name).unwrap_err().code(), "registry_entry_unusable");
        }
        assert_eq!(catalogue.get("x").unwrap_err().code(), "registry_ambiguous");
    }

    #[test]
    fn an_image_counts_before_a_remote_server_of_the_same_name() {
        for both in [[image("a/x"), remote("a/x")], [remote("a/x"), image("a/x")]] {
            assert!(Catalogue::new(both).get("x").unwrap().as_image().is_some());
        }
    }

    #[test]
    fn a_search_looks_at_name_description_and_tags() {
        let catalogue = Catalogue::new([image("b/two"), image("a/one")]);
        let names = |query: &str| -> Vec<String> {
            let found = catalogue.search(query);
            found.iter().map(|entry| entry.name().to_owned()).collect()
        };
        assert_eq!(names("DATAbase"), ["a/one", "b/two"]);
        assert_eq!(names("what b"), ["b/two"]);
        assert_eq!(names("/ONE"), ["a/one"]);
        assert!(names("three").is_empty());
    }
}
