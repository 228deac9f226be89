//! The suite that every [`StateStore`] passes. Each function checks one promise and panics when it is broken.

use std::sync::Arc;
use std::time::Duration;

use crate::{DocumentKind, DocumentName, Error, Keep, StateStore, StateStoreExt};

const KIND: DocumentKind = DocumentKind::RunConfig;

/// Checks all promises on a store that is empty.
pub async fn check(store: Arc<dyn StateStore>) {
    reads_what_was_written(&*store).await;
    deletes_what_is_absent(&*store).await;
    keeps_kinds_apart(&*store).await;
    creates_exclusively(store.clone()).await;
    leaves_what_was_there_when_it_fails(&*store).await;
    has_written_when_what_it_kept_is_free(&*store).await;
    lists_in_order(&*store).await;
}

fn name(text: &str) -> DocumentName {
    DocumentName::new(text).expect("a valid name")
}

async fn reads_what_was_written(store: &dyn StateStore) {
    let name = name("written");
    assert_eq!(store.read(KIND, &name).await.expect("read"), None);
    for bytes in [&b"{}\n"[..], b"", b"{\"a\":1}"] {
        store
            .replace(KIND, &name, bytes.to_vec(), Keep::nothing())
            .await
            .expect("replace");
        assert_eq!(
            store.read(KIND, &name).await.expect("read").as_deref(),
            Some(bytes)
        );
    }
    store.delete(KIND, &name, Keep::nothing()).await.expect("delete");
    assert_eq!(store.read(KIND, &name).await.expect("read"), None);
}

async fn deletes_what_is_absent(store: &dyn StateStore) {
    store
        .delete(KIND, &name("absent"), Keep::nothing())
        .await
        .expect("absent is deleted already");
}

async fn keeps_kinds_apart(store: &dyn StateStore) {
    let name = name("apart");
    store
        .replace(KIND, &name, b"1".to_vec(), Keep::nothing())
        .await
        .expect("replace");
    assert_eq!(store.read(DocumentKind::Group, &name).await.expect("read"), None);
    store.delete(KIND, &name, Keep::nothing()).await.expect("delete");
}

async fn creates_exclusively(store: Arc<dyn StateStore>) {
    let contenders: Vec<_> = (0..16_u8)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                let created = store.create(KIND, &name("one"), vec![i], Keep::nothing()).await;
                created.map(|()| i)
            })
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
    store
        .delete(KIND, &name("one"), Keep::nothing())
        .await
        .expect("delete");
}

async fn leaves_what_was_there_when_it_fails(store: &dyn StateStore) {
    let name = name("kept");
    let write = |bytes: &[u8]| store.create(KIND, &name, bytes.to_vec(), Keep::nothing());
    write(b"first").await.expect("create");
    let error = write(b"second").await.expect_err("it is there");
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(
        store.read(KIND, &name).await.expect("read").as_deref(),
        Some(&b"first"[..])
    );
    store.delete(KIND, &name, Keep::nothing()).await.expect("delete");
}

async fn has_written_when_what_it_kept_is_free(store: &dyn StateStore) {
    const LONG: Duration = Duration::from_secs(60);
    let name = name("dropped");
    for _ in 0..16 {
        let lock = Arc::new(());
        let free = Arc::downgrade(&lock);
        let write = store.replace(KIND, &name, b"early".to_vec(), Keep::until_done(lock));
        // It is asked once how far it is, and dropped.
        let _ = tokio::time::timeout(Duration::ZERO, write).await;
        let freed = tokio::time::timeout(LONG, async {
            while free.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        freed.await.expect("what a dropped write keeps is free at last");
        let found = store.read(KIND, &name).await.expect("read");
        assert!(matches!(found.as_deref(), None | Some(b"early")));
        let last = store.replace(KIND, &name, b"late".to_vec(), Keep::nothing());
        last.await.expect("replace");
        let found = store.read(KIND, &name).await.expect("read");
        assert_eq!(found.as_deref(), Some(&b"late"[..]), "nobody writes any more");
        store.delete(KIND, &name, Keep::nothing()).await.expect("delete");
    }
}

async fn lists_in_order(store: &dyn StateStore) {
    for text in ["b", "a", "A", "c.d"] {
        store
            .replace(KIND, &name(text), text.as_bytes().to_vec(), Keep::nothing())
            .await
            .expect("replace");
    }
    let listed = store.list(KIND).await.expect("list");
    assert_eq!(
        listed.iter().map(DocumentName::as_str).collect::<Vec<_>>(),
        ["A", "a", "b", "c.d"]
    );
    let each = store.read_each(KIND, |_, bytes| bytes.expect("readable").to_vec());
    let each = each.await.expect("read each");
    assert_eq!(each.len(), listed.len());
    for ((name, bytes), listed) in each.into_iter().zip(&listed) {
        assert_eq!((&name, bytes.as_slice()), (listed, name.as_str().as_bytes()));
    }
}
