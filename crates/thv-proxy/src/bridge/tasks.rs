//! Tasks of revision 2025-11-25: calls that are answered with the name of a task, and go on after that.
//!
//! To the server all sessions are one client. So what it asks for a task is brought to whose task that is, and a list of
//! all tasks is for nobody: with their names come the results of others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::core::splice;
use crate::jsonrpc::{self, Span};

/// Tasks that are known, over all sessions, and of one. Of who has the most the oldest are forgotten first: what is asked
/// for them then reaches nobody.
const MOST: usize = 1024;
const OF_SESSION: usize = 128;
/// A task with a longer name is not known.
const LONGEST_NAME: usize = 256;
/// In `_meta`: the task that a message is about.
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// Whose task is which, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<VecDeque<Task>>);

#[derive(Debug)]
struct Task {
    name: Box<str>,
    session: u128,
    /// The number of the call that became it, and its client's progress token, which is good for as long as the task.
    progress: Option<(u64, Bytes)>,
}

impl Tasks {
    fn table(&self) -> MutexGuard<'_, VecDeque<Task>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `session` has made this task by a call of that number, if its progress is to be told, with that token.
    pub(super) fn made(&self, name: &str, session: u128, progress: Option<(u64, Bytes)>) {
        if name.len() > LONGEST_NAME {
            return;
        }
        let mut table = self.table();
        table.retain(|known| *known.name != *name);
        let mut of_session = table
            .iter()
            .enumerate()
            .filter(|(_, task)| task.session == session);
        let oldest = of_session.next().map(|(place, _)| place);
        if let Some(oldest) = oldest.filter(|_| of_session.count() + 1 >= OF_SESSION) {
            table.remove(oldest);
        }
        if table.len() >= MOST {
            give_way(&mut table);
        }
        table.push_back(Task {
            name: name.into(),
            session,
            progress,
        });
    }

    /// `session` knows the name of this task: it is that session's, if it is nobody's. A client may have begun anew.
    pub(super) fn named(&self, name: &str, session: u128) {
        if self.owner(name).is_none() {
            self.made(name, session, None);
        }
    }

    /// Whose task this is.
    pub(super) fn owner(&self, name: &str) -> Option<u128> {
        let table = self.table();
        let task = table.iter().find(|known| *known.name == *name)?;
        Some(task.session)
    }

    /// Who is told the progress of what the call of this number has become, and with which token.
    pub(super) fn progress(&self, number: u64) -> Option<(u128, Bytes)> {
        self.table().iter().find_map(|task| match &task.progress {
            Some((call, token)) if *call == number => Some((task.session, token.clone())),
            _ => None,
        })
    }

    /// Its tasks are nobody's now.
    pub(super) fn leave(&self, session: u128) {
        self.table().retain(|task| task.session != session);
    }

    /// The server that knew them is gone.
    pub(super) fn clear(&self) {
        self.table().clear();
    }
}

/// The oldest task of a session that has as many as any is forgotten.
fn give_way(table: &mut VecDeque<Task>) {
    let mut shares = HashMap::<u128, usize>::new();
    for task in &*table {
        *shares.entry(task.session).or_default() += 1;
    }
    let most = shares.values().max();
    if let Some(place) = table.iter().position(|task| shares.get(&task.session) == most) {
        table.remove(place);
    }
}

/// Whether a call with these parameters may become a task.
pub(super) fn may_become_one(params: &[u8]) -> bool {
    jsonrpc::member(params, "task").is_some_and(|task| task.first() == Some(&b'{'))
}

/// The name of the task that a call has become, by its result.
pub(super) fn became(result: &[u8]) -> Option<String> {
    jsonrpc::member(jsonrpc::member(result, "task")?, "taskId").and_then(jsonrpc::text)
}

/// The name of the task that parameters are about.
pub(super) fn named_in(params: &[u8]) -> Option<String> {
    jsonrpc::member(params, "taskId").and_then(jsonrpc::text)
}

/// Which task a request is made for, by its `_meta`; one that cannot be read has an empty name, and is nobody's.
pub(super) fn related(meta: &[u8]) -> Option<String> {
    match jsonrpc::one_member(meta, RELATED) {
        Ok(related) => Some(named_in(related?).unwrap_or_default()),
        Err(jsonrpc::Twice) => Some(String::new()),
    }
}

/// Where a server, by the result of its `initialize`, says what it can do with tasks.
pub(super) fn declared(result: &[u8]) -> Option<Span> {
    let capabilities = jsonrpc::member_span(result, "capabilities")?;
    let tasks = jsonrpc::member_span(capabilities.of(result), "tasks")?;
    Some(Span {
        start: capabilities.start + tasks.start,
        end: capabilities.start + tasks.end,
    })
}

/// The result of `initialize` without the word that tasks can be listed.
pub(super) fn without_lists(result: Bytes) -> Bytes {
    let Some(span) = declared(&result) else {
        return result;
    };
    let Ok(mut tasks) = serde_json::from_slice::<serde_json::Map<_, _>>(span.of(&result)) else {
        return result;
    };
    if tasks.remove("list").is_none() {
        return result;
    }
    splice(
        &result,
        span,
        serde_json::Value::Object(tasks).to_string().as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_of_who_made_it_and_of_nobody_once_that_one_is_gone() {
        let tasks = Tasks::default();
        tasks.made("a", 1, Some((5, "token".into())));
        assert_eq!(tasks.progress(5), Some((1, "token".into())));
        tasks.named("a", 2);
        assert_eq!(tasks.owner("a"), Some(1));
        tasks.leave(1);
        assert_eq!((tasks.owner("a"), tasks.progress(5)), (None, None));
        tasks.named("a", 2);
        assert_eq!(tasks.owner("a"), Some(2));
        // A server that begins to count anew.
        tasks.made("a", 3, None);
        assert_eq!(tasks.owner("a"), Some(3));
        tasks.clear();
        assert_eq!(tasks.owner("a"), None);
    }

    #[test]
    fn number_and_size_are_bounded_and_who_makes_many_forgets_his_own() {
        let tasks = Tasks::default();
        tasks.made("first", 1, None);
        for number in 0..=OF_SESSION {
            tasks.made(&format!("of 2: {number}"), 2, None);
        }
        assert_eq!((tasks.owner("first"), tasks.owner("of 2: 0")), (Some(1), None));
        assert_eq!(tasks.owner("of 2: 1"), Some(2));
        for session in (10..).take(MOST) {
            tasks.made(&session.to_string(), session, None);
        }
        assert_eq!(tasks.table().len(), MOST);
        assert_eq!(tasks.owner("first"), None);
        let long = "x".repeat(LONGEST_NAME + 1);
        tasks.made(&long, 1, None);
        assert_eq!(tasks.owner(&long), None);
    }

    #[test]
    fn some_sessions_that_make_many_tasks_push_out_none_of_the_others() {
        let tasks = Tasks::default();
        tasks.made("first", 1, None);
        for session in (2..).take(2 * MOST / OF_SESSION) {
            for number in 0..OF_SESSION {
                tasks.made(&format!("{session}: {number}"), session, None);
            }
        }
        assert_eq!(tasks.owner("first"), Some(1));
        tasks.made("last", 1, None);
        assert_eq!((tasks.owner("last"), tasks.table().len()), (Some(1), MOST));
    }

    #[test]
    fn nothing_but_the_list_is_left_out_of_what_the_server_says() {
        for (said, shown) in [
            (
                r#"{"capabilities": {"tasks" : {"list":{},"cancel":{}},"x":1 },"serverInfo":{}}"#,
                r#"{"capabilities": {"tasks" : {"cancel":{}},"x":1 },"serverInfo":{}}"#,
            ),
            (
                r#"{"capabilities":{"tasks":{}}}"#,
                r#"{"capabilities":{"tasks":{}}}"#,
            ),
            (
                r#"{"capabilities":{"tasks":7}}"#,
                r#"{"capabilities":{"tasks":7}}"#,
            ),
            (
                r#"{"capabilities":{"list":{}}}"#,
                r#"{"capabilities":{"list":{}}}"#,
            ),
        ] {
            assert_eq!(without_lists(said.into()), shown);
        }
    }
}
