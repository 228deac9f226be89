//! What a check says of a workload.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail loudly")]

use std::sync::Arc;

use async_trait::async_trait;
use thv_core::{EnvVarSpec, PermissionProfile, RunConfig, TransportType};
use thv_registry::{Catalogue, Entry, EntryInfo, ImageEntry, MemoryRegistry, Registry, RemoteEntry, Source};
use thv_upgrade::{Checker, UpgradeStatus};

fn config(server: &str, image: &str) -> RunConfig {
    RunConfig {
        name: "work".into(),
        image: image.into(),
        registry_server_name: server.into(),
        ..RunConfig::default()
    }
}

fn image_entry(name: &str, image: &str) -> ImageEntry {
    ImageEntry {
        info: EntryInfo {
            name: name.into(),
            ..EntryInfo::default()
        },
        image: image.into(),
        ..ImageEntry::default()
    }
}

fn variable(name: &str, secret: bool, default: &str) -> EnvVarSpec {
    EnvVarSpec {
        name: name.into(),
        description: "what for".into(),
        required: name.starts_with("MUST"),
        secret,
        default: default.into(),
        ..EnvVarSpec::default()
    }
}

fn registry() -> Arc<MemoryRegistry> {
    let mut drifted = image_entry("a/drifted", "a.example/x:2");
    drifted.info.transport = TransportType::StreamableHttp;
    drifted.permissions = Some(PermissionProfile::network());
    drifted.env_vars = vec![
        variable("MUST_B", true, "s3cret"),
        variable("HAS_VALUE", false, ""),
        variable("HAS_SECRET", true, ""),
        variable("A", false, "one"),
    ];
    let remote = RemoteEntry {
        info: EntryInfo {
            name: "a/remote".into(),
            ..EntryInfo::default()
        },
        url: "https://mcp.example/mcp".into(),
        ..RemoteEntry::default()
    };
    Arc::new(MemoryRegistry::new([
        Entry::Image(image_entry("a/x", "a.example/x:2")),
        Entry::Image(drifted),
        Entry::Remote(remote),
    ]))
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap()
}

#[tokio::test]
async fn each_status_has_its_words() {
    let registry = registry();
    let checker = Checker::new(registry.clone());
    for (server, image, expected) in [
        (
            "",
            "a.example/x:1",
            r#"{"workload_name":"work","status":"not-registry-sourced","current_image":"a.example/x:1"}"#,
        ),
        (
            "a/gone",
            "a.example/x:1",
            r#"{"workload_name":"work","registry_server":"a/gone","status":"server-not-found","current_image":"a.example/x:1"}"#,
        ),
        (
            "a/x",
            "a.example/x:2",
            r#"{"workload_name":"work","registry_server":"a/x","status":"up-to-date","current_image":"a.example/x:2","candidate_image":"a.example/x:2"}"#,
        ),
        (
            "x",
            "a.example/x:1",
            r#"{"workload_name":"work","registry_server":"x","status":"upgrade-available","current_image":"a.example/x:1","candidate_image":"a.example/x:2"}"#,
        ),
        (
            "a/remote",
            "a.example/x:1",
            r#"{"workload_name":"work","registry_server":"a/remote","status":"unknown","current_image":"a.example/x:1","reason":"registry entry \"a/remote\" is not a container image (cannot determine upgrade)"}"#,
        ),
    ] {
        assert_eq!(json(&checker.check(&config(server, image)).await), expected);
    }
    registry.set_down(Some("the reason is for the log only"));
    let down = checker.check(&config("a/x", "a.example/x:1")).await;
    assert_eq!(
        (down.status, down.reason.as_str(), down.candidate_image.as_str()),
        (UpgradeStatus::Unknown, "registry lookup failed", "")
    );
}

#[tokio::test]
async fn a_new_version_comes_with_what_it_declares_and_how_it_differs() {
    let checker = Checker::new(registry());
    let mut old = config("a/drifted", "a.example/x:1");
    old.transport = TransportType::Stdio;
    old.permission_profile_name_or_path = "none".into();
    old.env_vars.insert("HAS_VALUE".into(), String::new());
    old.secrets = vec!["token,target=HAS_SECRET".into(), "nonsense".into()];
    let result = checker.check(&old).await;
    assert_eq!(
        json(&result.env_var_drift),
        r#"{"added":[{"name":"MUST_B","description":"what for","required":true,"secret":true},{"name":"A","description":"what for","required":false,"default":"one"}]}"#
    );
    assert_eq!(
        json(&result.config_drift),
        r#"{"transport":{"from":"stdio","to":"streamable-http"},"permission_profile":{"from":"none","to":"network"}}"#
    );
    old.image = "a.example/x:2".into();
    let same = checker.check(&old).await;
    assert_eq!(
        (same.env_var_drift, same.config_drift),
        (None, None),
        "nothing is on offer"
    );
}

#[tokio::test]
async fn what_is_not_said_is_no_drift() {
    let checker = Checker::new(registry());
    let mut old = config("a/drifted", "a.example/x:1");
    old.transport = TransportType::StreamableHttp;
    let result = checker.check(&old).await;
    assert_eq!(result.config_drift, None, "the workload names no profile");
}

/// A registry that panics for some names.
#[derive(Debug)]
struct Fragile(Arc<MemoryRegistry>);

#[async_trait]
impl Registry for Fragile {
    fn source(&self) -> &Source {
        self.0.source()
    }

    async fn catalogue(&self) -> thv_registry::Result<Arc<Catalogue>> {
        self.0.catalogue().await
    }

    async fn get(&self, name: &str) -> thv_registry::Result<Arc<Entry>> {
        assert_ne!(name, "a/bad", "the test wants it so");
        // Answers come in another order than questions.
        if name == "a/x" {
            tokio::task::yield_now().await;
        }
        self.0.get(name).await
    }
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_goes_on_after_a_failure() {
    let checker = Checker::new(Arc::new(Fragile(registry())));
    let configs: Vec<_> = ["a/x", "a/bad", "", "a/gone", "a/x"]
        .iter()
        .enumerate()
        .map(|(at, server)| RunConfig {
            name: format!("work-{at}"),
            ..config(server, "a.example/x:1")
        })
        .collect();
    let results = checker.check_all(&configs).await;
    let told: Vec<_> = results
        .iter()
        .map(|one| {
            (
                one.workload_name.as_str(),
                one.status.as_str(),
                one.reason.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("work-0", "upgrade-available", ""),
            ("work-1", "unknown", "check failed"),
            ("work-2", "not-registry-sourced", ""),
            ("work-3", "server-not-found", ""),
            ("work-4", "upgrade-available", ""),
        ]
    );
}
