//! A real engine that isolates, a workload seen from the inside, and one on the network that leads out.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use thv_core::TransportType;
use thv_runtime::{DeploySpec, InstanceRef, PortBinding, Runtime, Stdio};
use thv_runtime_docker::{DockerConfig, DockerRuntime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::raw::api;
use super::{TestEngine, soon};

/// An engine with the helper, compiled as it is for images.
pub(crate) struct Isolating {
    pub(crate) engine: TestEngine,
    pub(crate) runtime: DockerRuntime,
    pub(crate) helper: std::path::PathBuf,
}

impl Isolating {
    pub(crate) async fn get() -> Option<Self> {
        static HELPER: tokio::sync::OnceCell<std::path::PathBuf> = tokio::sync::OnceCell::const_new();
        let engine = TestEngine::get().await?;
        let helper = HELPER.get_or_init(async || compile()).await.clone();
        let config = DockerConfig::at(engine.socket()).with_egress_helper(&helper);
        Some(Self {
            runtime: DockerRuntime::new(config),
            engine,
            helper,
        })
    }

    pub(crate) fn spec(&self, command: &[&str]) -> DeploySpec {
        let mut spec = self.engine.spec(command);
        spec.isolate_network = true;
        spec
    }

    /// Names of containers that begin with this one.
    pub(crate) async fn containers(&self, name: &str) -> Vec<String> {
        let (_, answer) = api(
            self.engine.socket(),
            "GET",
            "/v1.41/containers/json?all=true",
            &Value::Null,
        )
        .await;
        let rows: Vec<Value> = serde_json::from_str(&answer).unwrap();
        let names = rows.iter().map(|row| {
            row["Names"][0]
                .as_str()
                .unwrap()
                .trim_start_matches('/')
                .to_owned()
        });
        names.filter(|found| found.starts_with(name)).collect()
    }

    /// The volumes of a container that may not be there.
    pub(crate) async fn volumes(&self, container: &str) -> Vec<String> {
        let path = format!("/v1.41/containers/{container}/json");
        let (_, answer) = api(self.engine.socket(), "GET", &path, &Value::Null).await;
        let found: Value = serde_json::from_str(&answer).unwrap();
        let mounts = found["Mounts"].as_array().into_iter().flatten();
        mounts
            .filter_map(|mount| Some(mount["Name"].as_str()?.to_owned()))
            .collect()
    }

    /// Removes a workload, and sees that nothing of it stays.
    pub(crate) async fn remove(&self, spec: &DeploySpec) {
        let volumes = self.volumes(&format!("{}-egress", spec.name)).await;
        let which = InstanceRef::named(spec.name.clone());
        self.runtime.remove(&which).await.unwrap();
        let left = self.containers(spec.name.as_str()).await;
        assert!(left.is_empty(), "left: {left:?}");
        for volume in volumes {
            let path = format!("/v1.41/volumes/{volume}");
            let (status, _) = api(self.engine.socket(), "GET", &path, &Value::Null).await;
            assert_eq!(status, 404, "the volume {volume} is left");
        }
    }
}

pub(crate) fn compile() -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Tests of several processes may do this at once.
    let binary = folder.join(format!("thv-egress-{}", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helpers/egress/src/main.rs");
    let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2024",
            "-Copt-level=1",
            "-Ctarget-feature=+crt-static",
            "-Cstrip=symbols",
        ])
        .args(["--crate-name", "thv_egress", "-o"])
        .arg(&binary)
        .arg(source)
        .status()
        .expect("rustc runs");
    assert!(status.success(), "the helper does not compile");
    binary
}

/// The workload from the inside.
pub(crate) struct Inside(Stdio);

impl Inside {
    pub(crate) async fn of(on: &Isolating, spec: &DeploySpec) -> Self {
        let which = InstanceRef::named(spec.name.clone());
        Self(on.runtime.attach(&which).await.unwrap())
    }

    pub(crate) async fn tries(&mut self, line: &str) -> String {
        self.0
            .stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        let reading = async {
            while answer.last() != Some(&b'\n') {
                answer.push(self.0.stdout.read_u8().await.unwrap());
            }
        };
        soon("the answer", reading).await;
        String::from_utf8(answer).unwrap().trim_end().to_owned()
    }
}

/// A container on the shared network, which isolated workloads reach through the proxy or not at all.
pub(crate) async fn outside(on: &Isolating) -> (DeploySpec, String) {
    let mut spec = on.engine.spec(&["serve", "from outside"]);
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(http_port());
    on.runtime.deploy(&spec).await.unwrap();
    let path = format!("/v1.41/containers/{}/json", spec.name);
    let (_, answer) = api(on.engine.socket(), "GET", &path, &Value::Null).await;
    let found: Value = serde_json::from_str(&answer).unwrap();
    let address = found["NetworkSettings"]["Networks"]["toolhive-external"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(!address.is_empty(), "{found}");
    (spec, address)
}

pub(crate) fn http_port() -> PortBinding {
    PortBinding {
        container_port: 8080,
        host_ip: Some([127, 0, 0, 1].into()),
        host_port: 0,
    }
}
