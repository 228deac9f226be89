//! The contract of a runtime, on a real engine.

mod support;

use std::sync::Arc;

use support::TestEngine;
use thv_core::{TransportType, WorkloadName};
use thv_runtime::contract::{self, EXIT_CODE, Fixture, LAST_WORDS, Server};
use thv_runtime::{DeploySpec, PortBinding, Runtime};

#[derive(Debug)]
struct Docker(TestEngine);

impl Fixture for Docker {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.0.runtime.clone())
    }

    fn second(&self) -> Option<Arc<dyn Runtime>> {
        Some(Arc::new(self.0.second()))
    }

    fn another_image(&self) -> Option<String> {
        Some(self.0.second_tag.clone())
    }

    fn spec(&self, name: WorkloadName, server: Server) -> Option<DeploySpec> {
        let code = EXIT_CODE.to_string();
        let spec = |command: &[&str]| self.0.spec_named(name.clone(), command);
        Some(match server {
            Server::Echo => spec(&["echo"]),
            Server::IgnoresTerm => spec(&["echo", "--ignore-term"]),
            Server::ExitsAtOnce => spec(&["exit", LAST_WORDS, &code]),
            Server::Http => {
                let mut spec = spec(&["http"]);
                spec.transport = TransportType::StreamableHttp;
                let host_ip = Some([127, 0, 0, 1].into());
                spec.target = Some(PortBinding {
                    container_port: 8080,
                    host_ip,
                    host_port: 0,
                });
                spec
            }
            Server::Missing => {
                let mut spec = spec(&[]);
                "localhost/thv-test/missing:none".clone_into(&mut spec.image);
                spec
            }
            _ => return None,
        })
    }

    fn refused_name(&self) -> Option<WorkloadName> {
        "x".parse().ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_keeps_the_contract() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let report = contract::run(&Docker(engine)).await;
    assert!(
        report
            .skipped
            .iter()
            .all(|(name, _)| *name == "what_cannot_be_enforced_is_refused"),
        "{report:?}"
    );
}
