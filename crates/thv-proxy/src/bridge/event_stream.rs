//! The event stream of a session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

use super::core::Core;
use super::events::{Event, Waiting};
use super::housekeeping::Departure;
use super::listen::Listening;
use super::sessions::Session;
use crate::body::{Body, BodyError};
use crate::serve::Drain;

pub(super) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// An event stream that lives until nobody can send on it.
pub(super) struct EventStream {
    waiting: Waiting,
    pieces: Event,
    keep_alive: Duration,
    next_comment: Instant,
    /// The session that ends with this stream.
    owner: Option<(Drain, Arc<Session>, Stage)>,
    /// What ends with this stream, where it is not of a session.
    listening: Option<Listening>,
    // The last field: when it goes, the stream is closed already.
    _departure: Departure,
}

/// How far the end of the listener has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Draining,
    Over,
}

impl EventStream {
    pub(super) fn new(core: &Arc<Core>, waiting: Waiting) -> Self {
        let keep_alive = core.config.keep_alive;
        Self {
            waiting,
            pieces: Event::default(),
            keep_alive,
            next_comment: Instant::now() + keep_alive,
            owner: None,
            listening: None,
            _departure: Departure::of(core),
        }
    }

    /// `first` comes before all else.
    pub(super) fn beginning_with(mut self, first: Bytes) -> Self {
        self.pieces = first.into();
        self
    }

    /// When the listener ends, what the session is owed still comes; what is owed at the end of the drain is an error.
    pub(super) fn draining(mut self, drain: Option<Drain>, session: &Arc<Session>) -> Self {
        self.owner = Some((drain.unwrap_or_default(), Arc::clone(session), Stage::Open));
        self
    }

    /// The end of this stream is the end of what is listened to.
    pub(super) fn listening(mut self, listening: Listening) -> Self {
        self.listening = Some(listening);
        self
    }

    pub(super) fn into_body(self) -> Body {
        Body::stream(stream::unfold(self, |mut state| async move {
            let piece = state.next().await?;
            Some((Ok::<_, BodyError>(piece), state))
        }))
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.pieces.next_piece() {
                return Some(piece);
            }
            tokio::select! {
                biased;
                event = self.waiting.next() => self.pieces = event?,
                () = next_stage(self.owner.as_mut()) => {}
                () = tokio::time::sleep_until(self.next_comment) => {
                    self.next_comment = Instant::now() + self.keep_alive;
                    return Some(KEEP_ALIVE);
                }
            }
        }
    }
}

/// Waits for the next stage of the listener's end, and does what it asks for. Cancel-safe.
async fn next_stage(owner: Option<&mut (Drain, Arc<Session>, Stage)>) {
    let Some((drain, session, stage)) = owner else {
        return std::future::pending().await;
    };
    match stage {
        Stage::Open => {
            drain.begun().await;
            *stage = Stage::Draining;
            session.end_stream();
        }
        Stage::Draining => {
            drain.over().await;
            *stage = Stage::Over;
            session.given_up.cancel();
        }
        Stage::Over => std::future::pending().await,
    }
}
