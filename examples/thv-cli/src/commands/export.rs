//! `thv export`.

use std::path::Path;
use std::process::ExitCode;

use thv::core::WorkloadName;
use thv::state::atomic;

use super::{Done, Failure, manager};
use crate::cli::{ExportArgs, ExportFormat};
use crate::output;

pub(super) async fn run(args: &ExportArgs) -> Done {
    if args.format == ExportFormat::K8s {
        return Err(Failure::new("--format k8s is not built yet: use json"));
    }
    let name = WorkloadName::new(args.name.as_str())?;
    let config = manager()?.export(&name).await?;
    let shown = args.path.display();
    write(&args.path, &config.to_json())
        .map_err(|error| Failure::new(format!("cannot write {shown}: {error}")))?;
    output::print(&format!(
        "Successfully exported run configuration for '{name}' to '{shown}'\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Its values may be confidential: nobody else reads the file, also where another one was before.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        atomic::create_folder(folder, 0o750)?;
    }
    atomic::replace(path, ".thv-export-", text.as_bytes())
}
