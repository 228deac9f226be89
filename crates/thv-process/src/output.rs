//! Where this process writes: its standard output and error.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Whether standard error is this file: not another one of the same path.
pub fn writes_to(file: &File) -> io::Result<bool> {
    let errors = rustix::fs::fstat(rustix::stdio::stderr())?;
    let file = file.metadata()?;
    Ok((errors.st_dev, errors.st_ino) == (file.dev(), file.ino()))
}

/// Lets standard output and error go to this file from now on, whatever thread writes.
pub fn write_to(file: &File) -> io::Result<()> {
    rustix::stdio::dup2_stdout(file)?;
    Ok(rustix::stdio::dup2_stderr(file)?)
}
