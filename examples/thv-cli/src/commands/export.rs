//! `thv export`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use thv::core::WorkloadName;
use thv::files::atomic;

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
    let config = manager()?.export(&name).await?.to_json();
    if is_standard_output(&args.path) {
        // Nothing else may stand in it.
        output::print(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    let shown = args.path.display();
    write(&args.path, &config).map_err(|error| Failure::new(format!("cannot write {shown}: {error}")))?;
    output::print(&format!(
        "Successfully exported run configuration for '{name}' to '{shown}'\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// By its usual names. What was written to it before, and what comes after, is not ours to replace.
fn is_standard_output(path: &Path) -> bool {
    let names = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    names.iter().any(|name| path == Path::new(name))
}

/// Its values may be confidential: nobody else reads the file, also where another one was before. What is there and is no
/// file (a pipe, a terminal), or is somebody's open one, is written to, not replaced.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::metadata(path) {
        Ok(there) if there.is_file() && !is_open_already(path) => {
            atomic::replace(&path.canonicalize()?, PREFIX, text.as_bytes())
        }
        Ok(_) => std::fs::OpenOptions::new()
            .append(true)
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

/// Whether the path names a descriptor, as shells hand them over (`3>file`, `/dev/fd/3`).
fn is_open_already(path: &Path) -> bool {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    folder.is_some_and(|folder| folder.starts_with("/proc"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn an_open_file_is_written_to_and_another_one_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let mut open = std::fs::File::create(&path).unwrap();
        open.write_all(b"before\n").unwrap();
        let descriptor = format!("/dev/fd/{}", open.as_raw_fd());
        write(Path::new(&descriptor), "text\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\ntext\n");
        write(&path, "text\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text\n");
    }
}
