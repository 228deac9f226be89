//! Selectors, by examples and by properties.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use thv_labels::{Requirement, Selector};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn selectors_mean_what_they_say() {
    let labels = labels(&[("env", "dev"), ("example.com/tier", "db"), ("empty", "")]);
    for (text, expected) in [
        ("", true),
        ("  ", true),
        ("env=dev", true),
        ("env==dev", true),
        ("env = dev", true),
        ("env=prod", false),
        ("env!=prod", true),
        ("env!=dev", false),
        ("none!=dev", true),
        ("none=dev", false),
        ("env in (dev,prod)", true),
        ("env in(dev)", true),
        ("env in (prod)", false),
        ("none in (dev)", false),
        ("env notin (prod, test)", true),
        ("env notin (dev)", false),
        ("none notin (dev)", true),
        ("env", true),
        ("none", false),
        ("!none", true),
        ("! env", false),
        ("empty=", true),
        ("empty in ()", true),
        ("in", false),
        ("example.com/tier=db,env=dev,!none", true),
        ("example.com/tier=db,env=prod", false),
        ("env in (dev),example.com/tier in (db,cache)", true),
    ] {
        let selector: Selector = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.matches(&labels), expected, "{text}");
    }
}

#[test]
fn what_is_no_selector_is_refused_by_the_part_that_is_wrong() {
    for (text, part) in [
        ("env=dev,,a=b", "there is nothing"),
        (",", "there is nothing"),
        ("env=dev,", "there is nothing"),
        ("-env=dev", "invalid label key \"-env\""),
        ("env=a b", "invalid value \"a b\" of label \"env\""),
        ("env===dev", "invalid value \"=dev\""),
        ("=dev", "invalid label key \"\""),
        ("!", "invalid label key \"\""),
        ("env in (dev", "a list ends with ')'"),
        ("env in dev", "use =, ==, !=, in (…) or notin (…)"),
        ("env on (dev)", "use <key> in (<values>)"),
        ("env in (dev) x", "a list ends with ')'"),
        ("env in ((dev))", "invalid value"),
        ("env=dev;rm", "invalid value"),
        ("env>1", "invalid label key"),
    ] {
        let error = text.parse::<Selector>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn repeated_filters_must_all_hold() {
    let selector = Selector::parse_all(["env=dev", "tier in (a,b)"]).unwrap();
    assert!(selector.matches(&labels(&[("env", "dev"), ("tier", "b")])));
    assert!(!selector.matches(&labels(&[("env", "dev")])));
    assert!(Selector::parse_all(["env=dev", "?"]).is_err());
    assert!(Selector::parse_all::<&str>([]).unwrap().is_empty());
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9]([a-zA-Z0-9._-]{0,10}[a-zA-Z0-9])?",
        "[a-z0-9]{1,5}\\.[a-z]{1,3}/[a-z0-9]{1,5}"
    ]
}

fn value() -> impl Strategy<Value = String> {
    "([a-zA-Z0-9]([a-zA-Z0-9._-]{0,10}[a-zA-Z0-9])?)?"
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let values = || prop::collection::btree_set(value(), 1..4);
    prop_oneof![
        (key(), value()).prop_map(|(key, value)| Requirement::Equal { key, value }),
        (key(), value()).prop_map(|(key, value)| Requirement::NotEqual { key, value }),
        (key(), values()).prop_map(|(key, values)| Requirement::In { key, values }),
        (key(), values()).prop_map(|(key, values)| Requirement::NotIn { key, values }),
        key().prop_map(|key| Requirement::Exists { key }),
        key().prop_map(|key| Requirement::NotExists { key }),
    ]
}

proptest! {
    #[test]
    fn a_selector_is_read_as_it_is_written(requirements in prop::collection::vec(requirement(), 0..5)) {
        let selector = Selector::new(requirements);
        prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
    }

    #[test]
    fn a_requirement_and_its_opposite_never_agree(
        key in key(),
        values in prop::collection::btree_set(value(), 1..4),
        labels in prop::collection::btree_map(key(), value(), 0..4),
        own in prop::option::of(value()),
    ) {
        let mut labels = labels;
        if let Some(own) = own {
            labels.insert(key.clone(), own);
        }
        let one = values.iter().next().cloned().unwrap_or_default();
        let single = BTreeSet::from([one.clone()]);
        let equal = Requirement::Equal { key: key.clone(), value: one.clone() };
        let not_equal = Requirement::NotEqual { key: key.clone(), value: one };
        prop_assert_ne!(equal.matches(&labels), not_equal.matches(&labels));
        prop_assert_eq!(equal.matches(&labels), Requirement::In { key: key.clone(), values: single }.matches(&labels));
        let within = Requirement::In { key: key.clone(), values: values.clone() };
        let without = Requirement::NotIn { key: key.clone(), values };
        prop_assert_ne!(within.matches(&labels), without.matches(&labels));
        let there = Requirement::Exists { key: key.clone() };
        let missing = Requirement::NotExists { key };
        prop_assert_ne!(there.matches(&labels), missing.matches(&labels));
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}") {
        if let Ok(selector) = text.parse::<Selector>() {
            prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
        }
        let _ = thv_labels::parse_user_label(&text);
    }

    #[test]
    fn neither_does_selector_like_text(text in "[a-c!=,() /.in-]{0,24}") {
        if let Ok(selector) = text.parse::<Selector>() {
            prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
        }
    }
}
