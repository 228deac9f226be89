//! The end of all event streams, when an application asks for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// What the streams of now have in common.
#[derive(Debug, Default)]
pub(super) struct Ending(Mutex<CancellationToken>);

impl Ending {
    fn lock(&self) -> MutexGuard<'_, CancellationToken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is cancelled when a stream that begins now is to end.
    pub(super) fn of_now(&self) -> CancellationToken {
        self.lock().clone()
    }

    /// Ends the streams that there are; later ones begin as ever.
    pub(super) fn end(&self) {
        std::mem::take(&mut *self.lock()).cancel();
    }
}
