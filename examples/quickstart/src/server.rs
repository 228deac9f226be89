//! The echo server, built for the runtime that runs it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;

/// A built server; an image is removed in the end.
#[derive(Debug)]
pub(crate) struct Server {
    reference: String,
    image: Option<String>,
}

impl Server {
    /// Builds with the cargo that runs this example.
    pub(crate) fn build(runtime: &str) -> Result<Self> {
        if runtime == "docker" {
            Self::image()
        } else {
            Self::program()
        }
    }

    /// What `run` is given.
    pub(crate) fn reference(&self) -> &str {
        &self.reference
    }

    fn program() -> Result<Self> {
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let output = cargo(&[
            "build",
            "--quiet",
            "--package",
            "echo-server",
            "--profile",
            profile,
        ])?;
        debug_assert!(output.is_empty());
        // Cargo puts the programs of a profile into one folder: this one's.
        let this = std::env::current_exe()?;
        let program = this.with_file_name("echo-server");
        Ok(Self {
            reference: format!("exec://{}", program.display()),
            image: None,
        })
    }

    fn image() -> Result<Self> {
        let tag = format!("thv-quickstart-echo:{}", std::process::id());
        cargo(&["run", "--quiet", "--package", "xtask", "--", "echo-image", &tag])?;
        Ok(Self {
            reference: tag.clone(),
            image: Some(tag),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(tag) = &self.image {
            // An image that stays behind is not worth an error.
            let _ = Command::new("docker")
                .args(["image", "rm", tag])
                .stdout(Stdio::null())
                .status();
        }
    }
}

fn cargo(args: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(cargo)
        .args(args)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("cargo {} failed", args.join(" ")).into())
    }
}
