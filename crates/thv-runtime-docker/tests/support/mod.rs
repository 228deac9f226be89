//! A real engine, and an image for it that needs no registry.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "each test target uses its part; set-up that fails may panic"
)]

pub(crate) mod fake;
pub(crate) mod isolating;
pub(crate) mod meddler;
pub(crate) mod raw;
pub(crate) mod registry;
pub(crate) mod tls_front;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use thv_core::WorkloadName;
use thv_runtime::contract::READY_LINE;
use thv_runtime::{DeploySpec, InstanceRef, LogOptions, Runtime};
use thv_runtime_docker::{DockerConfig, DockerRuntime};
use tokio::sync::OnceCell;

/// The engine of the tests: `THV_TEST_SOCKET`, by default `/var/run/docker.sock`.
#[derive(Debug, Clone)]
pub(crate) struct TestEngine {
    pub(crate) runtime: DockerRuntime,
    pub(crate) image: String,
    /// Another name of the same image.
    pub(crate) second_tag: String,
    socket: PathBuf,
}

impl TestEngine {
    /// `None`, said on one line, without an engine; a failure where one is required.
    pub(crate) async fn get() -> Option<Self> {
        let socket =
            std::env::var_os("THV_TEST_SOCKET").map_or_else(|| "/var/run/docker.sock".into(), PathBuf::from);
        let runtime = match DockerRuntime::connect(DockerConfig::at(&socket)).await {
            Ok(runtime) => runtime,
            Err(error) => {
                let required = std::env::var("THV_REQUIRE").unwrap_or_default();
                assert!(
                    !required.split(',').any(|name| name == "docker"),
                    "docker is required: {error}"
                );
                eprintln!("skipped: {error}");
                return None;
            }
        };
        Some(Self::over(runtime, socket).await)
    }

    /// An engine of the test's own, which has nothing yet. One for each test target.
    pub(crate) async fn at(socket: PathBuf) -> Self {
        let runtime = DockerRuntime::connect(DockerConfig::at(&socket))
            .await
            .expect("it answers");
        Self::over(runtime, socket).await
    }

    async fn over(runtime: DockerRuntime, socket: PathBuf) -> Self {
        static IMAGE: OnceCell<String> = OnceCell::const_new();
        let image = IMAGE.get_or_init(|| load_image(&runtime)).await.clone();
        Self {
            second_tag: image.replace(':', "-too:"),
            runtime,
            image,
            socket,
        }
    }

    /// Another value over the same engine.
    pub(crate) fn second(&self) -> DockerRuntime {
        DockerRuntime::new(DockerConfig::at(&self.socket))
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A server that is not there yet.
    pub(crate) fn spec(&self, command: &[&str]) -> DeploySpec {
        self.spec_named(unique_name(), command)
    }

    pub(crate) fn spec_named(&self, name: WorkloadName, command: &[&str]) -> DeploySpec {
        let mut spec = DeploySpec::new(name, &self.image);
        spec.command = command.iter().map(|&arg| arg.to_owned()).collect();
        spec
    }

    /// What its server has written so far to standard error.
    pub(crate) async fn log(&self, name: &WorkloadName) -> Vec<String> {
        let which = InstanceRef::named(name.clone());
        let lines = self.runtime.logs(&which, LogOptions::default()).await.unwrap();
        let text = lines.map(|line| String::from_utf8_lossy(&line.unwrap().line).into_owned());
        text.collect().await
    }

    /// Its server has made its preparations, how it takes a signal among them. Returns its log.
    pub(crate) async fn ready(&self, name: &WorkloadName) -> Vec<String> {
        until("a server that is ready", async || {
            let log = self.log(name).await;
            log.iter().any(|line| line == READY_LINE).then_some(log)
        })
        .await
    }

    pub(crate) async fn remove(&self, name: &WorkloadName) {
        self.runtime
            .remove(&InstanceRef::named(name.clone()))
            .await
            .expect("clean up");
    }
}

/// Asks again until there is an answer, for a few minutes at most.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            match ask().await {
                Some(answer) => return answer,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    soon(what, asking).await
}

/// What must come, however slow the machine is.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(3), work)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}

pub(crate) fn unique_name() -> WorkloadName {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_micros();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "thv-test-{}-{:x}-{next}",
        std::process::id(),
        since & 0xff_ffff_ffff
    )
    .parse()
    .unwrap()
}

/// Compiles the server, and loads it as an image that is the same each time.
async fn load_image(runtime: &DockerRuntime) -> String {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let binary = folder.path().join("server");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/server.rs");
    let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2024",
            "-Copt-level=1",
            "-Ctarget-feature=+crt-static",
            "-Cstrip=symbols",
            "-o",
        ])
        .arg(&binary)
        .arg(source)
        .status()
        .expect("rustc runs");
    assert!(status.success(), "the server does not compile");

    let layer = tar([("server", std::fs::read(&binary).unwrap().as_slice(), 0o755)]);
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Entrypoint":["/server"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
        if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        },
        sha256(&layer),
    );
    let id = sha256(config.as_bytes());
    let tag = format!("localhost/thv-test/server:{}", &id[..12]);
    let manifest = format!(
        r#"[{{"Config":"config.json","RepoTags":["{tag}","{}"],"Layers":["layer.tar"]}}]"#,
        tag.replace(':', "-too:")
    );
    let archive = tar([
        ("manifest.json", manifest.as_bytes(), 0o644),
        ("config.json", config.as_bytes(), 0o644),
        ("layer.tar", &layer, 0o644),
    ]);
    let images = runtime.images().expect("an engine has images");
    let chunks: Vec<_> = archive
        .chunks(64 << 10)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    let loaded = images
        .load(stream::iter(chunks).boxed())
        .await
        .expect("the image is loaded");
    assert!(loaded.contains(&tag), "loaded {loaded:?}, not {tag}");
    tag
}

fn tar<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8], u32)>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}
