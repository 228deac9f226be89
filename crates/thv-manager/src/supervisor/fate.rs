//! What becomes of the instance of a life, by its runtime's events.

use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use thv_core::WorkloadName;
use thv_runtime::{EventKind, Instance, InstanceId, InstanceState, Runtime, RuntimeEvent};

pub(super) type Events = BoxStream<'static, thv_runtime::Result<RuntimeEvent>>;

/// What is told of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// It is dead; how it ended is not known yet.
    Ending,
    /// Somebody has paused it: how it is resumed.
    Paused(String),
    /// It was dead or paused, and runs by now.
    Runs,
    /// How it ended.
    Over(String),
}

/// What becomes of an instance.
pub(super) struct Fate {
    runtime: Arc<dyn Runtime>,
    name: WorkloadName,
    id: InstanceId,
    /// `None` where nothing tells.
    events: Option<Events>,
    /// Something happened: the runtime is to be asked.
    look: bool,
    ending: bool,
    paused: bool,
}

impl Fate {
    pub(super) fn of(
        runtime: Arc<dyn Runtime>,
        name: WorkloadName,
        id: InstanceId,
        events: Option<Events>,
    ) -> Self {
        Self {
            runtime,
            name,
            id,
            events,
            // It may have ended between its deployment and now.
            look: true,
            ending: false,
            paused: false,
        }
    }

    /// How it ended; comes when it has. Cancel-safe.
    pub(super) async fn over(&mut self) -> String {
        loop {
            if let Told::Over(how) = self.next().await {
                return how;
            }
        }
    }

    /// What is told of it next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Told {
        if self.events.is_none() {
            return std::future::pending().await;
        }
        loop {
            if self.look {
                let seen = look(&*self.runtime, &self.name, &self.id).await;
                self.look = false;
                match seen {
                    Some(Seen::Over(how)) => return Told::Over(how),
                    Some(Seen::Paused(how)) if !std::mem::replace(&mut self.paused, true) => {
                        return Told::Paused(how);
                    }
                    Some(Seen::There)
                        if std::mem::take(&mut self.ending) | std::mem::take(&mut self.paused) =>
                    {
                        return Told::Runs;
                    }
                    _ => {}
                }
            }
            let event = match &mut self.events {
                Some(events) => events.next().await,
                None => None,
            };
            match event {
                Some(Ok(event)) if event.instance.as_ref().is_none_or(|of| *of == self.id) => {
                    match event.kind {
                        EventKind::Ending => {
                            self.ending = true;
                            return Told::Ending;
                        }
                        EventKind::Exited { .. }
                        | EventKind::Removed
                        | EventKind::Impaired
                        | EventKind::OutOfMemory
                        | EventKind::Paused
                        | EventKind::Resumed
                        | EventKind::Gap => self.look = true,
                        _ => {}
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::warn!(%error, "an event of the runtime is lost"),
                None => return std::future::pending().await,
            }
        }
    }
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fate").field(&self.id).finish()
    }
}

enum Seen {
    There,
    Paused(String),
    Over(String),
}

/// How the instance ended, if it did.
pub(super) async fn gone(runtime: &dyn Runtime, name: &WorkloadName, id: &InstanceId) -> Option<String> {
    match look(runtime, name, id).await {
        Some(Seen::Over(how)) => Some(how),
        _ => None,
    }
}

/// `None` where the runtime does not say.
async fn look(runtime: &dyn Runtime, name: &WorkloadName, id: &InstanceId) -> Option<Seen> {
    Some(match runtime.inspect(name).await {
        Ok(Some(Instance {
            id: there,
            state,
            status_text,
            exit_code,
            impaired,
            ..
        })) if there == *id => match state {
            InstanceState::Paused => Seen::Paused(status_text),
            InstanceState::Stopped | InstanceState::Removing => Seen::Over(match exit_code {
                // The runtime knows a reason.
                _ if status_text.starts_with("out of memory") => status_text,
                Some(code) => format!("the server exited with code {code}{}", signalled(code)),
                None => format!("the server ended: {status_text}"),
            }),
            _ => impaired.map_or(Seen::There, |why| {
                Seen::Over(format!("the server is cut off: {why}"))
            }),
        },
        Ok(_) => Seen::Over("the server's instance was removed".to_owned()),
        Err(_) => return None,
    })
}

/// Which signal an exit code stands for, as shells and engines count: 128 and its number.
fn signalled(code: i64) -> &'static str {
    match code {
        132 => " (as after SIGILL)",
        134 => " (as after SIGABRT)",
        135 => " (as after SIGBUS)",
        136 => " (as after SIGFPE)",
        137 => " (as after SIGKILL)",
        139 => " (as after SIGSEGV)",
        143 => " (as after SIGTERM)",
        159 => " (as after SIGSYS)",
        _ => "",
    }
}
