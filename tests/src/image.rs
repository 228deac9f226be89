//! The echo server as an image `FROM scratch`.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::requirements::static_echo;

/// An image with one layer, which holds the echo server alone.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
}

impl Image {
    /// An image whose tool `version` answers `version`.
    pub(crate) fn new(version: &str) -> Self {
        Self::with_args(version, &[])
    }

    /// The same with a layer that no other image has, in this run or another: one that an engine has to pull.
    pub(crate) fn with_layer_of_its_own(version: &str) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let besides = format!("{version} {} {now:?}", std::process::id());
        Self::made(version, &[], Some(besides.as_bytes()), json!({}))
    }

    /// The same with a file of this many bytes beside the server.
    pub(crate) fn of_size(version: &str, size: usize) -> Self {
        Self::made(version, &[], Some(&vec![b' '; size]), json!({}))
    }

    /// The same, started with these arguments, and with these labels.
    pub(crate) fn labelled(version: &str, args: &[&str], labels: Value) -> Self {
        Self::made(version, args, None, labels)
    }

    /// The same, started with these arguments.
    pub(crate) fn with_args(version: &str, args: &[&str]) -> Self {
        Self::made(version, args, None, json!({}))
    }

    fn made(version: &str, args: &[&str], besides: Option<&[u8]>, labels: Value) -> Self {
        let binary = static_echo().expect("asked for before");
        let program = std::fs::read(binary).expect("the static echo server can be read");
        let besides = besides.map(|content| ("besides", content, 0o644));
        let layer = archive(
            [("echo-server", program.as_slice(), 0o755)]
                .into_iter()
                .chain(besides),
        );
        let entrypoint: Vec<_> = ["/echo-server"].iter().chain(args).collect();
        let mut config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Entrypoint": entrypoint, "Env": [format!("ECHO_VERSION={version}")] },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
            config["config"]["Labels"] = labels;
        }
        let config = config.to_string().into_bytes();
        Self { config, layer }
    }

    /// A tag of its own: the same content has the same.
    pub(crate) fn tag(&self) -> String {
        let digest = digest(&self.config);
        digest.trim_start_matches("sha256:")[..12].to_owned()
    }

    /// What `docker save` would write.
    pub(crate) fn saved_as(&self, reference: &str) -> Vec<u8> {
        let manifest = json!([{ "Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"] }]);
        archive([
            ("manifest.json", manifest.to_string().as_bytes(), 0o644),
            ("config.json", &self.config, 0o644),
            ("layer.tar", &self.layer, 0o644),
        ])
    }

    /// What a registry gives for it.
    pub(crate) fn manifest(&self) -> Value {
        let part = |kind: &str, content: &[u8]| json!({ "mediaType": kind, "digest": digest(content), "size": content.len() });
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("application/vnd.oci.image.config.v1+json", &self.config),
            "layers": [part("application/vnd.oci.image.layer.v1.tar", &self.layer)],
        })
    }
}

/// `sha256:…`.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn archive<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8], u32)>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        archive
            .append_data(&mut header, name, content)
            .expect("memory takes it");
    }
    archive.into_inner().expect("memory takes it")
}
