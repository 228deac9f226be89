//! What a server said before it ended.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use thv_runtime::{DeploySpec, InstanceId, InstanceRef, LogOptions};
use tokio::time::sleep;

use crate::engine::Engine;
use crate::{logs, quirks};

/// How many lines of a server that failed at once are shown.
const LINES: usize = 20;

/// How often, and how far apart, a log that may lag is read, until it is twice the same.
const LAG: u32 = 10;
const LAG_PAUSE: Duration = Duration::from_millis(50);

/// The last lines of the log; none if it cannot be read, since another failure is the one to tell.
pub(crate) async fn of(engine: &Engine, spec: &DeploySpec, id: &str) -> Vec<String> {
    let mut lines = read(engine, spec, id).await;
    if engine.known().is_some_and(|engine| quirks::log_may_lag(&engine)) {
        for _ in 0..LAG {
            sleep(LAG_PAUSE).await;
            let again = read(engine, spec, id).await;
            let same = again == lines;
            lines = again;
            if same && lines.iter().any(|line| !line.is_empty()) {
                break;
            }
        }
    }
    lines
}

async fn read(engine: &Engine, spec: &DeploySpec, id: &str) -> Vec<String> {
    let which = InstanceRef::exact(spec.name.clone(), InstanceId::new(id));
    let opts = LogOptions {
        tail: Some(LINES),
        follow: false,
        ..LogOptions::default()
    };
    let lines = async {
        logs::logs(engine, &which, opts)
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
