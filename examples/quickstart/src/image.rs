//! An image with one program and nothing else, as `docker save` would write it.

use std::fmt::Write as _;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::Result;

/// The archive of an image named `reference` that runs `program`.
pub(crate) fn archive(program: &[u8], reference: &str) -> Result<Vec<u8>> {
    let layer = tar([("echo-server", program, 0o755)])?;
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Entrypoint": ["/echo-server"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    })
    .to_string();
    let manifest = json!([{ "Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"] }]);
    tar([
        ("manifest.json", manifest.to_string().as_bytes(), 0o644),
        ("config.json", config.as_bytes(), 0o644),
        ("layer.tar", &layer, 0o644),
    ])
}

fn tar<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8], u32)>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        archive.append_data(&mut header, name, content)?;
    }
    Ok(archive.into_inner()?)
}

/// `sha256:…`.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
