//! A signature as registries have it: an artifact of its own.

use serde_json::{Value, json};

use super::{Form, Signature};
use crate::image::digest;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const COSIGN: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const COSIGN_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// What has to be in a registry for a signature to be found.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) manifest: Value,
    /// Its tag; none: it refers to the image.
    pub(crate) tag: Option<String>,
    /// What a list of referrers says of it.
    pub(crate) listed: Value,
}

impl Attached {
    pub(crate) fn of(signature: &Signature) -> Self {
        let part = |kind: &str, content: &[u8]| json!({ "mediaType": kind, "digest": digest(content), "size": content.len() });
        let cosign = matches!(signature.form, Form::CosignTag | Form::CosignReferrer);
        let mut layer = part(if cosign { COSIGN } else { BUNDLE }, &signature.content);
        layer["annotations"] = signature.annotations.clone();
        let config = part("application/vnd.oci.empty.v1+json", b"{}");
        let mut manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let tag =
            (signature.form == Form::CosignTag).then(|| format!("{}.sig", signature.about.replace(':', "-")));
        let kind = if cosign { COSIGN_ARTIFACT } else { BUNDLE };
        if tag.is_none() {
            manifest["artifactType"] = kind.into();
            manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": signature.about, "size": 1 });
        }
        let content = manifest.to_string();
        let mut listed = part(MANIFEST, content.as_bytes());
        listed["artifactType"] = kind.into();
        Self {
            blobs: vec![b"{}".to_vec(), signature.content.clone()],
            manifest,
            tag,
            listed,
        }
    }
}
