//! The program that stands beside isolated workloads, and its image.

use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest, Sha256};
use thv_runtime::{Error, Images as _, Result};
use tokio::sync::Mutex;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::files;
use crate::http::{Call, quoted};
use crate::images::EngineImages;
use crate::wire::ListedImage;

/// Its name.
pub(crate) const PROGRAM: &str = "thv-egress";

/// What its images are called, each with a tag of its own.
const REPOSITORY: &str = "localhost/toolhive/egress";
/// Their label: their containers have it too.
const LABEL: &str = thv_labels::AUXILIARY_WORKLOAD;
/// An image stays at least as long: another program of another version may be about to use it.
const KEPT_FOR: Duration = Duration::from_hours(24);

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

/// The program's image on an engine.
#[derive(Debug)]
pub(crate) struct HelperImage {
    pub(crate) reference: String,
    /// This process has not used it before.
    is_new: bool,
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
    pub(crate) async fn on(&self, engine: &Engine) -> Result<HelperImage> {
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
            return Ok(HelperImage {
                reference: reference.clone(),
                is_new: false,
            });
        }
        let program = read(path.to_owned()).await?;
        let (reference, archive) = image(&program, SystemTime::now())?;
        if !images.present(&reference).await? {
            let archive = Bytes::from(archive);
            let chunks: Vec<_> = (0..archive.len())
                .step_by(CHUNK)
                .map(|at| Ok(archive.slice(at..archive.len().min(at + CHUNK))))
                .collect();
            images.load(stream::iter(chunks).boxed()).await?;
        }
        *known = stamp.map(|stamp| (stamp, reference.clone()));
        Ok(HelperImage {
            reference,
            is_new: true,
        })
    }
}

impl HelperImage {
    /// Does `work`, and meanwhile removes images of earlier programs, as far as it comes: nobody waits for that, and an image
    /// that stays is of no harm. Once for each process and image.
    pub(crate) async fn while_removing_earlier<T>(
        &self,
        engine: &Engine,
        work: impl Future<Output = T>,
    ) -> T {
        if !self.is_new {
            return work.await;
        }
        let removing = async {
            if let Err(cause) = self.remove_earlier(engine).await {
                tracing::debug!(error = %cause, "earlier images of the helpers are not known");
            }
        };
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => done,
            () = removing => work.await,
        }
    }

    async fn remove_earlier(&self, engine: &Engine) -> Result<(), EngineError> {
        let filters = serde_json::json!({ "label": [format!("{LABEL}=true")] });
        let path = format!("/images/json?filters={}", quoted(&filters.to_string()));
        let images = engine.list::<ListedImage>(&path).await?.whole;
        let old = images.iter().filter(|image| is_old(image, SystemTime::now()));
        for reference in old.flat_map(|image| &image.repo_tags) {
            if *reference == self.reference || !is_ours(reference) {
                continue;
            }
            // Without force: one that a container has, if only one that has ended, stays.
            let path = format!("/images/{reference}");
            match engine.call(|| Ok(Call::delete(path.as_str()))).await {
                Ok(_) => tracing::debug!(image = reference, "an earlier image of the helpers is removed"),
                Err(cause) => tracing::debug!(image = reference, error = %cause, "it is kept"),
            }
        }
        Ok(())
    }
}

fn is_ours(reference: &str) -> bool {
    let tag = reference
        .strip_prefix(REPOSITORY)
        .and_then(|rest| rest.strip_prefix(':'));
    tag.is_some_and(|tag| !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether an image was made so long ago that nobody is about to use it who does not use it by now.
fn is_old(image: &ListedImage, now: SystemTime) -> bool {
    let made = u64::try_from(image.created).map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    let age = made.ok().and_then(|made| now.duration_since(made).ok());
    age.is_some_and(|age| age > KEPT_FOR)
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

/// An image of one file, as `docker save` writes it, that says when it was made, and its reference, which does not.
pub(crate) fn image(program: &[u8], made: SystemTime) -> Result<(String, Vec<u8>)> {
    let layer = tar(&[("thv-egress", program, 0o755)])?;
    let mut config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Entrypoint": ["/thv-egress"], "Labels": { LABEL: "true" } },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))] },
    });
    let reference = format!("{REPOSITORY}:{}", &sha256(config.to_string().as_bytes())[..12]);
    if let Ok(made) = jiff::Timestamp::try_from(made) {
        config["created"] = made.to_string().into();
    }
    let config = config.to_string();
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
        let now = SystemTime::now();
        let (reference, archive) = image(b"program", now).unwrap();
        assert_eq!((reference.clone(), archive), image(b"program", now).unwrap());
        assert_eq!(image(b"program", UNIX_EPOCH).unwrap().0, reference);
        assert_ne!(image(b"other", now).unwrap().0, reference);
        assert!(is_ours(&reference));
    }

    #[test]
    fn names_that_others_gave_are_none_of_ours() {
        let others = [
            "localhost/toolhive/egress",
            "localhost/toolhive/egress:",
            "localhost/toolhive/egress:mine",
            "localhost/toolhive/egress-too:00ff",
            "toolhive/egress:00ff",
            "<none>:<none>",
        ];
        for other in others {
            assert!(!is_ours(other), "{other}");
        }
    }
}
