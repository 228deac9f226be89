//! What is asked for is there, or refused before anything is saved.

use std::sync::Arc;

use thv_core::{Env, PermissionProfile, RunConfig};
use thv_manager::{Error, MemoryFiles, MemoryPorts, RunOptions, StartOptions};
use thv_runtime::{Call, MemoryRuntime};
use thv_state::StateStoreExt;

use crate::support::*;

const SYSTEM_SECRET: &str = "__thv_workloads_OAUTH_CLIENT_SECRET_other";

/// A configuration as another program would have saved it.
fn exported(text: &str) -> RunConfig {
    let base = format!(r#"{{"image": "{IMAGE}", "name": "echo", "base_name": "echo", {text}}}"#);
    RunConfig::from_json(base.as_bytes()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_never_gets_a_secret_of_the_system() {
    let world = World::new();
    let env = Env::from_vars([(format!("TOOLHIVE_SECRET_{SYSTEM_SECRET}").as_str(), "s3cret")]);
    let manager = world.builder(APP).env(env).build().unwrap();
    let mut request = request("echo");
    request.secrets = vec![format!("{SYSTEM_SECRET},target=TOKEN")];
    let error = manager.run(request.clone(), until_ready()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Secret { secret, .. } if secret == SYSTEM_SECRET),
        "{error}"
    );
    world.assert_nothing_of(&name("echo")).await;

    // Nor from a configuration that is there already.
    let config = exported(&format!(r#""secrets": ["{SYSTEM_SECRET},target=TOKEN"]"#));
    world
        .state
        .write_run_config(&name("echo"), &config)
        .await
        .unwrap();
    let error = manager
        .start(&name("echo"), StartOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Secret { .. }), "{error}");
    assert_eq!(world.runtime.calls(Call::Deploy), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_says_why_each_part_is() {
    let world = World::new();
    let manager = world.manager();
    for (text, code, said) in [
        (
            r#""audit_config": {}, "thv": {"memory": "1MiB"}"#,
            "unsupported",
            "audit_config (not built yet), thv.memory (unknown)",
        ),
        (r#""session_ttl": "soon""#, "invalid", "session_ttl (invalid)"),
    ] {
        let error = manager
            .run_config(exported(text), None, RunOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(said), "{error}");
        world.assert_nothing_of(&name("echo")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_runtime_cannot_do_leaves_nothing() {
    let runtime = MemoryRuntime::new()
        .with_server(mcp_server)
        .with_capabilities(|can| {
            can.publish = false;
            can.mounts = false;
            can.networks = false;
            can.memory_limit = false;
            can.cpu_limit = false;
            can.pids_limit = false;
            can.read_only = false;
        });
    let world = World::on(runtime);
    let files = MemoryFiles::default().with("data/a", "");
    let manager = world.builder(APP).files(Arc::new(files)).build().unwrap();
    let mut publish = request("echo");
    publish.publish = vec!["8080".into()];
    let mut volume = request("echo");
    volume.volumes = vec!["data:/d".into()];
    let mut network = request("echo");
    network.network = Some("none".into());
    let mut memory = request("echo");
    memory.memory = Some(64 << 20);
    let mut cpus = request("echo");
    cpus.cpus = Some("0.5".into());
    let mut pids = request("echo");
    pids.pids_limit = Some(20);
    let mut read_only = request("echo");
    read_only.read_only = true;
    for request in [publish, volume, network, memory, cpus, pids, read_only] {
        let error = manager.run(request, until_ready()).await.unwrap_err();
        assert!(
            matches!(error, Error::Runtime(thv_runtime::Error::Unsupported { .. })),
            "{error}"
        );
        world.assert_nothing_of(&name("echo")).await;
    }
    assert_eq!(world.runtime.calls(Call::Deploy), 0);
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_is_only_named_is_the_one_that_counts() {
    let no_isolation = MemoryRuntime::new()
        .with_server(mcp_server)
        .with_capabilities(|can| can.network_isolation = false);
    let world = World::on(no_isolation);
    let files = MemoryFiles::default().with("/etc/open.json", r#"{"name": "open"}"#);
    let manager = world.builder(APP).files(Arc::new(files)).build().unwrap();
    let named = |profile: &str| {
        exported(&format!(
            r#""permission_profile": null, "permission_profile_name_or_path": "{profile}""#
        ))
    };
    let error = manager
        .run_config(named("none"), None, until_ready())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("network isolation"), "{error}");
    world.assert_nothing_of(&name("echo")).await;

    // A start reads no file: it would be another profile than the one that was looked at.
    world
        .state
        .write_run_config(&name("echo"), &named("/etc/open.json"))
        .await
        .unwrap();
    let error = manager
        .start(&name("echo"), StartOptions::default())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("permission_profile_name_or_path"),
        "{error}"
    );
    world.state_forgets("echo").await;

    manager
        .run_config(named("/etc/open.json"), None, until_ready())
        .await
        .unwrap();
    let saved = world.config(&name("echo")).await.unwrap().permission_profile;
    assert_eq!(
        saved,
        Some(PermissionProfile::from_json(br#"{"name": "open"}"#).unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn what_ignore_files_hide_is_said_and_is_refused_where_nothing_can_be_hidden() {
    let files = MemoryFiles::default()
        .with("data/a", "")
        .with("data/.thvignore", "a");
    let mut request = request("echo");
    request.volumes = vec!["data:/d:ro".into()];
    request.print_overlays = true;
    let cannot = MemoryRuntime::new()
        .with_server(mcp_server)
        .with_capabilities(|can| can.hidden_paths = false);
    let world = World::on(cannot);
    let manager = world.builder(APP).files(Arc::new(files.clone())).build().unwrap();
    let error = manager.run(request.clone(), until_ready()).await.unwrap_err();
    assert!(error.to_string().contains("ignore files"), "{error}");
    world.assert_nothing_of(&name("echo")).await;

    let world = World::new();
    let manager = world.builder(APP).files(Arc::new(files)).build().unwrap();
    let outcome = manager.run(request, until_ready()).await.unwrap();
    assert!(
        outcome.notices.iter().any(|notice| notice.ends_with("/d/a")),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_exported_stdio_server_is_told_no_port() {
    let world = World::new();
    let config = exported(r#""transport": "stdio", "target_port": 8080, "permission_profile": null"#);
    world
        .manager()
        .run_config(config, None, until_ready())
        .await
        .unwrap();
    let saved = world.config(&name("echo")).await.unwrap();
    assert!(!saved.env_vars.contains_key("MCP_PORT"), "{saved:?}");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_is_passed_over_or_named() {
    let world = World::new();
    // Of the machine itself a port is taken that is free at this moment.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = free.local_addr().unwrap().port();
    drop(free);
    let ports = MemoryPorts::default().with_taken(taken).with_candidates([taken]);
    let manager = world.builder(APP).ports(Arc::new(ports)).build().unwrap();
    let mut asked = request("echo");
    asked.proxy_port = Some(taken);
    let error = manager.run(asked, until_ready()).await.unwrap_err();
    assert!(
        matches!(error, Error::PortTaken { port, .. } if port == taken),
        "{error}"
    );
    world.assert_nothing_of(&name("echo")).await;
    run(&manager, "echo").await;
    assert_ne!(world.config(&name("echo")).await.unwrap().port, taken);
}
