//! A real engine, and the echo server as images that come from no registry.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use thv::core::WorkloadName;
use thv::labels::OWNER;
use thv::runtime::{Instance, InstanceRef, Runtime as _};
use thv::runtime_docker::{DockerConfig, DockerRuntime};
use tokio::sync::OnceCell;

use crate::eventually::{WAIT, eventually};
use crate::image::Image;
use crate::requirements::{missing, static_echo};

/// A Docker engine.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: PathBuf,
    image: String,
    passing: Arc<Passing>,
}

/// Images that go with the test.
#[derive(Debug)]
struct Passing {
    socket: PathBuf,
    images: Mutex<Vec<String>>,
}

impl Drop for Passing {
    fn drop(&mut self) {
        for image in self
            .images
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            // Not worth failing for: it is in nobody's way.
            let _ = ask(&self.socket, "DELETE", &format!("/images/{image}?force=true"));
        }
    }
}

/// The engine at `THV_TEST_SOCKET`, by default `/var/run/docker.sock`, with an image of the echo server. `None`: skip.
///
/// # Panics
/// When something is missing that `THV_REQUIRE` names (`docker`, `static-echo`).
pub async fn docker() -> Option<Docker> {
    static IMAGE: OnceCell<String> = OnceCell::const_new();
    let socket =
        std::env::var_os("THV_TEST_SOCKET").map_or_else(|| "/var/run/docker.sock".into(), PathBuf::from);
    if let Err(error) = DockerRuntime::connect(DockerConfig::at(&socket)).await {
        missing("docker", &error.to_string());
        return None;
    }
    static_echo()?;
    let mut docker = Docker::without_image(socket);
    docker.image = IMAGE
        .get_or_init(async || docker.build("localhost/thv-test/echo", "1").await)
        .await
        .clone();
    Some(docker)
}

impl Docker {
    /// The engine at this socket, without an image.
    pub(crate) fn without_image(socket: PathBuf) -> Self {
        let passing = Arc::new(Passing {
            socket: socket.clone(),
            images: Mutex::default(),
        });
        Self {
            socket,
            image: String::new(),
            passing,
        }
    }

    /// An engine of a test's own, which gets the image of the echo server.
    pub(crate) async fn at(socket: PathBuf) -> Self {
        let mut docker = Self::without_image(socket);
        docker.image = docker.build("localhost/thv-test/echo", "1").await;
        docker
    }

    /// What `DOCKER_HOST` is for it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// An image of the echo server alone, that speaks as `MCP_TRANSPORT` says.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The engine through our own adapter.
    pub fn runtime(&self) -> DockerRuntime {
        DockerRuntime::new(DockerConfig::at(&self.socket))
    }

    /// What the engine has for a workload.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub async fn instance(&self, name: &str) -> Option<Instance> {
        let name: WorkloadName = name.parse().expect("a workload's name");
        self.runtime().inspect(&name).await.expect("the engine answers")
    }

    /// Builds an image of the echo server whose tool `version` answers `version`. Gives `repository:TAG` with a tag made
    /// of the content, so that the same image is built once and no test changes what another uses.
    ///
    /// # Panics
    /// When the engine does not take it.
    pub async fn build(&self, repository: &str, version: &str) -> String {
        let image = Image::new(version);
        let reference = format!("{repository}:{}", image.tag());
        self.load(&image, &reference).await;
        reference
    }

    /// The same under a reference that the test chooses; it goes with the test.
    ///
    /// # Panics
    /// As [`build`](Self::build).
    pub async fn build_as(&self, reference: &str, version: &str) {
        self.passes(reference);
        self.load(&Image::new(version), reference).await;
    }

    /// What the engine answers to a path of its API, such as `/networks`.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> String {
        let (socket, path) = (self.socket.clone(), path.to_owned());
        let asking = tokio::task::spawn_blocking(move || ask(&socket, "GET", &path));
        asking.await.expect("no panic").expect("the engine answers")
    }

    /// What the engine answers to a command of its API without a body, such as `/containers/NAME/kill`.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn post(&self, path: &str) -> String {
        let (socket, path) = (self.socket.clone(), path.to_owned());
        let asking = tokio::task::spawn_blocking(move || ask(&socket, "POST", &path));
        asking.await.expect("no panic").expect("the engine answers")
    }

    /// The process of a workload's container, on the host.
    ///
    /// # Panics
    /// When it does not run, or the engine does not answer.
    pub async fn pid(&self, name: &str) -> u32 {
        let answer = self.get(&format!("/containers/{name}/json")).await;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let about: serde_json::Value =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("no container ({error}): {answer}"));
        let pid = about["State"]["Pid"].as_u64().unwrap_or(0);
        assert_ne!(pid, 0, "it does not run: {answer}");
        u32::try_from(pid).expect("a process's id")
    }

    /// Removes a workload's container as its user may, with force.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn remove(&self, name: &str) {
        let (socket, path) = (
            self.socket.clone(),
            format!("/containers/{name}?force=true&v=true"),
        );
        let removing = tokio::task::spawn_blocking(move || ask(&socket, "DELETE", &path));
        let answer = removing.await.expect("no panic").expect("the engine answers");
        assert!(answer.starts_with("HTTP/1.0 204"), "it is not removed: {answer}");
    }

    /// Nothing on the engine has this name: no container and no network.
    ///
    /// # Panics
    /// When something has.
    pub async fn assert_gone(&self, name: &str) {
        let left = self.instance(name).await;
        assert!(left.is_none(), "a container is left: {left:?}");
        // The engine's lists lag behind its answers.
        for path in ["/networks", "/containers/json?all=true", "/volumes"] {
            eventually(WAIT, &format!("{path} without {name}"), async || {
                (!self.get(path).await.contains(name)).then_some(())
            })
            .await;
        }
    }

    /// This image goes with the test.
    pub fn passes(&self, reference: &str) {
        let mut images = self.passing.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.push(reference.to_owned());
    }

    async fn load(&self, image: &Image, reference: &str) {
        let tar = image.saved_as(reference);
        let chunks: Vec<_> = tar
            .chunks(64 << 10)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let images = self.runtime().images().expect("an engine has images");
        let loaded = images
            .load(stream::iter(chunks).boxed())
            .await
            .expect("the engine takes the image");
        assert!(
            loaded.iter().any(|known| known == reference),
            "loaded {loaded:?}, not {reference}"
        );
    }

    /// Removes all containers of an installation: at the end of a test, whatever became of it.
    pub(crate) fn remove_all_of(&self, owner: &str) {
        let (docker, owner) = (self.clone(), owner.to_owned());
        // A thread: the test's own async runtime may be the one that is dropping the machine.
        let cleaning = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("an async runtime").block_on(async {
                let engine = docker.runtime();
                for instance in engine.list().await.unwrap_or_default() {
                    let ours = instance.labels.get(OWNER).is_some_and(|other| *other == owner);
                    if let (true, Ok(name)) = (ours, instance.workload.parse()) {
                        let _ = engine.remove(&InstanceRef::named(name)).await;
                    }
                }
            });
        });
        // A panic in there must not become one while another is under way.
        let _ = cleaning.join();
    }
}

/// One request to the engine, without an async runtime.
fn ask(socket: &Path, method: &str, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{method} {path} HTTP/1.0\r\nhost: engine\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
