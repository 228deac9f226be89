//! Cargo as a subprocess, and what `cargo metadata` says about the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A member of the workspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// The folder of its manifest.
    pub(crate) folder: PathBuf,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) published: bool,
    pub(crate) has_default_features: bool,
    /// Its features but `default`, in order.
    pub(crate) features: Vec<String>,
    /// Names of its normal and build dependencies.
    pub(crate) dependencies: Vec<String>,
    /// The root files of its targets.
    pub(crate) targets: Vec<PathBuf>,
}

/// Cargo, the one that runs this task.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Runs a command to its end; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}"))
    }
}

/// Runs a command to its end and gives its stdout; stderr goes where ours goes.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    command.stderr(std::process::Stdio::inherit());
    let output = command
        .output()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{command:?}: output is not UTF-8"))
}

/// The members of the workspace at `root`.
pub(crate) fn members(root: &Path) -> Result<Vec<Member>, String> {
    let text = output(cargo(root).args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    Ok(list(&metadata["packages"]).map(member).collect())
}

fn member(package: &Value) -> Member {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap_or_default());
    let features = package["features"].as_object();
    Member {
        name: text(&package["name"]).unwrap_or_default(),
        folder: manifest.parent().unwrap_or(&manifest).to_owned(),
        description: text(&package["description"]),
        license: text(&package["license"]),
        // `publish = false` is an empty list of registries.
        published: package["publish"]
            .as_array()
            .is_none_or(|registries| !registries.is_empty()),
        has_default_features: features.is_some_and(|features| features.contains_key("default")),
        features: features
            .into_iter()
            .flat_map(serde_json::Map::keys)
            .filter(|name| *name != "default")
            .cloned()
            .collect(),
        dependencies: list(&package["dependencies"])
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| text(&dependency["name"]))
            .collect(),
        targets: list(&package["targets"])
            .filter_map(|target| target["src_path"].as_str().map(PathBuf::from))
            .collect(),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
