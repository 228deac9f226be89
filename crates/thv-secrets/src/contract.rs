//! What every [`SecretProvider`] promises, as tests (feature `contract`).

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::{SecretError, SecretProvider, Stale};

/// A value that must never be seen where it was not asked for.
const VALUE: &str = "hunter2-contract-value";

/// Runs the suite, as far as the capabilities go. `with` makes a provider that holds exactly these secrets.
///
/// # Panics
/// When a promise is broken; the message says which.
pub async fn check(with: impl AsyncFn(&[(&str, &str)]) -> Arc<dyn SecretProvider>) {
    reads_what_is_there(&*with(&[("name", VALUE), ("Name", "other")]).await).await;
    hides_values(&*with(&[("name", VALUE)]).await).await;
    changes_or_says_that_it_cannot(&*with(&[("name", VALUE)]).await).await;
    lists_or_says_that_it_cannot(&*with(&[("b", VALUE), ("a", VALUE)]).await).await;
    refuses_names_and_values_that_are_none(&*with(&[]).await).await;
    counts_changes_or_knows_none(&*with(&[("a", VALUE), ("b", VALUE), ("c", VALUE)]).await).await;
}

async fn reads_what_is_there(secrets: &dyn SecretProvider) {
    assert_eq!(
        value(secrets, "name").await.as_deref(),
        Some(VALUE),
        "what is there is read"
    );
    assert_eq!(
        value(secrets, "Name").await.as_deref(),
        Some("other"),
        "case matters"
    );
    for missing in [
        "nam",
        "name2",
        " name",
        "name ",
        "",
        "a\0b",
        "a=b",
        &"x".repeat(5000),
    ] {
        assert_eq!(value(secrets, missing).await, None, "{missing:?} is not there");
    }
}

async fn hides_values(secrets: &dyn SecretProvider) {
    assert!(!format!("{secrets:?}").contains(VALUE), "Debug shows no value");
    let refused = secrets
        .set("", SecretString::from(VALUE))
        .await
        .expect_err("no name");
    assert!(
        !format!("{refused} {refused:?}").contains(VALUE),
        "an error shows no value"
    );
    let read = secrets.get("name").await.expect("it is there");
    assert!(
        !format!("{read:?}").contains(VALUE),
        "a value does not show itself"
    );
}

async fn changes_or_says_that_it_cannot(secrets: &dyn SecretProvider) {
    if secrets.capabilities().set {
        secrets
            .set("name", SecretString::from("new"))
            .await
            .expect("a secret is replaced");
        assert_eq!(
            value(secrets, "name").await.as_deref(),
            Some("new"),
            "the new value is read"
        );
        secrets
            .set("name2", SecretString::from(VALUE))
            .await
            .expect("a secret is set");
        assert_eq!(
            value(secrets, "name2").await.as_deref(),
            Some(VALUE),
            "what was set is read"
        );
    } else {
        unsupported(secrets.set("name", SecretString::from("new")).await);
        assert_eq!(
            value(secrets, "name").await.as_deref(),
            Some(VALUE),
            "nothing has changed"
        );
    }
    if secrets.capabilities().delete {
        secrets.delete("name").await.expect("a secret is deleted");
        assert_eq!(value(secrets, "name").await, None, "what was deleted is gone");
        let again = secrets.delete("name").await.expect_err("nothing to delete");
        assert!(again.is_not_found(), "deleting nothing is not found");
    } else {
        unsupported(secrets.delete("name").await);
        assert!(value(secrets, "name").await.is_some(), "nothing has changed");
    }
}

async fn lists_or_says_that_it_cannot(secrets: &dyn SecretProvider) {
    if secrets.capabilities().list {
        let names: Vec<_> = secrets
            .list()
            .await
            .expect("a listing")
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names, ["a", "b"], "everything is listed, by name");
    } else {
        unsupported(secrets.list().await);
    }
}

async fn refuses_names_and_values_that_are_none(secrets: &dyn SecretProvider) {
    if !secrets.capabilities().set {
        return;
    }
    let long = "x".repeat(1025);
    for (name, value) in [
        ("", VALUE),
        ("a\nb", VALUE),
        ("a\0b", VALUE),
        (&*long, VALUE),
        ("name", ""),
    ] {
        let error = secrets
            .set(name, SecretString::from(value))
            .await
            .expect_err("refused");
        assert!(
            matches!(error, SecretError::Invalid { .. }),
            "{name:?} is invalid, not: {error}"
        );
    }
}

async fn counts_changes_or_knows_none(secrets: &dyn SecretProvider) {
    let revisions = async || secrets.revisions().await.expect("revisions");
    let Some(before) = revisions().await else { return };
    let then = before.of(["a", "b", "c"]);
    let stale = async || revisions().await.expect("still known").since(&then);
    assert_eq!(stale().await, Stale::default(), "nothing has changed");
    if secrets.capabilities().set {
        let set = secrets.set("a", SecretString::from("new")).await;
        set.expect("a secret is replaced");
        let same = secrets.set("b", SecretString::from(VALUE)).await;
        same.expect("a secret keeps its value");
        let stale = stale().await;
        let changed: Vec<_> = stale.changed.iter().map(String::as_str).collect();
        assert_eq!(
            (changed, stale.perhaps),
            (vec!["a"], false),
            "what has changed is told"
        );
    }
    if secrets.capabilities().delete {
        secrets.delete("c").await.expect("a secret is deleted");
        assert!(stale().await.changed.contains("c"), "a deletion is told");
    }
}

async fn value(secrets: &dyn SecretProvider, name: &str) -> Option<String> {
    match secrets.get(name).await {
        Ok(value) => Some(value.expose_secret().to_owned()),
        Err(error) => {
            assert!(
                error.is_not_found(),
                "a missing secret is not found, not: {error}"
            );
            None
        }
    }
}

fn unsupported<T>(answer: crate::Result<T>) {
    let error = answer.err().expect("what the capabilities deny is refused");
    assert!(
        matches!(error, SecretError::Unsupported { .. }),
        "it is unsupported, not: {error}"
    );
}
