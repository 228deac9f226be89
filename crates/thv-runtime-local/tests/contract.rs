//! The local runtime keeps the contract.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use thv_core::{Dirs, Env, TransportType, WorkloadName};
use thv_runtime::contract::{self, EXIT_CODE, Fixture, LAST_WORDS, READY_LINE, Server};
use thv_runtime::{DeploySpec, PortBinding, Runtime};
use thv_runtime_local::{LocalConfig, LocalRuntime};

#[derive(Debug)]
struct Local {
    root: tempfile::TempDir,
    runtime: LocalRuntime,
}

fn runtime_at(root: &std::path::Path) -> LocalRuntime {
    let env = Env::from_vars([("PATH", "/usr/bin:/bin")]);
    let config = LocalConfig::new(Dirs::under(root), env, thv_process::system().unwrap());
    LocalRuntime::new(config.unwrap())
}

impl Fixture for Local {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.runtime.clone())
    }

    fn second(&self) -> Option<Arc<dyn Runtime>> {
        Some(Arc::new(runtime_at(self.root.path())))
    }

    fn spec(&self, name: WorkloadName, server: Server) -> Option<DeploySpec> {
        let mut spec = DeploySpec::new(name, "exec:///bin/sh");
        let script = match server {
            Server::Echo => format!("echo '{READY_LINE}' >&2; exec cat"),
            Server::IgnoresTerm => format!("trap '' TERM; echo '{READY_LINE}' >&2; exec cat"),
            Server::ExitsAtOnce => format!("echo '{LAST_WORDS}' >&2; exit {EXIT_CODE}"),
            Server::Http => format!("echo '{READY_LINE}' >&2; exec sleep 1000"),
            _ => {
                "exec:///nowhere/at/all".clone_into(&mut spec.image);
                return Some(spec);
            }
        };
        if server == Server::Http {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            spec.transport = TransportType::StreamableHttp;
            spec.target = Some(PortBinding {
                container_port: port,
                host_ip: None,
                host_port: port,
            });
        }
        spec.command = vec!["-c".to_owned(), script];
        Some(spec)
    }
}

#[tokio::test]
async fn the_local_runtime_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Local {
        runtime: runtime_at(root.path()),
        root,
    };
    let report = contract::run(&fixture).await;
    assert!(
        report.skipped.iter().all(|(name, _)| [
            "a_refused_name_touches_nothing",
            "private_output_is_for_who_attaches_alone"
        ]
        .contains(name)),
        "{report:?}"
    );
}
