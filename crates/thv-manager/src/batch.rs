//! Many workloads at once: a result per name, and nobody suffers for another.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thv_core::WorkloadName;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    Error, Manager, Result, RunOptions, RunOutcome, RunRequest, StartOptions, StopOptions, StopOutcome,
};

/// How many workloads are worked on at once.
const CONCURRENCY: usize = 8;
/// How long one workload may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Batches: eight workloads are worked on at once, each for five minutes at most, in tasks of the async runtime that the
/// call is made in. What fails for one of them is its own result.
///
/// # Panics
/// Outside a tokio runtime.
impl Manager {
    /// Runs what each of `requests` asks for. A result is named as its request is: by [`RunRequest::name`], or by
    /// [`RunRequest::server`] where it has none.
    pub fn run_all(&self, requests: Vec<RunRequest>, options: RunOptions) -> Batch<RunOutcome> {
        let manager = self.clone();
        let named = requests.into_iter().map(|request| {
            let name = request.name.as_ref().unwrap_or(&request.server);
            (name.clone(), request)
        });
        Batch::start("run", named.collect(), move |_, request| {
            let (manager, options) = (manager.clone(), options.clone());
            async move { manager.run(request, options).await }
        })
    }

    /// Stops each of `names`.
    pub fn stop_all(&self, names: Vec<String>, options: StopOptions) -> Batch<StopOutcome> {
        let manager = self.clone();
        Batch::of_names("stop", names, move |name| {
            let manager = manager.clone();
            async move { manager.stop(&WorkloadName::new(name)?, options).await }
        })
    }

    /// Starts each of `names`.
    pub fn start_all(&self, names: Vec<String>, options: StartOptions) -> Batch<RunOutcome> {
        let manager = self.clone();
        Batch::of_names("start", names, move |name| {
            let (manager, options) = (manager.clone(), options.clone());
            async move { manager.start(&WorkloadName::new(name)?, options).await }
        })
    }

    /// Stops each of `names` if it runs, and starts it.
    pub fn restart_all(
        &self,
        names: Vec<String>,
        stop: StopOptions,
        start: StartOptions,
    ) -> Batch<RunOutcome> {
        let manager = self.clone();
        Batch::of_names("restart", names, move |name| {
            let (manager, start) = (manager.clone(), start.clone());
            async move { manager.restart(&WorkloadName::new(name)?, stop, start).await }
        })
    }

    /// Deletes each of `names`.
    pub fn delete_all(&self, names: Vec<String>, options: StopOptions) -> Batch<()> {
        let manager = self.clone();
        Batch::of_names("delete", names, move |name| {
            let manager = manager.clone();
            async move { manager.delete(&WorkloadName::new(name)?, options).await }
        })
    }
}

/// The result of one name in a batch.
#[derive(Debug)]
pub struct BatchResult<T> {
    /// The name as it was given.
    pub name: String,
    /// What came of it.
    pub result: Result<T>,
}

/// A batch under way: await it for a result per name, in the order in which they were given, ask whether it
/// [is done](Batch::is_done), or how far it has [come](Batch::finished). Dropping it lets the work go on.
#[derive(Debug)]
pub struct Batch<T> {
    results: oneshot::Receiver<Vec<BatchResult<T>>>,
    finished: watch::Receiver<usize>,
    names: Vec<String>,
}

impl<T: Send + 'static> Batch<T> {
    /// As [`start`](Self::start), for verbs that need nothing but a name.
    pub(crate) fn of_names<F, Fut>(operation: &'static str, names: Vec<String>, verb: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let named = names.into_iter().map(|name| (name, ())).collect();
        Self::start(operation, named, move |name, ()| verb(name))
    }

    /// Starts `verb` for each name and what comes with it, a bounded number at once.
    pub(crate) fn start<I, F, Fut>(operation: &'static str, given: Vec<(String, I)>, verb: F) -> Self
    where
        I: Send + 'static,
        F: Fn(String, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let (done, results) = oneshot::channel();
        let (count, finished) = watch::channel(0);
        let names = given.iter().map(|(name, _)| name.clone()).collect();
        tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(CONCURRENCY));
            let (verb, count) = (Arc::new(verb), Arc::new(count));
            let tasks: Vec<_> = given
                .into_iter()
                .map(|(name, item)| {
                    let (places, verb, count) = (places.clone(), verb.clone(), count.clone());
                    let of = name.clone();
                    let task = tokio::spawn(async move {
                        let _place = places.acquire().await;
                        // Counted also when the verb panics.
                        let _counted = Counted(count);
                        tokio::time::timeout(LIMIT, verb(of.clone(), item))
                            .await
                            .unwrap_or_else(|_| {
                                Err(Error::TimedOut {
                                    name: of,
                                    operation,
                                    limit: LIMIT,
                                })
                            })
                    });
                    (name, task)
                })
                .collect();
            let mut all = Vec::with_capacity(tasks.len());
            for (name, task) in tasks {
                let result = task.await.unwrap_or_else(|_| {
                    Err(Error::Panicked {
                        name: name.clone(),
                        operation,
                    })
                });
                all.push(BatchResult { name, result });
            }
            // Nobody waits any more: that is what dropping the handle means.
            let _ = done.send(all);
        });
        Self {
            results,
            finished,
            names,
        }
    }

    /// Of how many names the result is there, as it grows; it outlives the batch.
    pub fn finished(&self) -> watch::Receiver<usize> {
        self.finished.clone()
    }

    /// The names that are worked on.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether all results are there, so that awaiting would not wait.
    pub fn is_done(&self) -> bool {
        !self.results.is_empty() || self.results.is_terminated()
    }
}

/// Counts one more when it is dropped.
struct Counted(Arc<watch::Sender<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count += 1);
    }
}

impl<T: Send + 'static> IntoFuture for Batch<T> {
    type Output = Vec<BatchResult<T>>;
    type IntoFuture = BatchFuture<T>;

    fn into_future(self) -> BatchFuture<T> {
        BatchFuture {
            results: self.results,
            names: self.names,
        }
    }
}

/// The future of a [`Batch`].
#[derive(Debug)]
pub struct BatchFuture<T> {
    results: oneshot::Receiver<Vec<BatchResult<T>>>,
    names: Vec<String>,
}

impl<T> Future for BatchFuture<T> {
    type Output = Vec<BatchResult<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.results).poll(cx).map(|results| {
            results.unwrap_or_else(|_| {
                // The async runtime was shut down under the batch.
                let names = std::mem::take(&mut self.names);
                names
                    .into_iter()
                    .map(|name| BatchResult {
                        result: Err(Error::Panicked {
                            name: name.clone(),
                            operation: "batch",
                        }),
                        name,
                    })
                    .collect()
            })
        })
    }
}
