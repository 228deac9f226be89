//! What somebody means who names a registry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use thv_core::{Dirs, Env};
use url::Url;

use crate::net::{Client, Limits, Rules};
use crate::{Accept, Error, FileRegistry, Registry, Result, Source, UrlRegistry};

/// How long the question whether there is an API may take.
const PROBE: Duration = Duration::from_secs(5);
const PROBE_BYTES: usize = 4 * 1024 * 1024;

/// Finds out what `text` means, and whether it is a registry that can be used: `file://…` or a path is a document on this
/// machine, a URL that ends in `.json` a document elsewhere, another URL an API if it answers as one, and else a document.
///
/// # Errors
/// Why it is no registry, or cannot be asked. Nothing is changed anywhere.
pub async fn detect(text: &str, allow_private: bool, dirs: &Dirs, env: &Env) -> Result<Source> {
    if let Some(path) = text.strip_prefix("file://") {
        return file(path, dirs, allow_private).await;
    }
    if !text.contains("://") {
        return file(text, dirs, allow_private).await;
    }
    let rules = Rules { allow_private };
    let url = rules.read(text)?;
    if !url.path().to_ascii_lowercase().ends_with(".json") && is_api(&Client::new(rules, env), &url).await? {
        return Ok(Source::Api(text.trim_end_matches('/').to_owned()));
    }
    let registry = UrlRegistry::new(text, allow_private, env)?;
    has_something(&registry).await?;
    Ok(Source::Url(text.to_owned()))
}

async fn file(text: &str, dirs: &Dirs, allow_private: bool) -> Result<Source> {
    let path = match Path::new(text).strip_prefix("~") {
        Ok(rest) => dirs.home.join(rest),
        Err(_) => PathBuf::from(text),
    };
    let path = std::path::absolute(&path).map_err(|error| Error::invalid(text, error.to_string()))?;
    let is_json = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if !is_json {
        let place = path.display().to_string();
        return Err(Error::invalid(
            place,
            "a registry document is a file whose name ends in .json",
        ));
    }
    let accept = Accept {
        plain_http: allow_private,
    };
    has_something(&FileRegistry::new(path.clone(), accept)).await?;
    Ok(Source::File(path))
}

async fn has_something(registry: &dyn Registry) -> Result<()> {
    let catalogue = registry.catalogue().await?;
    if catalogue.is_empty() && catalogue.others == 0 {
        let detail = match catalogue.unusable().next() {
            Some((name, why)) => format!("none of its servers can be used; {name}: {why}"),
            None => "it has no servers, skills or plugins".to_owned(),
        };
        return Err(Error::invalid(registry.source().to_string(), detail));
    }
    Ok(())
}

/// Whether the URL is the base of an API. One that wants a login is; where nothing answers nobody knows.
async fn is_api(client: &Client, base: &Url) -> Result<bool> {
    #[derive(Deserialize)]
    struct Page {
        #[expect(dead_code, reason = "that it is a list is all that counts")]
        servers: Vec<IgnoredAny>,
        #[expect(dead_code, reason = "that it is an object is all that counts")]
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {}
    let Some(url) = probe_url(base) else {
        return Ok(false);
    };
    let limits = Limits {
        time: PROBE,
        bytes: PROBE_BYTES,
    };
    let answer = match client.get(&url, limits).await {
        Ok(answer) => answer,
        Err(Error::TooLarge { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let wants_login = matches!(answer.status.as_u16(), 401 | 403);
    Ok(wants_login
        || (answer.status.is_success()
            && answer.is_json
            && serde_json::from_slice::<Page>(&answer.body).is_ok()))
}

fn probe_url(base: &Url) -> Option<Url> {
    let mut url = base.clone();
    url.path_segments_mut()
        .ok()?
        .pop_if_empty()
        .extend(["v0.1", "servers"]);
    url.set_query(Some("limit=1&version=latest"));
    Some(url)
}
