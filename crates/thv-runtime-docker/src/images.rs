//! The images of the engine.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::HeaderValue;
use serde_json::json;
use std::sync::Mutex;
use std::time::Duration;
use thv_core::RegistryCredentials;
use thv_runtime::{Error, Images, LocalImage, PullProgress, PullStep, Result};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::http::{Call, quoted, streamed};
use crate::lines::JsonLines;
use crate::quirks;
use crate::wire::{Image, Progress};

/// What is kept has a tag here: clean-ups take images without one.
const KEPT: &str = "localhost/toolhive-kept";

/// Loading reads the whole archive before the engine answers.
const LOAD_TIME: Duration = Duration::from_mins(30);

#[derive(Debug)]
pub(crate) struct EngineImages(pub(crate) Engine);

#[async_trait]
impl Images for EngineImages {
    async fn present(&self, reference: &str) -> Result<bool> {
        Ok(self.resolve_local(reference).await?.is_some())
    }

    async fn resolve_local(&self, reference: &str) -> Result<Option<LocalImage>> {
        check(reference)?;
        let found: Option<Image> = self
            .0
            .find(&format!("/images/{reference}/json"))
            .await
            .map_err(|e| self.0.error(e, format!("look for image {reference}")))?;
        Ok(found.map(|image| {
            let mut local = LocalImage::new(image.id);
            local.repo_digests = image.repo_digests;
            local.repo_tags = image.repo_tags;
            local
        }))
    }

    async fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
    ) -> Result<BoxStream<'static, Result<PullProgress>>> {
        self.pull_with(reference, platform, None).await
    }

    async fn pull_as(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: &RegistryCredentials,
    ) -> Result<BoxStream<'static, Result<PullProgress>>> {
        let auth = registry_auth(reference, credentials);
        self.pull_with(reference, platform, auth).await
    }

    async fn keep(&self, reference: &str, name: &str) -> Result<()> {
        check(reference)?;
        let path = format!("/images/{reference}/tag?repo={KEPT}&tag={}", quoted(name));
        let kept = self.0.post(&path).await;
        kept.map_err(|e| self.0.error(e, format!("keep image {reference}")))
    }

    async fn release(&self, name: &str) -> Result<()> {
        let kept = format!("{KEPT}:{name}");
        check(&kept)?;
        // By force, since a container may use it; that one is left alone.
        let path = format!("/images/{kept}?force=true&noprune=true");
        match self.0.call(|| Ok(Call::delete(path.as_str()))).await {
            Err(cause) if cause.is_not_found() => Ok(()),
            other => other
                .map(drop)
                .map_err(|e| self.0.error(e, format!("release image {kept}"))),
        }
    }

    async fn load(&self, archive: BoxStream<'static, std::io::Result<Bytes>>) -> Result<Vec<String>> {
        let failed = |e| self.0.error(e, "load images");
        // Finds the engine before the archive, which is there only once, is given away.
        self.0.info().await.map_err(failed)?;
        let archive = Mutex::new(Some(archive));
        let once = || {
            let body = archive
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
            let body = body.ok_or_else(|| EngineError::Broken("the engine went away".into()))?;
            Ok(Call::post("/images/load?quiet=true").tar(streamed(body)))
        };
        let answer = self.0.long_call(LOAD_TIME, once).await.map_err(failed)?;
        let mut steps = progress(answer.stream(Some(LOAD_TIME)));
        let mut loaded = Vec::new();
        while let Some(step) = steps.next().await {
            let step = step.map_err(failed)?;
            if let Some(message) = step.error {
                // Of a disk that is full it is told like this too.
                return Err(failed(EngineError::Status { status: 500, message }));
            }
            let line = step.stream.unwrap_or_default();
            for prefix in ["Loaded image: ", "Loaded image ID: ", "Loaded image(s): "] {
                if let Some(references) = line.strip_prefix(prefix) {
                    loaded.extend(references.trim().split(',').map(str::to_owned));
                }
            }
        }
        Ok(loaded)
    }
}

impl EngineImages {
    async fn pull_with(
        &self,
        reference: &str,
        platform: Option<&str>,
        auth: Option<HeaderValue>,
    ) -> Result<BoxStream<'static, Result<PullProgress>>> {
        check(reference)?;
        let (name, tag) = name_and_tag(reference);
        let platform = platform
            .map(|p| format!("&platform={}", quoted(p)))
            .unwrap_or_default();
        let path = format!(
            "/images/create?fromImage={}&tag={}{platform}",
            quoted(name),
            quoted(tag)
        );
        // The engine answers after its first word with the registry, however far that is.
        let silence = self.0.config().pull_silence;
        let answer = self
            .0
            .call_within(silence, || {
                Ok(Call::post(path.as_str()).registry_auth(auth.clone()))
            })
            .await;
        let body = answer
            .map_err(|e| pull_failed(&self.0, reference, e))?
            .stream(Some(silence));
        let pull = Pull {
            engine: self.0.clone(),
            reference: reference.to_owned(),
            steps: progress(body),
            told: false,
        };
        Ok(stream::unfold(Some(pull), |pull| async move {
            let mut pull = pull?;
            match pull.step().await? {
                Ok(step) => Some((Ok(step), Some(pull))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed())
    }
}

/// The registry that a reference names; `None` where it is Docker's own.
fn named_registry(reference: &str) -> Option<&str> {
    let (first, _) = reference.split_once('/')?;
    (first.contains(['.', ':']) || first == "localhost").then_some(first)
}

/// Credentials as the engine wants to have them, for the registry of `reference` alone.
fn registry_auth(reference: &str, credentials: &RegistryCredentials) -> Option<HeaderValue> {
    let server = named_registry(reference).unwrap_or("https://index.docker.io/v1/");
    let said = match credentials {
        RegistryCredentials::Password { user, password } => {
            json!({ "username": user, "password": password, "serveraddress": server })
        }
        RegistryCredentials::Identity(token) => json!({ "identitytoken": token, "serveraddress": server }),
    };
    let mut value = HeaderValue::from_str(&URL_SAFE.encode(said.to_string())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A pull under way.
struct Pull {
    engine: Engine,
    reference: String,
    steps: BoxStream<'static, Result<Progress, EngineError>>,
    /// Whether the engine has said what it came to.
    told: bool,
}

impl Pull {
    /// The next step; `None` when the image is there.
    async fn step(&mut self) -> Option<Result<PullProgress>> {
        Some(match self.steps.next().await {
            None => Err(self.check_arrival().await.err()?),
            Some(Err(cause)) => Err(self.failed(cause)),
            Some(Ok(Progress {
                error: Some(message), ..
            })) => Err(self.failed(EngineError::Status { status: 500, message })),
            Some(Ok(step)) => {
                let step = pull_step(step);
                self.told |= quirks::is_what_a_pull_came_to(&step.status);
                Ok(step)
            }
        })
    }

    /// An engine that ends in the middle of a pull may end its answer as if it was whole: then an image of that tag may be
    /// the one before.
    async fn check_arrival(&mut self) -> Result<()> {
        let says = self
            .engine
            .known()
            .is_some_and(|engine| quirks::says_what_a_pull_came_to(&engine));
        if says && !self.told {
            let cause = "it ended its answer in the middle of the pull";
            return Err(self.failed(EngineError::Broken(cause.into())));
        }
        let (name, tag) = name_and_tag(&self.reference);
        let by = if tag.contains(':') { '@' } else { ':' };
        let path = format!("/images/{name}{by}{tag}/json");
        let found: Option<Image> = self.engine.find(&path).await.map_err(|e| self.failed(e))?;
        found.map(drop).ok_or_else(|| Error::PullFailed {
            image: self.reference.clone(),
            runtime: self.engine.kind().clone(),
            source: "the engine ended the pull without the image".into(),
        })
    }

    fn failed(&self, cause: EngineError) -> Error {
        pull_failed(&self.engine, &self.reference, cause)
    }
}

/// What the engine says of a step. Its first word is about the tag, where others name a layer.
fn pull_step(told: Progress) -> PullProgress {
    let status = told.status.or(told.stream).unwrap_or_default();
    let step = match status.as_str() {
        "Downloading" => PullStep::Downloading,
        "Download complete" => PullStep::Downloaded,
        "Pull complete" | "Already exists" => PullStep::Done,
        // Other steps count other things.
        _ => PullStep::Other,
    };
    let mut progress = PullProgress::default();
    progress.layer = told.id.filter(|_| !status.starts_with("Pulling from"));
    progress.step = step;
    progress.status = status;
    let known = |size: Option<i64>| size.and_then(|bytes| u64::try_from(bytes).ok());
    progress.current = told.detail.as_ref().and_then(|detail| known(detail.current));
    progress.total = told.detail.as_ref().and_then(|detail| known(detail.total));
    progress
}

/// A reference becomes a path: what could lead to another one is no reference.
fn check(reference: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@+".contains(&b);
    let bad = reference.is_empty()
        || reference.len() > 512
        || reference.contains("..")
        || reference.starts_with('/')
        || !reference.bytes().all(plain);
    if bad {
        let shown: String = reference.chars().take(80).flat_map(char::escape_debug).collect();
        return Err(Error::Invalid {
            what: "image".to_owned(),
            detail: format!("\"{shown}\" is not a reference"),
        });
    }
    Ok(())
}

/// A pull without a tag would fetch all of them.
fn name_and_tag(reference: &str) -> (&str, &str) {
    if let Some((name, digest)) = reference.split_once('@') {
        // A tag beside a digest says nothing to the engine.
        return (without_tag(name), digest);
    }
    let name = without_tag(reference);
    (
        name,
        reference[name.len()..].strip_prefix(':').unwrap_or("latest"),
    )
}

fn without_tag(reference: &str) -> &str {
    let after_slash = reference.rfind('/').map_or(0, |at| at + 1);
    reference[after_slash..]
        .find(':')
        .map_or(reference, |colon| &reference[..after_slash + colon])
}

/// The engine passes on what the registry said; its words tell the cases apart.
fn pull_failed(engine: &Engine, reference: &str, cause: EngineError) -> Error {
    let runtime = || engine.kind().clone();
    let words = cause.message();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
    let EngineError::Status { status, message } = &cause else {
        return engine.error(cause, format!("pull {reference}"));
    };
    // First: it may say as well for whom the limit is.
    if says(&["toomanyrequests", "too many requests", "statuscode: 429"]) {
        return Error::RateLimited {
            image: reference.to_owned(),
            registry: named_registry(reference).unwrap_or("docker.io").to_owned(),
            source: Box::new(cause),
        };
    }
    if says(&[
        "unauthorized",
        "denied",
        "authentication required",
        "no basic auth",
    ]) || matches!(status, 401 | 403)
    {
        return Error::Denied {
            runtime: runtime(),
            detail: format!("pull {reference}: {message}; log in to its registry, or check the name"),
        };
    }
    let away = [
        "no such host",
        "connection refused",
        "i/o timeout",
        "dial tcp",
        "no route to host",
        "deadline exceeded",
    ];
    // Of the registry, which the engine passes on.
    let failing = [
        "500 internal server error",
        "502 bad gateway",
        "503 service unavailable",
        "504 gateway time",
    ];
    if says(&away)
        || says(&failing)
        || says(&[
            "network is unreachable",
            "client.timeout",
            "server misbehaving",
            "unexpected eof",
        ])
    {
        return Error::PullFailed {
            image: reference.to_owned(),
            runtime: runtime(),
            source: Box::new(cause),
        };
    }
    if *status == 404
        || says(&[
            "not found",
            "manifest unknown",
            "does not exist",
            "no matching manifest",
        ])
    {
        return Error::ImageNotFound {
            image: reference.to_owned(),
            runtime: runtime(),
            detail: message.clone(),
        };
    }
    engine.error(cause, format!("pull {reference}"))
}

/// The engine's JSON lines.
fn progress(
    body: BoxStream<'static, Result<Bytes, EngineError>>,
) -> BoxStream<'static, Result<Progress, EngineError>> {
    let parse = |line: Bytes| {
        serde_json::from_slice(&line).map_err(|e| EngineError::Nonsense(format!("progress: {e}")))
    };
    stream::try_unfold(
        (Some(body), JsonLines::default()),
        move |(mut body, mut lines)| async move {
            loop {
                if let Some(line) = lines.next_line() {
                    return Ok(Some((parse(line)?, (body, lines))));
                }
                let Some(open) = &mut body else { return Ok(None) };
                if let Some(chunk) = open.next().await {
                    lines.feed(&chunk?)?;
                } else {
                    let Some(line) = lines.rest() else { return Ok(None) };
                    return Ok(Some((parse(line)?, (None, lines))));
                }
            }
        },
    )
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_are_steps_of_layers() {
        let step = |line: &str| pull_step(serde_json::from_str(line).unwrap());
        let tag = step(r#"{"status":"Pulling from their/tool","id":"1"}"#);
        assert_eq!((tag.layer, tag.step), (None, PullStep::Other));
        for (status, expected) in [
            ("Pulling fs layer", PullStep::Other),
            ("Downloading", PullStep::Downloading),
            ("Verifying Checksum", PullStep::Other),
            ("Download complete", PullStep::Downloaded),
            ("Extracting", PullStep::Other),
            ("Pull complete", PullStep::Done),
            ("Already exists", PullStep::Done),
        ] {
            let line =
                format!(r#"{{"status":"{status}","id":"a","progressDetail":{{"current":10,"total":40}}}}"#);
            let step = step(&line);
            assert_eq!((step.step, step.status.as_str()), (expected, status));
            assert_eq!(step.layer.as_deref(), Some("a"));
            assert_eq!((step.current, step.total), (Some(10), Some(40)));
        }
        let unknown = step(r#"{"status":"Downloading","id":"a","progressDetail":{"current":10,"total":-1}}"#);
        assert_eq!((unknown.current, unknown.total), (Some(10), None));
    }

    #[test]
    fn a_pull_names_one_tag_or_digest() {
        for (reference, expected) in [
            ("fetch", ("fetch", "latest")),
            ("host.test:5000/a/fetch", ("host.test:5000/a/fetch", "latest")),
            ("host.test:5000/a/fetch:1.2", ("host.test:5000/a/fetch", "1.2")),
            ("a/fetch@sha256:00ff", ("a/fetch", "sha256:00ff")),
            ("a/fetch:1@sha256:00ff", ("a/fetch", "sha256:00ff")),
        ] {
            assert_eq!(name_and_tag(reference), expected, "{reference}");
        }
    }

    #[test]
    fn a_reference_cannot_lead_to_another_path() {
        for good in ["fetch", "h:5/a/b:1", "a@sha256:00", "sha256:00ff"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "../containers",
            "a/../b",
            "/a",
            "a?x=1",
            "a#b",
            "a b",
            "a%2e",
            "a\0",
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
