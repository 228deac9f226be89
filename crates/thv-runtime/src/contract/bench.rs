//! What the promises share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use thv_core::WorkloadName;
use tokio::time::{Instant, sleep, timeout};

use super::{Fixture, Server, Skip};
use crate::{DeploySpec, Deployment, EventKind, InstanceRef, Result, Runtime, RuntimeEvent, StopOptions};

/// How long the suite waits for what must happen.
pub(super) const DEADLINE: Duration = Duration::from_mins(1);

/// One promise at work: a runtime, names of its own, and the duty to clean up.
#[derive(Debug)]
pub struct Bench<'a> {
    pub(super) fixture: &'a dyn Fixture,
    pub(super) runtime: Arc<dyn Runtime>,
    promise: &'static str,
    names: Mutex<Vec<WorkloadName>>,
}

impl<'a> Bench<'a> {
    /// A bench for the promise of this name.
    pub fn new(fixture: &'a dyn Fixture, promise: &'static str) -> Self {
        Self {
            fixture,
            runtime: fixture.runtime(),
            promise,
            names: Mutex::default(),
        }
    }

    /// Removes what was deployed.
    pub async fn clean_up(&self) {
        let names = std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner));
        for name in names {
            // The promise has been judged; what cannot be removed is the engine's trouble.
            let _best_effort = self.runtime.remove(&InstanceRef::named(name)).await;
        }
    }

    /// A name that nobody else has.
    pub(super) fn name(&self) -> WorkloadName {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let text = format!("contract-{}-{:x}-{next}", std::process::id(), now & 0xffff_ffff);
        self.named(text)
    }

    fn named(&self, text: String) -> WorkloadName {
        let name = self.ok(WorkloadName::new(text), "make a name");
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.clone());
        name
    }

    pub(super) fn spec(&self, server: Server) -> std::result::Result<DeploySpec, Skip> {
        let name = self.name();
        self.fixture
            .spec(name, server)
            .ok_or_else(|| Skip(format!("the fixture has no {server:?} server")))
    }

    /// As [`spec`](Self::spec), under a name that begins with the other one's.
    pub(super) fn spec_beside(
        &self,
        other: &DeploySpec,
        server: Server,
    ) -> std::result::Result<DeploySpec, Skip> {
        let name = self.named(format!("{}-too", other.name));
        self.fixture
            .spec(name, server)
            .ok_or_else(|| Skip(format!("the fixture has no {server:?} server")))
    }

    /// Skips the promise where the runtime does not do `what`.
    pub(super) fn needs(&self, has: bool, what: &str) -> super::Outcome {
        if has {
            Ok(())
        } else {
            Err(Skip(format!(
                "runtime {} does not do {what}",
                self.runtime.kind()
            )))
        }
    }

    pub(super) async fn deploy(&self, spec: &DeploySpec) -> Deployment {
        self.ok(self.runtime.deploy(spec).await, "deploy")
    }

    pub(super) async fn stop(&self, spec: &DeploySpec, grace: Duration) {
        let which = InstanceRef::named(spec.name.clone());
        self.ok(self.runtime.stop(&which, StopOptions { grace }).await, "stop");
    }

    pub(super) async fn remove(&self, spec: &DeploySpec) {
        self.ok(
            self.runtime.remove(&InstanceRef::named(spec.name.clone())).await,
            "remove",
        );
    }

    pub(super) fn ok<T, E: std::fmt::Debug>(&self, result: std::result::Result<T, E>, what: &str) -> T {
        match result {
            Ok(value) => value,
            Err(error) => panic!("{}: could not {what}: {error:?}", self.promise),
        }
    }

    /// The code of the error that must come.
    pub(super) fn code<T>(&self, result: Result<T>, what: &str) -> &'static str {
        match result {
            Ok(_) => panic!("{}: {what} must fail", self.promise),
            Err(error) => error.code(),
        }
    }

    /// Waits for a future that must end.
    pub(super) async fn soon<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let Ok(value) = timeout(DEADLINE, future).await else {
            panic!("{}: {what} did not happen within {DEADLINE:?}", self.promise);
        };
        value
    }

    /// Asks again until the answer is `Some`.
    pub(super) async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, ask: impl Fn() -> F) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            assert!(
                Instant::now() < end,
                "{}: {what} did not happen within {DEADLINE:?}",
                self.promise
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The next event of an instance, without what may be told before it is known whole.
    pub(super) async fn event(&self, events: &mut BoxStream<'static, Result<RuntimeEvent>>) -> EventKind {
        loop {
            match self.soon("an event", events.next()).await {
                Some(event) => match self.ok(event, "read events").kind {
                    EventKind::Ending => {}
                    kind => return kind,
                },
                None => panic!("{}: the events ended", self.promise),
            }
        }
    }
}
