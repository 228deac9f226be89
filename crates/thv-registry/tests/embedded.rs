//! The catalogue in the program.
#![cfg(feature = "catalog")]

use thv_registry::{EmbeddedRegistry, Registry as _};

#[tokio::test]
async fn every_entry_of_the_real_catalogue_is_read() {
    let catalogue = EmbeddedRegistry::new().catalogue().await.unwrap();
    let unusable: Vec<_> = catalogue.unusable().collect();
    assert!(unusable.is_empty(), "{unusable:?}");
    assert_eq!(catalogue.len(), 109);
    assert_eq!(
        catalogue
            .entries()
            .filter(|entry| entry.as_image().is_some())
            .count(),
        60
    );
    assert_eq!(catalogue.others, 249);
    assert_eq!(catalogue.version, "1.0.0");
    assert_eq!(catalogue.last_updated, "2026-11-03T01:05:14Z");
    let images = || catalogue.entries().filter_map(|entry| entry.as_image());
    assert_eq!(images().filter(|image| image.provenance.is_some()).count(), 25);
    assert_eq!(images().map(|image| image.env_vars.len()).sum::<usize>(), 245);
    assert_eq!(images().filter(|image| image.permissions.is_some()).count(), 59);
}

#[tokio::test]
async fn short_names_and_searches_find_entries() {
    let registry = EmbeddedRegistry::new();
    let entry = registry.get("fetch").await.unwrap();
    assert_eq!(entry.name(), "io.github.stacklok/fetch");
    assert!(
        registry
            .search("FETCH")
            .await
            .unwrap()
            .iter()
            .any(|found| found.name() == entry.name())
    );
    assert!(registry.get("no-such-server").await.unwrap_err().is_not_found());
    let list = registry.list().await.unwrap();
    assert!(list.is_sorted_by(|a, b| a.name() < b.name()));
}
