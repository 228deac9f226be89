//! The echo server, built for the runtime that runs it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use thv::core::{Dirs, Env};
use thv::runtime::Runtime as _;
use thv::runtime_docker::{DockerConfig, DockerRuntime};
use tokio::process::Command;

use crate::{Result, image};

/// A built server.
#[derive(Debug)]
pub(crate) struct Server {
    reference: String,
    /// The engine that was given it as an image.
    engine: Option<PathBuf>,
}

impl Server {
    /// Builds with the cargo that runs this example.
    pub(crate) async fn build(runtime: &str) -> Result<Self> {
        if runtime == "docker" {
            Self::image().await
        } else {
            Self::program().await
        }
    }

    /// What `run` is given.
    pub(crate) fn reference(&self) -> &str {
        &self.reference
    }

    /// Takes the image away again.
    pub(crate) fn remove(&self) -> Result<()> {
        match &self.engine {
            Some(socket) => remove_image(socket, &self.reference),
            None => Ok(()),
        }
    }

    async fn program() -> Result<Self> {
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        // Cargo puts the programs of a profile into one folder: this one's.
        let this = std::env::current_exe()?;
        let folder = this.parent().ok_or("this program is in no folder")?;
        let target = folder.parent().unwrap_or(folder).display().to_string();
        cargo(&[
            "build",
            "--quiet",
            "--package",
            "echo-server",
            "--profile",
            profile,
            "--target-dir",
            &target,
        ])
        .await?;
        Ok(Self {
            reference: format!("exec://{}", folder.join("echo-server").display()),
            engine: None,
        })
    }

    async fn image() -> Result<Self> {
        let env = Env::from_vars(std::env::vars_os());
        let dirs = Dirs::from_env(&env)?;
        let docker = DockerRuntime::connect(DockerConfig::discover(env, dirs)?).await?;
        let socket = PathBuf::from(docker.engine_info().await?.place);
        if !socket.is_absolute() {
            return Err(format!(
                "the engine is at {}, and this example takes one of this machine",
                socket.display()
            )
            .into());
        }
        let built = cargo(&["run", "--quiet", "--package", "xtask", "--", "static-echo"]).await?;
        let program = tokio::fs::read(built.trim()).await?;
        let reference = format!("thv-quickstart-echo:{}", std::process::id());
        let chunks: Vec<_> = image::archive(&program, &reference)?
            .chunks(64 << 10)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let images = docker.images().ok_or("the engine has no images")?;
        images.load(stream::iter(chunks).boxed()).await?;
        Ok(Self {
            reference,
            engine: Some(socket),
        })
    }
}

/// Runs cargo and gives what it writes. A dropped one is killed.
async fn cargo(args: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(cargo)
        .args(args)
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("cargo {} failed", args.join(" ")).into())
    }
}

/// One request to the engine.
fn remove_image(socket: &Path, reference: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(
        format!("DELETE /images/{reference}?force=true HTTP/1.0\r\nhost: engine\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" | "404" => Ok(()),
        _ => Err(format!("the engine answered {status} to the removal of {reference}").into()),
    }
}
