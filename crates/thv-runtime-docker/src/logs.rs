//! What a server wrote, out of the engine's log.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use thv_core::WorkloadName;
use thv_runtime::{Error, InstanceRef, LogLine, LogOptions, Result};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::events::{self, Feed};
use crate::http::Call;
use crate::lines::LogLines;
use crate::lookup::{self, container};
use crate::quirks;

pub(crate) async fn logs(
    engine: &Engine,
    which: &InstanceRef,
    opts: LogOptions,
) -> Result<BoxStream<'static, Result<LogLine>>> {
    let row = lookup::required(engine, which).await?;
    of_container(engine, &which.name, row.id, opts).await
}

/// The log of a container that is the workload's, or around it.
pub(crate) async fn of_container(
    engine: &Engine,
    name: &WorkloadName,
    id: String,
    opts: LogOptions,
) -> Result<BoxStream<'static, Result<LogLine>>> {
    let reading = || format!("read the log of workload \"{name}\"");
    let found = lookup::details(engine, &id)
        .await
        .map_err(|e| engine.error(e, reading()))?;
    if found.is_some_and(|found| found.host_config.log_config.is_none()) {
        return Err(Error::NotLogged {
            name: name.clone(),
            runtime: engine.kind().clone(),
        });
    }
    // Of a log that goes on nobody knows where the last lines begin.
    let whole = !opts.follow
        && engine
            .known()
            .is_some_and(|engine| !quirks::has_last_lines(&engine));
    let keep = opts.tail.filter(|_| whole);
    let mut reader = Reader {
        engine: engine.clone(),
        name: name.clone(),
        id,
        opts,
        body: None,
        lines: LogLines::default(),
        ready: VecDeque::new(),
        last: None,
        events: None,
        keep,
        failure: None,
        done: false,
    };
    reader.open().await.map_err(|e| reader.failed(e))?;
    Ok(stream::unfold(reader, |mut reader| async move {
        let item = reader.next().await?;
        Some((item, reader))
    })
    .boxed())
}

struct Reader {
    engine: Engine,
    name: WorkloadName,
    id: String,
    opts: LogOptions,
    body: Option<BoxStream<'static, Result<Bytes, EngineError>>>,
    lines: LogLines,
    ready: VecDeque<LogLine>,
    /// Up to when lines were handed on: where to go on after a restart of the container.
    last: Option<Timestamp>,
    /// Following only: the engine ends a log with its container, so a start of it is waited for.
    events: Option<Feed>,
    /// So many of the last lines are kept until the end, where the engine cannot be asked for them.
    keep: Option<usize>,
    /// Told after the lines that came before it.
    failure: Option<EngineError>,
    done: bool,
}

impl Reader {
    async fn open(&mut self) -> Result<(), EngineError> {
        if self.opts.follow && self.events.is_none() {
            // Before the log, so that no start is missed.
            self.events = Some(events::of_container(&self.engine, &self.id).await?);
        }
        let from = match self.last {
            Some(last) => {
                let next = last.as_nanosecond() + 1;
                format!(
                    "tail=all&since={}.{:09}",
                    next.div_euclid(1_000_000_000),
                    next.rem_euclid(1_000_000_000)
                )
            }
            None => self
                .opts
                .tail
                .filter(|_| self.keep.is_none())
                .map_or("tail=all".to_owned(), |lines| format!("tail={lines}")),
        };
        let (follow, stdout) = (self.opts.follow, !self.opts.without_stdout);
        let path = container(
            &self.id,
            &format!("/logs?stdout={stdout}&stderr=true&timestamps=true&follow={follow}&{from}"),
        );
        let idle = (!follow).then(|| self.engine.call_timeout());
        let answer = self.engine.call(|| Ok(Call::get(path.as_str()))).await?;
        self.body = Some(answer.stream(idle));
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<LogLine>> {
        loop {
            let surplus = self.keep.map_or(0, |keep| self.ready.len().saturating_sub(keep));
            self.ready.drain(..surplus);
            if (self.keep.is_none() || self.done)
                && let Some(line) = self.ready.pop_front()
            {
                return Some(Ok(line));
            }
            if self.done {
                let cause = self.failure.take()?;
                return Some(Err(self.failed(cause)));
            }
            if let Err(cause) = self.advance().await {
                (self.done, self.failure) = (true, Some(cause));
            }
        }
    }

    async fn advance(&mut self) -> Result<(), EngineError> {
        if let Some(body) = &mut self.body {
            if let Some(chunk) = body.next().await {
                self.lines.feed(&chunk?);
                while let Some(line) = self.lines.next_line()? {
                    self.last = line.time.or(self.last);
                    self.ready.push_back(line);
                }
            } else {
                self.ready.extend(self.lines.rest());
                self.body = None;
                self.done = !self.opts.follow;
            }
            return Ok(());
        }
        let Some(events) = &mut self.events else {
            self.done = true;
            return Ok(());
        };
        match events.next().await? {
            Some(event) if event.action == "start" => {
                if self.last.is_none() {
                    let started = event
                        .time_nano
                        .and_then(|nanos| Timestamp::from_nanosecond(nanos.into()).ok());
                    self.last = started.filter(|_| self.opts.tail.is_some());
                }
                match self.open().await {
                    Err(cause) if cause.is_not_found() => self.done = true,
                    other => other?,
                }
            }
            Some(event) if matches!(event.action.as_str(), "destroy" | "remove") => self.done = true,
            Some(_) => {}
            None => return Err(EngineError::Broken("the engine ended its events".into())),
        }
        Ok(())
    }

    fn failed(&self, cause: EngineError) -> thv_runtime::Error {
        self.engine
            .error(cause, format!("read the log of workload \"{}\"", self.name))
    }
}
