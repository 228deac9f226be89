//! The sessions of an HTTP transport and the event stream of each.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::http1::Events;
use crate::protocol::random_token;

const QUEUE: usize = 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Each session with the sending end of its event stream, if the client has opened one.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Option<SyncSender<String>>>>);

impl Sessions {
    pub(crate) fn open(&self) -> String {
        let id = random_token();
        self.lock().insert(id.clone(), None);
        id
    }

    pub(crate) fn knows(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// Ends the session and its event stream; false if there is none.
    pub(crate) fn close(&self, id: &str) -> bool {
        self.lock().remove(id).is_some()
    }

    /// The messages of a session's event stream; a stream opened before ends.
    pub(crate) fn listen(&self, id: &str) -> Option<Receiver<String>> {
        let (sender, receiver) = sync_channel(QUEUE);
        *self.lock().get_mut(id)? = Some(sender);
        Some(receiver)
    }

    /// Sends into the session's event stream; false if nobody listens.
    pub(crate) fn send(&self, id: &str, message: String) -> bool {
        let sender = self.lock().get(id).cloned().flatten();
        sender.is_some_and(|sender| sender.send(message).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<SyncSender<String>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes messages as they come, until the session is closed or the client is gone.
pub(crate) fn pump(messages: &Receiver<String>, events: &Events<'_>) -> io::Result<()> {
    loop {
        match messages.recv_timeout(KEEP_ALIVE) {
            Ok(message) => events.event("message", &message)?,
            Err(RecvTimeoutError::Timeout) => events.keep_alive()?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
