use serde_json::{Value, json};
use thv_runtime::Limits;

use super::*;

/// What an engine with an init program of its own says.
fn docker() -> Info {
    let says = json!({ "LoggingDriver": "json-file", "InitCommit": { "ID": "de40ad0" } });
    serde_json::from_value(says).unwrap()
}

fn asked_for(spec: &DeploySpec) -> Value {
    serde_json::to_value(desired(spec, "n1", &docker())).unwrap()
}

#[test]
fn every_container_is_hardened() {
    let wanted = asked_for(&DeploySpec::new("fetch".parse().unwrap(), "fetch:1"));
    assert_eq!(
        (&wanted["StdinOnce"], &wanted["OpenStdin"]),
        (&json!(true), &json!(true))
    );
    let host = &wanted["HostConfig"];
    for (key, expected) in [
        ("CapDrop", json!(["ALL"])),
        ("SecurityOpt", json!(["label:disable", "no-new-privileges"])),
        ("Init", json!(true)),
        ("RestartPolicy", json!({ "Name": "no" })),
        (
            "LogConfig",
            json!({ "Type": "json-file", "Config": { "max-size": "10m", "max-file": "3" } }),
        ),
    ] {
        assert_eq!(host[key], expected, "{key}");
    }
    for (key, nothing) in [("CapAdd", json!([])), ("Privileged", json!(false))] {
        assert!(
            host[key].is_null() || host[key] == nothing,
            "{key}: {}",
            host[key]
        );
    }
}

#[test]
fn what_is_asked_for_is_limited() {
    let mut spec = DeploySpec::new("fetch".parse().unwrap(), "fetch:1");
    spec.limits = Limits {
        memory: Some(64 << 20),
        cpus: Some(0.5),
        pids: Some(20),
    };
    spec.read_only = true;
    spec.private_output = true;
    let host = &asked_for(&spec)["HostConfig"];
    for (key, expected) in [
        ("Memory", json!(64 << 20)),
        // No swap beside it.
        ("MemorySwap", json!(64 << 20)),
        ("NanoCpus", json!(500_000_000)),
        ("PidsLimit", json!(20)),
        ("ReadonlyRootfs", json!(true)),
    ] {
        assert_eq!(host[key], expected, "{key}");
    }
    assert_eq!(host["LogConfig"]["Type"], "none");
    let temporary = &host["Mounts"][0];
    assert_eq!(
        (&temporary["Type"], &temporary["Target"]),
        (&json!("tmpfs"), &json!("/tmp"))
    );
    assert_eq!(
        temporary["TmpfsOptions"],
        json!({ "SizeBytes": 64 << 20, "Mode": 0o1777 }),
        "it has an end, and is everybody's"
    );
}
