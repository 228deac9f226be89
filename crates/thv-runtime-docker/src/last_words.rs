//! What a server, or a helper of it, said before it ended.

use bytes::Bytes;
use futures_util::TryStreamExt;
use thv_runtime::{DeploySpec, LogOptions};

use crate::engine::Engine;
use crate::{attach, logs};

/// How many lines of a server that failed at once are shown.
const LINES: usize = 20;

/// The last lines of the log; none if it cannot be read, since another failure is the one to tell.
pub(crate) async fn of(engine: &Engine, spec: &DeploySpec, id: &str) -> Vec<String> {
    if let Some(words) = attach::last_words(engine, id).await {
        let words = String::from_utf8_lossy(&words);
        let lines: Vec<_> = words.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        return last.iter().map(|&line| line.to_owned()).collect();
    }
    let opts = LogOptions {
        tail: Some(LINES),
        follow: false,
        ..LogOptions::default()
    };
    let lines = async {
        logs::of_container(engine, &spec.name, id.to_owned(), opts)
            .await?
            .map_ok(|line| line.line)
            .try_collect()
            .await
    };
    let lines: Vec<Bytes> = lines.await.unwrap_or_default();
    lines
        .iter()
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect()
}
