//! A registry with an API: the MCP Registry API, v0.1.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use thv_core::gojson::GoTime;
use thv_core::{Clock as _, Dirs, Env, SystemClock};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use crate::cache::DiskCache;
use crate::document::{add_server, check_depth, limit_of_servers};
use crate::net::{Client, Limits, Rules};
use crate::{Accept, Catalogue, Entry, Error, MAX_DOCUMENT_BYTES, MAX_SERVERS, Registry, Result, Source};

/// How long an answer counts.
const FRESH: Duration = Duration::from_hours(1);
/// How long a stale one counts before the registry is asked again.
const RETRY: Duration = Duration::from_mins(1);
/// How long the whole list may take.
const LIST: Duration = Duration::from_mins(1);
/// How long one question may take.
const ONE: Duration = Duration::from_secs(10);
/// A registry with fewer servers on a page than is asked for may have more pages than is expected, but not endlessly.
const MAX_PAGES: usize = 1000;
/// All pages together, in bytes.
const MAX_BYTES: usize = 2 * MAX_DOCUMENT_BYTES;

/// A registry with an API, whose list is kept in memory and on disk for an hour. When a new one cannot be had the old one
/// is served, unless the registry wants a login; a name that it lacks is then not known to be absent.
#[derive(Debug)]
pub struct ApiRegistry {
    source: Source,
    base: Url,
    accept: Accept,
    client: Client,
    disk: DiskCache,
    state: Mutex<State>,
    forgotten: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    kept: Option<Kept>,
    /// Whether the disk was looked at.
    looked: bool,
}

#[derive(Debug, Clone)]
struct Kept {
    catalogue: Arc<Catalogue>,
    until: Instant,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    servers: Option<Vec<Item<'a>>>,
    #[serde(default)]
    metadata: Option<PageMetadata>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    server: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    next_cursor: Option<String>,
}

impl ApiRegistry {
    /// The registry whose API is below `base`; its cache is in `dirs`, and proxies are those of `env`. Nothing is asked
    /// yet.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) and [`Denied`](Error::Denied).
    pub fn new(base: &str, allow_private: bool, dirs: &Dirs, env: &Env) -> Result<Self> {
        let rules = Rules { allow_private };
        let base = base.trim_end_matches('/');
        Ok(Self {
            source: Source::Api(base.to_owned()),
            base: rules.read(base)?,
            accept: Accept {
                plain_http: allow_private,
            },
            client: Client::new(rules, env),
            disk: DiskCache::new(dirs.cache.join("toolhive/cache"), base),
            state: Mutex::new(State::default()),
            forgotten: AtomicBool::new(false),
        })
    }

    fn place(&self) -> String {
        self.source.to_string()
    }

    /// A URL below the base.
    fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Url> {
        let mut url = self.base.clone();
        let cannot = |()| Error::invalid(self.place(), "it cannot be the base of an API");
        url.path_segments_mut()
            .map_err(cannot)?
            .pop_if_empty()
            .extend(segments);
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// The whole list, page by page.
    async fn fetch(&self) -> Result<Vec<Box<RawValue>>> {
        let mut servers = Vec::new();
        let (mut cursor, mut seen) = (String::new(), BTreeSet::new());
        let mut room = MAX_BYTES;
        for _ in 0..MAX_PAGES {
            let mut query = vec![("limit", "100"), ("version", "latest")];
            if !cursor.is_empty() {
                query.push(("cursor", &cursor));
            }
            let url = self.url(&["v0.1", "servers"], &query)?;
            let limits = Limits {
                time: LIST,
                bytes: room.min(MAX_DOCUMENT_BYTES),
            };
            let bytes = self.client.document(&url, limits).await?;
            room -= bytes.len();
            let page = self.page(&bytes)?;
            servers.extend(
                page.servers
                    .unwrap_or_default()
                    .iter()
                    .map(|item| item.server.to_owned()),
            );
            if servers.len() > MAX_SERVERS {
                return Err(Error::too_large(self.place(), limit_of_servers()));
            }
            let next = page
                .metadata
                .and_then(|metadata| metadata.next_cursor)
                .unwrap_or_default();
            if next.is_empty() {
                return Ok(servers);
            }
            if !seen.insert(next.clone()) {
                return Err(Error::invalid(
                    self.place(),
                    "its pages go round in a circle: a cursor came twice",
                ));
            }
            cursor = next;
        }
        Err(Error::too_large(
            self.place(),
            format!("more than {MAX_PAGES} pages"),
        ))
    }

    fn page<'a>(&self, bytes: &'a [u8]) -> Result<Page<'a>> {
        check_depth(bytes, &self.place())?;
        serde_json::from_slice(bytes).map_err(|error| {
            let detail: String = error.to_string().chars().take(200).collect();
            Error::invalid(
                self.place(),
                format!("its answer is no page of servers: {detail}"),
            )
        })
    }

    /// Asks for a new list, and keeps it.
    async fn renew(&self) -> Result<Kept> {
        let servers = tokio::time::timeout(LIST, self.fetch())
            .await
            .map_err(|_| Error::unavailable(self.place(), "the list does not come in time"))??;
        let now = GoTime::from(&SystemClock.now()).to_string();
        let mut catalogue = Catalogue {
            version: "1.0.0".to_owned(),
            last_updated: now.clone(),
            ..Catalogue::default()
        };
        for server in &servers {
            add_server(&mut catalogue, server, self.accept);
        }
        let disk = self.disk.clone();
        let written = tokio::task::spawn_blocking(move || disk.write(&servers, &now)).await;
        if let Ok(Err(error)) = written {
            tracing::debug!(registry = self.place(), %error, "the registry's list is not kept on disk");
        }
        Ok(Kept {
            catalogue: Arc::new(catalogue),
            until: Instant::now() + FRESH,
        })
    }

    /// What the disk has.
    async fn recall(&self) -> Option<Kept> {
        let (disk, accept) = (self.disk.clone(), self.accept);
        let (catalogue, age) = tokio::task::spawn_blocking(move || disk.read(accept))
            .await
            .ok()??;
        Some(Kept {
            catalogue: Arc::new(catalogue),
            until: Instant::now() + FRESH.saturating_sub(age),
        })
    }

    /// Asks for one entry that the list lacks: it may be younger than the list.
    async fn ask_for(&self, name: &str) -> Result<Arc<Entry>> {
        let mut found = Catalogue::default();
        let limits = Limits {
            time: ONE,
            bytes: MAX_DOCUMENT_BYTES,
        };
        if name.contains('/') {
            let url = self.url(&["v0.1", "servers", name, "versions", "latest"], &[])?;
            let answer = self.client.get(&url, limits).await?;
            match answer.status {
                StatusCode::NOT_FOUND => return Err(Error::not_found(name)),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(Error::AuthRequired { place: self.place() });
                }
                status if status.is_success() => {}
                _ => return Err(answer.error(&url)),
            }
            check_depth(&answer.body, &self.place())?;
            let item: Item<'_> = serde_json::from_slice(&answer.body)
                .map_err(|_| Error::invalid(self.place(), "its answer is no server"))?;
            add_server(&mut found, item.server, self.accept);
            return match found.get(name) {
                Err(error) if error.is_not_found() => Err(Error::invalid(
                    self.place(),
                    "it was asked for one server and answers with another",
                )),
                other => other,
            };
        }
        let url = self.url(&["v0.1", "servers"], &[("search", name), ("version", "latest")])?;
        let bytes = self.client.document(&url, limits).await?;
        for item in self.page(&bytes)?.servers.unwrap_or_default() {
            add_server(&mut found, item.server, self.accept);
        }
        found.get(name)
    }
}

#[async_trait]
impl Registry for ApiRegistry {
    fn source(&self) -> &Source {
        &self.source
    }

    async fn kept(&self) -> Option<Arc<Catalogue>> {
        let (disk, accept) = (self.disk.clone(), self.accept);
        let read = tokio::task::spawn_blocking(move || disk.read(accept)).await;
        read.ok().flatten().map(|(catalogue, _)| Arc::new(catalogue))
    }

    async fn catalogue(&self) -> Result<Arc<Catalogue>> {
        // Whoever asks meanwhile waits for the one answer.
        let mut state = self.state.lock().await;
        let forgotten = self.forgotten.swap(false, Ordering::Relaxed);
        if !std::mem::replace(&mut state.looked, true) {
            state.kept = self.recall().await;
        }
        let now = Instant::now();
        if let Some(kept) = state.kept.as_ref().filter(|kept| !forgotten && now < kept.until) {
            return Ok(kept.catalogue.clone());
        }
        match (self.renew().await, &mut state.kept) {
            (Ok(kept), _) => Ok(state.kept.insert(kept).catalogue.clone()),
            (Err(error @ (Error::AuthRequired { .. } | Error::Denied { .. })), _) | (Err(error), None) => {
                Err(error)
            }
            (Err(error), Some(kept)) => {
                tracing::warn!(registry = self.place(), %error, "an old list of the registry is used");
                kept.until = Instant::now() + RETRY;
                Ok(kept.catalogue.clone())
            }
        }
    }

    async fn get(&self, name: &str) -> Result<Arc<Entry>> {
        match self.catalogue().await?.get(name) {
            Err(error) if error.is_not_found() && !name.is_empty() => self.ask_for(name).await,
            other => other,
        }
    }

    fn forget(&self) -> bool {
        self.forgotten.store(true, Ordering::Relaxed);
        true
    }
}
