//! A document on this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use thv_files::atomic;

use crate::{Accept, Catalogue, Error, MAX_DOCUMENT_BYTES, Registry, Result, Source, parse_document};

/// A registry document in a file, which is read anew for each question.
#[derive(Debug)]
pub struct FileRegistry {
    source: Source,
    path: PathBuf,
    accept: Accept,
}

impl FileRegistry {
    /// The document at `path`. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>, accept: Accept) -> Self {
        let path = path.into();
        Self {
            source: Source::File(path.clone()),
            path,
            accept,
        }
    }
}

#[async_trait]
impl Registry for FileRegistry {
    fn source(&self) -> &Source {
        &self.source
    }

    async fn catalogue(&self) -> Result<Arc<Catalogue>> {
        let (path, place, accept) = (self.path.clone(), self.source.to_string(), self.accept);
        let read = move || parse_document(&read(&path, &place)?, &place, accept).map(Arc::new);
        match tokio::task::spawn_blocking(read).await {
            Ok(result) => result,
            Err(_) => Err(Error::unavailable(
                self.source.to_string(),
                "reading it was cut off",
            )),
        }
    }
}

/// The bytes of a file of bounded size. What is there and is no file (a pipe, a device) is not read.
fn read(path: &Path, place: &str) -> Result<Vec<u8>> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::invalid(place, "it is not a file"),
        io::ErrorKind::FileTooLarge => {
            Error::too_large(place, format!("at most {MAX_DOCUMENT_BYTES} bytes are read"))
        }
        _ => Error::Unavailable {
            place: place.to_owned(),
            detail: "it cannot be read".to_owned(),
            source: Some(error.into()),
        },
    };
    let read = atomic::read_regular(path, MAX_DOCUMENT_BYTES as u64).map_err(failed)?;
    read.ok_or_else(|| Error::unavailable(place, "there is no such file"))
}
