//! Which tag is the newer one: a table of examples, and what holds for all.

use proptest::prelude::*;
use thv_core::RunConfig;
use thv_registry::{Entry, ImageEntry};
use thv_upgrade::{UpgradeStatus, compare};

fn outcome(current: &str, candidate: &str) -> (UpgradeStatus, String) {
    let config = RunConfig {
        image: current.into(),
        registry_server_name: "x".into(),
        ..RunConfig::default()
    };
    let entry = ImageEntry {
        image: candidate.into(),
        ..ImageEntry::default()
    };
    let result = compare(&config, &Entry::Image(entry));
    assert_eq!(result.candidate_image, candidate);
    (result.status, result.reason)
}

#[test]
fn the_table_holds() {
    let lines = include_str!("data/tags.txt").lines();
    let mut examples = 0;
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut parts = line.splitn(3, " | ");
        let (current, candidate) = (parts.next().unwrap(), parts.next().unwrap());
        let expected = match parts.next().unwrap() {
            "newer" => (UpgradeStatus::UpgradeAvailable, ""),
            "not-newer" => (UpgradeStatus::UpToDate, ""),
            other => (UpgradeStatus::Unknown, other.strip_prefix("? ").unwrap()),
        };
        let (status, reason) = outcome(current, candidate);
        assert_eq!((status, reason.as_str()), expected, "{line}");
        examples += 1;
    }
    assert!(examples > 40);
}

/// What tags look like: versions of all kinds more often than words.
fn tag() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[vV]?(0|[1-9][0-9]{0,2})(\\.(0|[1-9][0-9]?)){0,2}",
        3 => "[vV]?[0-3]\\.[0-2]\\.[0-2]-(0|[1-9][0-9]{0,1}|[a-c]{1,2}|-)(\\.(0|[1-9]|[ab]))?",
        2 => "[1-9][0-9]{18,24}",
        1 => "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,6}",
    ]
}

fn newer(current: &str, candidate: &str) -> Option<bool> {
    match outcome(
        &format!("a.example/x:{current}"),
        &format!("a.example/x:{candidate}"),
    )
    .0
    {
        UpgradeStatus::UpgradeAvailable => Some(true),
        UpgradeStatus::UpToDate => Some(false),
        _ => None,
    }
}

proptest! {
    #[test]
    fn never_both_are_newer(a in tag(), b in tag()) {
        let (forth, back) = (newer(&a, &b), newer(&b, &a));
        prop_assert_eq!(forth.is_some(), back.is_some(), "both ways decide, or neither");
        prop_assert!(!(forth == Some(true) && back == Some(true)));
        prop_assert_ne!(newer(&a, &a), Some(true));
    }

    #[test]
    fn newer_than_newer_is_newer(a in tag(), b in tag(), c in tag()) {
        if newer(&a, &b) == Some(true) && newer(&b, &c) == Some(true) {
            prop_assert_eq!(newer(&a, &c), Some(true), "{} < {} < {}", a, b, c);
        }
        if newer(&a, &b) == Some(false) && newer(&b, &c) == Some(false) {
            prop_assert_eq!(newer(&a, &c), Some(false), "{} >= {} >= {}", a, b, c);
        }
    }

    #[test]
    fn any_text_is_answered(a in ".{0,40}", b in ".{0,40}") {
        let _ = outcome(&a, &b);
    }
}
