//! How much the server logs: the most that any session wants, and each session gets what it wants of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::calls::{CallError, Then};
use super::core::{Ask, Core, splice};
use super::sessions::Session;
use crate::jsonrpc::{self, Envelope, Span};

/// From the most that can be logged to the least.
const LEVELS: [&str; 8] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];

/// A level as its place in [`LEVELS`], counted from one; zero is none.
pub(super) type Level = u8;

/// The level that a JSON string names.
fn level(string: &[u8]) -> Option<Level> {
    let text = jsonrpc::text(string)?;
    let place = LEVELS.iter().position(|known| *known == text)?;
    u8::try_from(place + 1).ok()
}

/// What becomes of `logging/setLevel`.
pub(super) enum SetLevel {
    /// The server logs as it should already.
    Done,
    /// The server is asked for this.
    Ask(Bytes, Envelope, Then),
    /// The server may say what is wrong with it.
    Pass,
}

impl Core {
    /// The request of `session` for a level. Who has no session gets no messages, so the server does not hear of it.
    pub(super) fn set_level(
        &self,
        session: Option<&Session>,
        message: &Bytes,
        envelope: &Envelope,
    ) -> SetLevel {
        let params = envelope.params_in(message);
        let span = jsonrpc::member_span(params, "level");
        let wanted = span.and_then(|span| Some((span, level(span.of(params))?)));
        let (Some((span, own)), Some(start)) = (wanted, envelope.params.map(|params| params.start)) else {
            return SetLevel::Pass;
        };
        let Some(session) = session else {
            return SetLevel::Done;
        };
        let merged = self
            .sessions
            .most_verbose(session.key())
            .map_or(own, |others| others.min(own));
        if self.level.load(Ordering::Acquire) == merged {
            session.level.store(own, Ordering::Release);
            return SetLevel::Done;
        }
        let span = Span {
            start: start + span.start,
            end: start + span.end,
        };
        let text = jsonrpc::quoted(LEVELS[usize::from(merged) - 1]);
        let message = splice(message, span, text.as_bytes());
        match jsonrpc::scan(&message) {
            Ok(envelope) => SetLevel::Ask(message, envelope, Then::SetLevel { own, merged }),
            Err(_) => SetLevel::Pass,
        }
    }

    /// The server has taken the level that a session asked for.
    pub(super) fn level_set(&self, session: u128, own: Level, merged: Level) {
        self.level.store(merged, Ordering::Release);
        self.sessions.set_level(session, own);
    }

    /// The sessions that a log message is for: those that want its level; one that has not said so if it is alone.
    pub(super) fn readers_of(&self, params: &[u8]) -> Vec<u128> {
        let of_message = jsonrpc::member(params, "level").and_then(level).unwrap_or(2);
        self.sessions.wanting(of_message)
    }

    /// After sessions have gone, or for a server that was attached to anew: asks for what is wanted now.
    pub(super) async fn adjust_level(self: &Arc<Self>) -> Result<(), CallError> {
        let Some(wanted) = self.sessions.most_verbose(0) else {
            return Ok(());
        };
        if self.level.load(Ordering::Acquire) == wanted || !self.available() {
            return Ok(());
        }
        let text = LEVELS[usize::from(wanted) - 1];
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"logging/setLevel","params":{{"level":"{text}"}}}}"#
        );
        self.begin(Ask::own(message.into())?).await?.reply().await?;
        self.level.store(wanted, Ordering::Release);
        Ok(())
    }
}
