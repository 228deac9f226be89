//! Calls that the server may still work on, though nobody waits for their answers.
//!
//! What the server asks then may be meant for who made such a call: it must not reach somebody else only because that
//! one has a call under way. Time is the server's: while it stands still it works on nothing.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::calls::Caller;

/// How long a server that was told may still work on a call,
const TOLD: Duration = Duration::from_mins(1);
/// and one that was not.
const NOT_TOLD: Duration = Duration::from_mins(10);
/// Such calls that are kept in mind. While there are more, nobody's can be told apart.
const MOST: usize = 4096;

/// The calls that were given up.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Who made each, and until when it counts.
    calls: HashMap<u64, (Caller, Instant)>,
    /// Until then there are calls that are not in the table.
    beyond: Option<Instant>,
}

impl Late {
    /// Nobody waits any more for a call that the server has got; whether it was told so.
    pub(super) fn add(&mut self, number: u64, caller: Caller, told: bool, now: Instant) {
        let until = now + if told { TOLD } else { NOT_TOLD };
        if self.calls.len() >= MOST {
            self.calls.retain(|_, (_, until)| *until > now);
        }
        if self.calls.len() >= MOST {
            self.beyond = self.beyond.max(Some(until));
        } else {
            self.calls.insert(number, (caller, until));
        }
    }

    /// The server has answered it after all.
    pub(super) fn answered(&mut self, number: u64) {
        self.calls.remove(&number);
    }

    /// Adds who has made such calls, each once; false when that is not known.
    pub(super) fn add_callers(&self, callers: &mut Vec<Caller>, now: Instant) -> bool {
        for (caller, until) in self.calls.values() {
            if *until > now && !callers.contains(caller) {
                callers.push(*caller);
            }
            if callers.len() > 1 {
                break;
            }
        }
        self.beyond.is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVEN: Caller = Caller::Session(7);

    fn callers(late: &Late) -> (Vec<Caller>, bool) {
        let mut callers = Vec::new();
        let known = late.add_callers(&mut callers, Instant::now());
        (callers, known)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_counts_until_it_is_answered_or_too_old() {
        let mut late = Late::default();
        late.add(1, SEVEN, true, Instant::now());
        late.add(2, SEVEN, false, Instant::now());
        late.add(3, SEVEN, false, Instant::now());
        assert_eq!(callers(&late), (vec![SEVEN], true));
        late.answered(3);
        tokio::time::advance(TOLD).await;
        assert_eq!(callers(&late), (vec![SEVEN], true));
        late.add(4, Caller::Nobody, true, Instant::now());
        assert_eq!(callers(&late).0.len(), 2);
        tokio::time::advance(TOLD).await;
        late.answered(2);
        assert_eq!(callers(&late), (vec![], true));
        late.add(5, SEVEN, false, Instant::now());
        tokio::time::advance(NOT_TOLD).await;
        assert_eq!(callers(&late), (vec![], true));
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_calls_none_is_taken_for_another() {
        let mut late = Late::default();
        for number in 0..MOST as u64 {
            late.add(number, SEVEN, false, Instant::now());
        }
        assert_eq!(callers(&late), (vec![SEVEN], true));
        late.add(u64::MAX, Caller::Session(8), false, Instant::now());
        assert!(!callers(&late).1);
        assert_eq!(late.calls.len(), MOST);
        tokio::time::advance(NOT_TOLD).await;
        late.add(1, Caller::Session(9), false, Instant::now());
        assert_eq!(
            callers(&late),
            (vec![Caller::Session(9)], true),
            "those that are too old make room"
        );
    }
}
