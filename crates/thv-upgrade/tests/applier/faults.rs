//! The order, and what each failure leaves.

use std::sync::Arc;
use std::time::Duration;

use thv_core::EnvVarSpec;
use thv_image::{Digest, Policy};
use thv_manager::RollbackPolicy;
use thv_registry::{Entry, MemoryRegistry, Provenance};
use thv_upgrade::{Applier, ApplyOptions, Checker, UpgradeStatus};

use crate::support::*;

const ORDER: [&str; 8] = [
    "settle",
    "load",
    "look up",
    "resolve and verify",
    "policy",
    "prepare",
    "check",
    "carry out",
];

#[tokio::test]
async fn every_step_is_taken_once_and_in_order() {
    let (script, _steps) = script(|_| ());
    let mut options = ApplyOptions::default();
    options.rollback = RollbackPolicy::OnFailure;
    options.ready_within = Duration::from_secs(7);
    options.verification = Policy::Disabled;
    let applied = applier(&script).apply(&name(), options).await.unwrap();
    assert!(applied.outcome.unwrap().ready);
    assert_eq!(applied.warnings, [NOTICE]);
    assert_eq!(applied.digest, Some(Digest::of(b"2")));
    assert_eq!(script.steps(), [&ORDER[..], &["done"]].concat());
    let updates = script.updates.lock().unwrap();
    let (_, options) = &updates[0];
    assert_eq!(options.rollback, RollbackPolicy::OnFailure);
    assert_eq!(options.ready_within, Duration::from_secs(7));
    assert_eq!(options.image.policy, Policy::Disabled);
    let admitted = options.image.admitted.as_ref().unwrap();
    assert_eq!(
        admitted.digest,
        Digest::of(b"2"),
        "what was verified is what runs"
    );
}

#[tokio::test]
async fn what_fails_before_destruction_ends_there_and_changes_nothing() {
    for (at, step) in ORDER.iter().enumerate() {
        let (script, _steps) = script(|script| script.fails = Some(step));
        let result = applier(&script).apply(&name(), ApplyOptions::default()).await;
        assert_eq!(script.steps(), ORDER[..=at], "{step} is the last one");
        let (began, code, text) = match (result, *step) {
            (Ok(applied), "look up") => {
                assert_eq!(applied.check.status, UpgradeStatus::Unknown);
                assert_eq!(applied.check.reason, "registry lookup failed");
                continue;
            }
            (result, _) => {
                let error = result.unwrap_err();
                (error.destruction_began(), error.code(), error.to_string())
            }
        };
        let expected = match *step {
            "settle" | "load" => (false, "conflict", "failed to load state for workload \"work\""),
            "resolve and verify" => (
                false,
                "image_denied",
                "failed to resolve candidate image for workload \"work\"",
            ),
            "policy" => (
                false,
                "denied",
                "failed to prepare candidate image for workload \"work\": blocked by policy: not on a Friday",
            ),
            "prepare" | "check" => (
                false,
                "conflict",
                "failed to prepare candidate image for workload \"work\"",
            ),
            _ => (
                true,
                "upgrade_failed_after_destroy",
                "upgrade failed after workload recreate began; workload state is uncertain: failed to complete upgrade \
                 for workload \"work\"",
            ),
        };
        assert_eq!((began, code, text.as_str()), expected, "{step}");
    }
}

#[tokio::test]
async fn an_earlier_check_is_not_trusted() {
    let (script, _steps) = script(|_| ());
    let registry = MemoryRegistry::new([Entry::Image(entry("a.example/work:2"))]);
    let earlier = Checker::new(Arc::new(registry)).check(&script.config).await;
    assert!(earlier.is_available());
    script.offer(entry("a.example/work:1"));
    let applied = applier(&script)
        .apply(&name(), ApplyOptions::default())
        .await
        .unwrap();
    assert_eq!(applied.check.status, UpgradeStatus::UpToDate);
    assert!(applied.outcome.is_none());
    assert_eq!(script.steps(), ORDER[..3]);
}

#[tokio::test]
async fn what_cannot_be_verified_is_no_upgrade_where_it_must_be() {
    let (script, _steps) = script(|_| ());
    let mut signed = entry("a.example/work:2");
    signed.provenance = Some(Provenance {
        repository_uri: "https://github.com/a/work".into(),
        ..Provenance::default()
    });
    script.offer(signed);
    let mut options = ApplyOptions::default();
    options.verification = Policy::Enabled;
    let refused = applier(&script).apply(&name(), options).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.destruction_began()),
        ("image_not_verified", false)
    );
    let expected = script.expected.lock().unwrap().clone().unwrap();
    assert_eq!(expected.repository, "https://github.com/a/work");
    assert_eq!(script.steps(), ORDER[..4]);
}

#[tokio::test]
async fn all_that_a_new_version_needs_is_asked_for_at_once() {
    let (script, _steps) = script(|_| ());
    let mut wanting = entry("a.example/work:2");
    let variable = |name: &str, required, default: &str| EnvVarSpec {
        name: name.into(),
        required,
        default: default.into(),
        ..EnvVarSpec::default()
    };
    wanting.env_vars = vec![
        variable("A", true, ""),
        variable("OPTIONAL", false, ""),
        variable("DEFAULT", true, "x"),
        variable("B", true, ""),
    ];
    script.offer(wanting);
    let refused = applier(&script)
        .apply(&name(), ApplyOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "failed to build upgraded config for workload \"work\": missing required environment variables: A, B"
    );
    assert!(!script.steps().contains(&"policy"));

    let mut options = ApplyOptions::default();
    options.additions.env.insert("A".into(), "1".into());
    options.additions.secrets.push("b,target=B".into());
    let applied = applier(&script).apply(&name(), options).await.unwrap();
    assert!(applied.outcome.is_some(), "it went on");
    assert!(
        applied
            .warnings
            .contains(&"DEFAULT gets the default of the newer version".to_owned()),
        "{:?}",
        applied.warnings
    );
    let (new, _) = script.updates.lock().unwrap().pop().unwrap();
    let env: Vec<_> = new
        .env_vars
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(env, ["A=1", "DEFAULT=x"], "what is optional is not taken over");
}

#[tokio::test]
async fn a_value_that_is_there_is_not_replaced_by_a_default() {
    let mut wanting = entry("a.example/work:2");
    let variable = |name: &str| EnvVarSpec {
        name: name.into(),
        required: true,
        default: "x".into(),
        ..EnvVarSpec::default()
    };
    wanting.env_vars = vec![variable("MINE"), variable("SECRET")];
    let (script, _steps) = script(|script| {
        script.config.env_vars.insert("MINE".into(), String::new());
        script.config.secrets.push("s,target=SECRET".into());
    });
    script.offer(wanting);
    applier(&script)
        .apply(&name(), ApplyOptions::default())
        .await
        .unwrap();
    let (new, _) = script.updates.lock().unwrap().pop().unwrap();
    assert_eq!(new.env_vars, script.config.env_vars);
}

#[tokio::test]
async fn a_caller_who_goes_away_too_late_does_not_stop_the_work() {
    let (script, mut steps) = script(|script| script.waits = Some("carry out"));
    let applier = applier(&script);
    let call = begin(&applier);
    while steps.recv().await != Some("carry out") {}
    assert!(applier.is_under_way());
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    script.permit.add_permits(1);
    applier.finished().await;
    assert_eq!(script.steps().last(), Some(&"done"));
}

#[tokio::test]
async fn a_caller_who_goes_away_in_time_leaves_everything_as_it_was() {
    for step in ["look up", "resolve and verify", "policy", "prepare", "check"] {
        let (script, mut steps) = script(|script| script.waits = Some(step));
        let applier = applier(&script);
        let call = begin(&applier);
        while steps.recv().await != Some(step) {}
        assert!(!applier.is_under_way());
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        script.permit.add_permits(1);
        applier.finished().await;
        assert!(!script.steps().contains(&"carry out"), "{step}");
    }
}

fn begin(applier: &Applier) -> tokio::task::JoinHandle<()> {
    let applier = applier.clone();
    tokio::spawn(async move {
        // What comes of it is in the script.
        let _ = applier.apply(&name(), ApplyOptions::default()).await;
    })
}
