//! `thv version`.

use std::fmt::Write as _;
use std::process::ExitCode;

use thv::core::Json;

use super::Done;
use crate::cli::{Format, VersionArgs};
use crate::output::{self, json};

pub(super) fn run(args: &VersionArgs) -> Done {
    let version = env!("CARGO_PKG_VERSION");
    // The build script finds these out; what it cannot, it calls "unknown".
    let commit = env!("THV_COMMIT");
    let build_date = env!("THV_BUILD_DATE");
    let compiler = env!("THV_COMPILER");
    let platform = platform();
    if args.json || args.format == Format::Json {
        // The keys are ToolHive's, and so is the missing newline.
        let object = json::Object::default()
            .with("version", version)
            .with("commit", commit)
            .with("build_date", build_date)
            .with("go_version", compiler)
            .with("platform", platform);
        output::print(&json::text(&Json::from(object))?)?;
    } else {
        let lines = [("Commit", commit), ("Built", build_date), ("Compiler", compiler)];
        let mut text = format!("thv {version}\n");
        for (label, value) in lines.iter().filter(|(_, value)| *value != "unknown") {
            let _ = writeln!(text, "{label}: {value}");
        }
        output::print(&format!("{text}Platform: {platform}\n"))?;
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
