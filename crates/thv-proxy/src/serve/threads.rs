//! The threads that share the connections of a listener.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The caller's runtime, and further threads with a runtime of their own each. A connection stays on the one where it
/// began, so that a call need not go from thread to thread.
#[derive(Debug)]
pub(super) struct Threads {
    callers: Thread,
    further: Vec<Thread>,
    most: usize,
    end: CancellationToken,
    _end_on_drop: DropGuard,
}

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    /// Each connection holds one.
    connections: Arc<()>,
    /// None of the caller's.
    own: Option<Own>,
}

/// What tells that a thread ends.
#[derive(Debug)]
struct Own {
    ending: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

/// A connection, and where it is served.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) stream: TcpStream,
    pub(super) runtime: Handle,
    /// Is held as long as the connection is there.
    pub(super) counted: Arc<()>,
}

impl Thread {
    fn load(&self) -> usize {
        Arc::strong_count(&self.connections) - 1
    }
}

impl Threads {
    /// At most so many, the caller's among them. Must be called in a runtime.
    pub(super) fn new(most: usize) -> Self {
        let end = CancellationToken::new();
        Self {
            callers: Thread {
                runtime: Handle::current(),
                connections: Arc::default(),
                own: None,
            },
            further: Vec::new(),
            most,
            _end_on_drop: end.clone().drop_guard(),
            end,
        }
    }

    /// Gives a connection to the thread that has fewest; to a new one while each has some.
    pub(super) fn place(&mut self, stream: TcpStream) -> io::Result<Placed> {
        let threads = 1 + self.further.len();
        if threads < self.most && self.all().all(|thread| thread.load() > 0) {
            match start(threads, self.end.clone()) {
                Ok(thread) => self.further.push(thread),
                Err(error) => {
                    tracing::warn!(%error, threads, "connections get no further thread");
                    self.most = threads;
                }
            }
        }
        let thread = self
            .all()
            .min_by_key(|thread| thread.load())
            .unwrap_or(&self.callers);
        let stream = if thread.own.is_none() {
            stream
        } else {
            let stream = stream.into_std()?;
            let _registered_there = thread.runtime.enter();
            TcpStream::from_std(stream)?
        };
        Ok(Placed {
            stream,
            runtime: thread.runtime.clone(),
            counted: Arc::clone(&thread.connections),
        })
    }

    fn all(&self) -> impl Iterator<Item = &Thread> {
        std::iter::once(&self.callers).chain(&self.further)
    }

    /// Ends those that were started; when it returns, they have ended.
    pub(super) async fn end(self) {
        self.end.cancel();
        for own in self.further.into_iter().filter_map(|thread| thread.own) {
            let _ = own.ending.await;
            // It does nothing more that takes time.
            let _ = own.thread.join();
        }
    }
}

fn start(number: usize, end: CancellationToken) -> io::Result<Thread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (ends, ending) = oneshot::channel::<()>();
    let thread = thread::Builder::new()
        .name(format!("proxy-{number}"))
        .spawn(move || {
            runtime.block_on(end.cancelled());
            // What looks up a name holds up nobody.
            runtime.shutdown_background();
            drop(ends);
        })?;
    Ok(Thread {
        runtime: handle,
        connections: Arc::default(),
        own: Some(Own { ending, thread }),
    })
}
