//! Manifests and indexes, as much of them as is looked at.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Digest;
use crate::client::Fault;
use crate::error::short;

/// What manifests are asked for as.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// More entries are not looked at: nobody builds for so many platforms.
const MAX_ENTRIES: usize = 1024;

/// A manifest or an index whose bytes have this digest.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

/// A manifest, an index or both: only what is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Index {
    pub(crate) schema_version: u64,
    pub(crate) artifact_type: String,
    pub(crate) manifests: Option<Vec<Descriptor>>,
    pub(crate) config: Option<Descriptor>,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) subject: Option<Descriptor>,
}

/// What another document is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) artifact_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) platform: Option<Platform>,
}

/// What an image is made for: of an index's entry, or of an image's configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
}

impl Platform {
    pub(crate) fn is(&self, platform: &str) -> bool {
        platform.split_once('/').is_some_and(|(os, rest)| {
            let architecture = rest.split('/').next().unwrap_or(rest);
            self.os == os && self.architecture == architecture
        })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", short(&self.os), short(&self.architecture))
    }
}

impl Descriptor {
    pub(crate) fn digest(&self) -> Result<Digest, Fault> {
        self.digest
            .parse()
            .map_err(|error: crate::Error| Fault::Bad(error.to_string()))
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

impl Manifest {
    pub(crate) fn read(&self) -> Result<Index, Fault> {
        let index: Index = serde_json::from_slice(&self.bytes)
            .map_err(|_| Fault::Bad("what it gives is no manifest".into()))?;
        if index.schema_version != 2 {
            return Err(Fault::Bad("its manifest is of an unsupported version".into()));
        }
        if index.manifests.is_some() == index.config.is_some() {
            return Err(Fault::Bad("its manifest is neither an image nor an index".into()));
        }
        Ok(index)
    }
}

/// The entry of an index that is made for `platform`.
pub(crate) fn for_platform<'a>(entries: &'a [Descriptor], platform: &str) -> Result<&'a Descriptor, Fault> {
    if entries.len() > MAX_ENTRIES {
        return Err(Fault::Bad("its index has too many entries".into()));
    }
    entries
        .iter()
        .find(|entry| entry.platform.as_ref().is_some_and(|it| it.is(platform)))
        .ok_or_else(|| {
            let offered: Vec<_> = entries
                .iter()
                .filter_map(|entry| entry.platform.as_ref())
                .filter(|it| it.os != "unknown")
                .take(16)
                .map(ToString::to_string)
                .collect();
            wrong_platform(platform, offered.join(", "))
        })
}

pub(crate) fn wrong_platform(platform: &str, offered: String) -> Fault {
    Fault::WrongPlatform {
        platform: platform.to_owned(),
        offered: if offered.is_empty() {
            "none that is named".into()
        } else {
            offered
        },
    }
}
