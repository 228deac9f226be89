//! Calls that the server may still work on, though nobody waits for their answers.
//!
//! What the server asks then may be meant for who made such a call: it must not reach somebody else only because that
//! one has a call under way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a server that was told may still work on a call,
const TOLD: Duration = Duration::from_mins(1);
/// and one that was not.
const NOT_TOLD: Duration = Duration::from_mins(10);
/// Such calls that are kept in mind. While there are more, nobody's can be told apart.
const MOST: usize = 4096;

/// A caller: the key of a session, or nobody known.
type Caller = Option<u128>;

#[derive(Debug, Default)]
struct Table {
    /// Who made each, and until when it counts.
    calls: HashMap<u64, (Caller, Instant)>,
    /// Until then there are calls that are not in the table.
    beyond: Option<Instant>,
}

/// The calls that were given up.
#[derive(Debug, Default)]
pub(super) struct Late(Mutex<Table>);

impl Late {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits any more for a call that the server has got; whether it was told so.
    pub(super) fn add(&self, number: u64, caller: Caller, told: bool) {
        let now = Instant::now();
        let until = now + if told { TOLD } else { NOT_TOLD };
        let mut table = self.table();
        if table.calls.len() >= MOST {
            table.calls.retain(|_, (_, until)| *until > now);
        }
        if table.calls.len() >= MOST {
            table.beyond = table.beyond.max(Some(until));
        } else {
            table.calls.insert(number, (caller, until));
        }
    }

    /// The server has answered it after all.
    pub(super) fn answered(&self, number: u64) {
        self.table().calls.remove(&number);
    }

    /// Adds who has made such calls, each once; false when that is not known.
    pub(super) fn add_callers(&self, callers: &mut Vec<Caller>) -> bool {
        let now = Instant::now();
        let table = self.table();
        for (caller, until) in table.calls.values() {
            if *until > now && !callers.contains(caller) {
                callers.push(*caller);
            }
            if callers.len() > 1 {
                break;
            }
        }
        table.beyond.is_none_or(|until| until <= now)
    }

    /// The server is gone.
    pub(super) fn clear(&self) {
        *self.table() = Table::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers(late: &Late) -> (Vec<Caller>, bool) {
        let mut callers = Vec::new();
        let known = late.add_callers(&mut callers);
        (callers, known)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_counts_until_it_is_answered_or_too_old() {
        let late = Late::default();
        late.add(1, Some(7), true);
        late.add(2, Some(7), false);
        late.add(3, Some(7), false);
        assert_eq!(callers(&late), (vec![Some(7)], true));
        late.answered(3);
        tokio::time::advance(TOLD).await;
        assert_eq!(callers(&late), (vec![Some(7)], true));
        late.add(4, None, true);
        assert_eq!(callers(&late).0.len(), 2);
        tokio::time::advance(TOLD).await;
        late.answered(2);
        assert_eq!(callers(&late), (vec![], true));
        late.add(5, Some(7), false);
        tokio::time::advance(NOT_TOLD).await;
        assert_eq!(callers(&late), (vec![], true));
        late.add(6, Some(7), false);
        late.clear();
        assert_eq!(callers(&late), (vec![], true));
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_calls_none_is_taken_for_another() {
        let late = Late::default();
        for number in 0..MOST as u64 {
            late.add(number, Some(7), false);
        }
        assert_eq!(callers(&late), (vec![Some(7)], true));
        late.add(u64::MAX, Some(8), false);
        assert!(!callers(&late).1);
        assert_eq!(late.table().calls.len(), MOST);
        tokio::time::advance(NOT_TOLD).await;
        late.add(1, Some(9), false);
        assert_eq!(
            callers(&late),
            (vec![Some(9)], true),
            "those that are too old make room"
        );
    }
}
