//! The one place where run configurations are built.
//!
//! [`build`] is pure but for what it reads through [`Files`]: it touches nothing, chooses no port and asks no engine.

mod build;
#[cfg(feature = "registry")]
mod entry;
mod env;
mod files;
mod forward_headers;
mod glob;
mod ignore_files;
mod labels;
mod permissions;
mod request_field;
mod run_request;
mod server;
mod tools;
mod volumes;

pub(crate) use build::{Built, RuntimeChoice, Sources, build, set_ports};
#[cfg(feature = "registry")]
pub use entry::{EntryOrigin, EntryPlan, MissingValue};
#[cfg(feature = "registry")]
pub(crate) use entry::{given_names, plan};
pub use files::{FileEntry, Files, MemoryFiles, SystemFiles};
pub use request_field::RequestField;
pub use run_request::RunRequest;
pub(crate) use tools::parameters as tool_parameters;

use std::path::PathBuf;

use thv_core::RunConfig;
use thv_runtime::HiddenPath;

use crate::parts::Parts;
use crate::{Error, Result};

/// Builds the configuration that `request` asks for.
pub(crate) async fn build_from(parts: &Parts, request: &RunRequest) -> Result<Built> {
    let request = request.clone();
    reading(parts, move |sources| build(&request, sources)).await
}

/// Looks up what a complete configuration only names: its profile.
pub(crate) async fn complete(parts: &Parts, mut config: RunConfig) -> Result<RunConfig> {
    reading(parts, move |sources| {
        permissions::look_up(&mut config, sources)?;
        Ok(config)
    })
    .await
}

/// What ignore files hide of a configuration's mounts, as it is now.
pub(crate) async fn hidden_paths(parts: &Parts, config: &RunConfig) -> Result<Vec<HiddenPath>> {
    let config = config.clone();
    reading(parts, move |sources| ignore_files::hidden(&config, sources)).await
}

/// Whether the certificates by which a remote server is believed can be read now.
pub(crate) async fn check_ca_bundle(parts: &Parts, config: &RunConfig) -> Result<()> {
    if !config.is_remote() || config.thv_ca_bundle.is_empty() {
        return Ok(());
    }
    let path = PathBuf::from(&config.thv_ca_bundle);
    reading(parts, move |sources| build::check_certificates(&path, sources)).await
}

/// Files are read off the async threads: they may be pipes, or on a disk that is away.
pub(crate) async fn reading<T: Send + 'static>(
    parts: &Parts,
    work: impl FnOnce(&Sources<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (env, dirs) = (parts.env.clone(), parts.dirs.clone());
    let (files, ports) = (parts.files.clone(), parts.ports.clone());
    let never_waits = files.never_waits() && ports.never_waits();
    let work = move || {
        work(&Sources {
            env: &env,
            dirs: &dirs,
            files: &*files,
            ports: &*ports,
        })
    };
    if never_waits {
        return work();
    }
    let task = tokio::task::spawn_blocking(work);
    task.await.map_err(|error| Error::Io {
        action: "read what the request names".into(),
        source: std::io::Error::other(error),
    })?
}

/// The error of something that a request names or leads to.
fn invalid(what: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::Invalid {
        what: what.into(),
        detail: detail.into(),
    }
}

/// The error of a part of a request.
fn refused(field: RequestField, detail: impl Into<String>) -> Error {
    Error::InvalidRequest {
        field,
        value: None,
        detail: detail.into(),
    }
}

/// The same, with the text that was given; it is no secret.
fn refused_value(field: RequestField, value: &str, detail: impl Into<String>) -> Error {
    Error::InvalidRequest {
        field,
        value: Some(shown(value)),
        detail: detail.into(),
    }
}

/// A text from outside as a message can show it: escaped and cut.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().count() > 80 {
        shown.push('…');
    }
    shown
}
