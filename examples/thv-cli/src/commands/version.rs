//! `thv version`.

use std::process::ExitCode;

use thv::core::Json;

use super::Done;
use crate::cli::{Format, VersionArgs};
use crate::output::{self, json};

pub(super) fn run(args: &VersionArgs) -> Done {
    let version = env!("CARGO_PKG_VERSION");
    let compiler = concat!("rust", env!("CARGO_PKG_RUST_VERSION"));
    let platform = platform();
    if args.json || args.format == Format::Json {
        // The keys are ToolHive's, and so is the missing newline.
        let object = json::Object::default()
            .with("version", version)
            .with("commit", "unknown")
            .with("build_date", "unknown")
            .with("go_version", compiler)
            .with("platform", platform);
        output::print(&json::text(&Json::from(object))?)?;
    } else {
        output::print(&format!(
            "thv {version}\nCompiler: {compiler}\nPlatform: {platform}\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Operating system and architecture by Go's names.
fn platform() -> String {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{system}/{architecture}")
}
