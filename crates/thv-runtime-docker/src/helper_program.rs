//! The program that stands beside isolated workloads, and its image.

use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest, Sha256};
use thv_runtime::{Error, Images as _, Result};
use tokio::sync::Mutex;

use crate::engine::Engine;
use crate::files;
use crate::images::EngineImages;

/// Its name.
pub(crate) const PROGRAM: &str = "thv-egress";

/// As much of a program as tells how it is linked.
const HEAD: u64 = 4096;
/// In what pieces an image is sent.
const CHUNK: usize = 64 << 10;

/// What is known about it; asked of every deployment, and the same as long as the file is.
#[derive(Debug, Default)]
pub(crate) struct HelperProgram {
    /// It was looked at, and can be used.
    usable: OnceLock<()>,
    /// Its image, of this length and time. Held while it is made: many deployments begin at once.
    image: Mutex<Option<(Stamp, String)>>,
}

/// When a file was written, and its length.
type Stamp = (Option<SystemTime>, u64);

impl HelperProgram {
    /// As [`check`], which a program that can be used once passed.
    pub(crate) fn check(&self, path: &Path) -> Result<(), String> {
        if self.usable.get().is_none() {
            check(path)?;
            let _ = self.usable.set(());
        }
        Ok(())
    }

    /// Its image on this engine, loaded if it is missing. The image's name is made of its content.
    pub(crate) async fn on(&self, engine: &Engine) -> Result<String> {
        let Some(path) = engine.egress_helper() else {
            return Err(Error::Unsupported {
                runtime: engine.kind().clone(),
                what: "network isolation without its helper program".to_owned(),
            });
        };
        let images = EngineImages(engine.clone());
        let mut known = self.image.lock().await;
        let stamp = stamp(path).await;
        if let Some((of, reference)) = &*known
            && Some(*of) == stamp
            && images.present(reference).await?
        {
            return Ok(reference.clone());
        }
        let program = read(path.to_owned()).await?;
        let (reference, archive) = image(&program)?;
        if !images.present(&reference).await? {
            let archive = Bytes::from(archive);
            let chunks: Vec<_> = (0..archive.len())
                .step_by(CHUNK)
                .map(|at| Ok(archive.slice(at..archive.len().min(at + CHUNK))))
                .collect();
            images.load(stream::iter(chunks).boxed()).await?;
        }
        *known = stamp.map(|stamp| (stamp, reference.clone()));
        Ok(reference)
    }
}

async fn stamp(path: &Path) -> Option<Stamp> {
    let about = tokio::fs::metadata(path).await.ok()?;
    Some((about.modified().ok(), about.len()))
}

/// Why this is not a program that runs alone in an image, and what to do about it.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let mut head = Vec::new();
    let read = files::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    match (read, is_static(&head)) {
        (Err(error), _) => Err(format!("its helper program {shown} cannot be read: {error}")),
        (Ok(_), Some(true)) => Ok(()),
        (Ok(_), Some(false)) => Err(format!(
            "its helper program {shown} is not static: build it with `cargo xtask static-egress`"
        )),
        (Ok(_), None) => Err(format!("its helper program {shown} is not a program of Linux")),
    }
}

/// Whether an ELF file of 64 bits asks for no interpreter; `None` when it is no such file.
fn is_static(head: &[u8]) -> Option<bool> {
    const INTERPRETER: u32 = 3;
    let word = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    // 64 bits, little-endian.
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (usize::try_from(long(32)?).ok()?, word(54)?, word(56)?);
    for number in 0..usize::from(count) {
        let at = table.checked_add(number.checked_mul(usize::from(size))?)?;
        // The whole entry: of what is cut off nothing is known.
        let entry = head.get(at..at.checked_add(usize::from(size))?)?;
        let kind = u32::from_le_bytes(*entry.first_chunk()?);
        if kind == INTERPRETER {
            return Some(false);
        }
    }
    Some(true)
}

/// Its content.
pub(crate) async fn read(path: std::path::PathBuf) -> Result<Vec<u8>> {
    let shown = path.display().to_string();
    let reading = tokio::task::spawn_blocking(move || std::fs::read(Path::new(&path)));
    let content = reading
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    content.map_err(|error| Error::Invalid {
        what: format!("helper program {shown}"),
        detail: error.to_string(),
    })
}

/// An image of one file, as `docker save` writes it, and its reference.
pub(crate) fn image(program: &[u8]) -> Result<(String, Vec<u8>)> {
    let layer = tar(&[("thv-egress", program, 0o755)])?;
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Entrypoint": ["/thv-egress"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))] },
    })
    .to_string();
    let reference = format!("localhost/toolhive/egress:{}", &sha256(config.as_bytes())[..12]);
    let manifest = serde_json::json!([{
        "Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"],
    }])
    .to_string();
    let archive = tar(&[
        ("manifest.json", manifest.as_bytes(), 0o644),
        ("config.json", config.as_bytes(), 0o644),
        ("layer.tar", &layer, 0o644),
    ])?;
    Ok((reference, archive))
}

fn tar(files: &[(&str, &[u8], u32)]) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::Invalid {
        what: "helper image".to_owned(),
        detail: error.to_string(),
    };
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        archive.append_data(&mut header, name, *content).map_err(failed)?;
    }
    archive.into_inner().map_err(failed)
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head with one program header of this kind.
    fn elf(kind: u32) -> Vec<u8> {
        let mut head = vec![0; 120];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[32] = 64;
        (head[54], head[56]) = (56, 1);
        head[64..68].copy_from_slice(&kind.to_le_bytes());
        head
    }

    #[test]
    fn a_program_that_needs_others_is_told_from_one_that_does_not() {
        assert_eq!(is_static(&elf(1)), Some(true));
        assert_eq!(is_static(&elf(3)), Some(false));
        for bad in [&b"#!/bin/sh\n"[..], b"", &elf(1)[..70], b"\x7fELF\x01\x01"] {
            assert_ne!(is_static(bad), Some(true), "{bad:?}");
        }
    }

    #[test]
    fn the_same_program_is_the_same_image() {
        let (reference, archive) = image(b"program").unwrap();
        assert_eq!((reference.clone(), archive), image(b"program").unwrap());
        assert_ne!(image(b"other").unwrap().0, reference);
        assert!(reference.starts_with("localhost/toolhive/egress:"));
    }
}
