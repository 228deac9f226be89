//! `thv export`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use thv::core::WorkloadName;
use thv::state::atomic;

use super::{Done, Failure, manager};
use crate::cli::{ExportArgs, ExportFormat};
use crate::output;

/// How the temporary file beside it begins.
const PREFIX: &str = ".thv-export-";

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

/// Its values may be confidential: nobody else reads the file, also where another one was before. What is there and is no
/// file (a pipe, a terminal) is written to, not replaced.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::metadata(path) {
        Ok(there) if there.is_file() => atomic::replace(&path.canonicalize()?, PREFIX, text.as_bytes()),
        Ok(_) => std::fs::OpenOptions::new()
            .write(true)
            .open(path)?
            .write_all(text.as_bytes()),
        Err(_) => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                atomic::create_folder(folder, 0o750)?;
            }
            atomic::replace(path, PREFIX, text.as_bytes())
        }
    }
}
