//! The suite that every [`StateStore`] passes. Each function checks one promise and panics when it is broken.

use std::sync::Arc;

use crate::{DocumentKind, DocumentName, Error, StateStore};

const KIND: DocumentKind = DocumentKind::RunConfig;

/// Checks all promises on a store that is empty.
pub async fn check(store: Arc<dyn StateStore>) {
    reads_what_was_written(&*store).await;
    deletes_what_is_absent(&*store).await;
    keeps_kinds_apart(&*store).await;
    creates_exclusively(store.clone()).await;
    lists_in_order(&*store).await;
}

fn name(text: &str) -> DocumentName {
    DocumentName::new(text).expect("a valid name")
}

async fn reads_what_was_written(store: &dyn StateStore) {
    let name = name("written");
    assert_eq!(store.read(KIND, &name).await.expect("read"), None);
    for bytes in [&b"{}\n"[..], b"", b"{\"a\":1}"] {
        store.replace(KIND, &name, bytes.to_vec()).await.expect("replace");
        assert_eq!(
            store.read(KIND, &name).await.expect("read").as_deref(),
            Some(bytes)
        );
    }
    store.delete(KIND, &name).await.expect("delete");
    assert_eq!(store.read(KIND, &name).await.expect("read"), None);
}

async fn deletes_what_is_absent(store: &dyn StateStore) {
    store
        .delete(KIND, &name("absent"))
        .await
        .expect("absent is deleted already");
}

async fn keeps_kinds_apart(store: &dyn StateStore) {
    let name = name("apart");
    store.replace(KIND, &name, b"1".to_vec()).await.expect("replace");
    assert_eq!(store.read(DocumentKind::Group, &name).await.expect("read"), None);
    store.delete(KIND, &name).await.expect("delete");
}

async fn creates_exclusively(store: Arc<dyn StateStore>) {
    let contenders: Vec<_> = (0..16_u8)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move { store.create(KIND, &name("one"), vec![i]).await.map(|()| i) })
        })
        .collect();
    let mut winners = Vec::new();
    for contender in contenders {
        match contender.await.expect("no panic") {
            Ok(i) => winners.push(i),
            Err(Error::Exists { .. }) => {}
            Err(other) => panic!("a loser is told that it exists: {other}"),
        }
    }
    assert_eq!(winners.len(), 1, "exactly one creates");
    assert_eq!(store.read(KIND, &name("one")).await.expect("read"), Some(winners));
    store.delete(KIND, &name("one")).await.expect("delete");
}

async fn lists_in_order(store: &dyn StateStore) {
    for text in ["b", "a", "A", "c.d"] {
        store
            .replace(KIND, &name(text), text.as_bytes().to_vec())
            .await
            .expect("replace");
    }
    let listed = store.list(KIND).await.expect("list");
    assert_eq!(
        listed.iter().map(DocumentName::as_str).collect::<Vec<_>>(),
        ["A", "a", "b", "c.d"]
    );
    for (name, bytes) in store.read_all(KIND).await.expect("read all") {
        assert_eq!(bytes.expect("readable"), name.as_str().as_bytes());
    }
}
