//! What the server writes, and whom it is for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::calls::{CallError, Pending, Reply, ServerLine, Then};
use super::core::{Core, count, one_line, splice};
use super::events::Event;
use super::link::Link;
use super::tasks;
use crate::framer::Frame;
use crate::jsonrpc::{self, Envelope, Kind, ScanError, Span};

impl Core {
    /// Takes what the server wrote. Never waits.
    pub(super) fn receive(self: &Arc<Self>, link: &Link, frame: Frame) {
        let too_long = CallError::TooLong {
            limit: self.config.line_limit,
        };
        match frame {
            Frame::Line(line) => self.receive_line(link, line),
            Frame::TooLong { head } => {
                self.unusable(&format_args!("longer than {} bytes", self.config.line_limit));
                self.fail(jsonrpc::ids_at_start(&head), &too_long);
            }
            Frame::Skipped { tail } => self.fail(jsonrpc::ids_at_end(&tail), &too_long),
        }
    }

    /// Those whose answer cannot be given to them are told.
    fn fail(&self, ids: Vec<&[u8]>, error: &CallError) {
        let numbers = ids.into_iter().filter_map(|id| self.number_in(id));
        for pending in numbers.filter_map(|number| self.calls.answered(number)) {
            self.unsettled(&pending);
            let _ = pending.reply.send(Err(error.clone()));
        }
    }

    /// A line is thrown away.
    fn unusable(&self, reason: &dyn fmt::Display) {
        count(&self.counters.unusable_lines);
        if let Some(lines) = self.counters.unusable.happened() {
            tracing::warn!(lines, %reason, "the server writes lines that are no JSON-RPC messages");
        }
    }

    fn receive_line(self: &Arc<Self>, link: &Link, line: Bytes) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let (line, envelope) = match scan_leniently(line) {
            Ok(message) => message,
            Err((line, error)) => {
                self.unusable(&error);
                let mut ids = jsonrpc::ids_at_start(&line);
                ids.extend(jsonrpc::ids_at_end(&line));
                if !ids.is_empty() {
                    let reason = error.to_string();
                    self.fail(ids, &CallError::Unusable { reason });
                }
                return;
            }
        };
        // A carriage return between tokens would end a line of an event stream.
        let line = if envelope.line_breaks {
            one_line(&line)
        } else {
            line
        };
        match envelope.kind() {
            Kind::Response => self.receive_answer(line, &envelope),
            Kind::Request => self.ask_client(link, &line, &envelope),
            Kind::Notification => self.pass_notification(link, line, &envelope),
        }
    }

    fn receive_answer(&self, line: Bytes, envelope: &Envelope) {
        let number = self.number_in(envelope.id_in(&line));
        let Some((number, pending)) = number.and_then(|number| Some((number, self.calls.answered(number)?)))
        else {
            return count(&self.counters.unknown_answers);
        };
        self.settled(number, &pending, envelope.result.map(|result| result.of(&line)));
        let id = envelope.id.unwrap_or_default();
        let answer = self.answers.charge(line).map_or(Err(CallError::Unread), |line| {
            Ok(Reply::Answer(ServerLine {
                line,
                id,
                result: envelope.result,
                error: envelope.error,
            }))
        });
        let _ = pending.reply.send(answer);
    }

    /// What the call of this number changes here, once the server has answered: with a result, or without one.
    fn settled(&self, number: u64, pending: &Pending, result: Option<&[u8]>) {
        let accepted = result.is_some();
        match (&pending.then, pending.session) {
            (Then::Subscribe(uri), Some(session)) if self.subscriptions.settle(session, uri, accepted) => {
                self.orphan([uri.clone()]);
            }
            (Then::SetLevel { own, merged }, Some(session)) if accepted => {
                self.level_set(session, *own, *merged);
            }
            (Then::Task, Some(session)) => {
                if let Some(task) = result.and_then(tasks::became) {
                    let progress = pending.token.clone().map(|token| (number, token));
                    self.server_tasks.made(&task, session, progress);
                    if !self.sessions.knows(session) {
                        self.server_tasks.leave(session);
                    }
                }
            }
            _ => {}
        }
    }

    /// As [`Core::settled`], for a call that nobody waits for any more: the server may still do what it was asked.
    pub(super) fn unsettled(&self, pending: &Pending) {
        let (Then::Subscribe(uri), Some(session)) = (&pending.then, pending.session) else {
            return;
        };
        self.subscriptions.settle(session, uri, false);
        if pending.written && !self.subscriptions.is_wanted(uri) {
            self.orphan([uri.clone()]);
        }
    }

    fn pass_notification(&self, link: &Link, line: Bytes, envelope: &Envelope) {
        let params = envelope.params_in(&line);
        if envelope.method_in(&line) == b"notifications/tools/list_changed" {
            link.param_headers.forget();
        }
        match envelope.method_in(&line) {
            b"notifications/progress" => self.pass_progress(&line, envelope),
            b"notifications/tools/list_changed"
            | b"notifications/resources/list_changed"
            | b"notifications/prompts/list_changed" => {
                if !self.is_stateless() {
                    return self.pass_list_changed(line, envelope);
                }
                // It names the proxy's own subscription, which is for nobody else.
                let method = envelope.method_in(&line);
                let plain = [br#"{"jsonrpc":"2.0","method":""#, method, br#""}"#].concat();
                if let Ok(envelope) = jsonrpc::scan(&plain) {
                    self.pass_list_changed(plain.into(), &envelope);
                }
            }
            b"notifications/resources/updated" => {
                let uri = jsonrpc::member(params, "uri").and_then(jsonrpc::text);
                let listeners = uri.map_or_else(Vec::new, |uri| self.subscriptions.listeners(&uri));
                self.dropped(self.resource_updated(&listeners, &line, envelope));
                if !listeners.is_empty()
                    && let Some(event) = self.event(line)
                {
                    self.dropped(self.sessions.publish(&listeners, &event));
                }
            }
            b"notifications/tasks/status" => {
                let task = tasks::named_in(params);
                let owner = task.and_then(|task| self.server_tasks.owner(&task));
                match owner.and_then(|owner| Some((owner, self.event(line)?))) {
                    Some((owner, event)) => self.dropped(self.sessions.publish(&[owner], &event)),
                    None => count(&self.counters.dropped_messages),
                }
            }
            b"notifications/cancelled" => self.cancel_at_client(&line, envelope),
            b"notifications/message" => {
                let readers = self.readers_of(params);
                if !readers.is_empty()
                    && let Some(event) = self.event(line)
                {
                    self.dropped(self.sessions.publish(&readers, &event));
                }
            }
            _ => count(&self.counters.dropped_messages),
        }
    }

    fn pass_list_changed(&self, line: Bytes, envelope: &Envelope) {
        self.dropped(self.list_changed(&line, envelope));
        if let Some(event) = self.event(line) {
            self.dropped(self.sessions.broadcast(&event));
        }
    }

    fn dropped(&self, messages: usize) {
        let counter = &self.counters.dropped_messages;
        counter.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// A message as an event, if there is memory for it.
    fn event(&self, line: Bytes) -> Option<Event> {
        let event = self.answers.charge(line).map(|line| Event::message([line]));
        if event.is_none() {
            count(&self.counters.dropped_messages);
        }
        event
    }

    fn pass_progress(&self, line: &Bytes, envelope: &Envelope) {
        let params = envelope.params_in(line);
        let found = jsonrpc::member_span(params, "progressToken")
            .and_then(|span| Some((span, self.number_in(span.of(params))?)));
        let Some((span, number)) = found else {
            return count(&self.counters.dropped_messages);
        };
        let start = envelope.params.map_or(0, |params| params.start);
        let span = Span {
            start: start + span.start,
            end: start + span.end,
        };
        let event = |token: &Bytes| self.event(splice(line, span, token));
        if let Some((events, token)) = self.calls.progress(number) {
            if event(&token).is_some_and(|event| !events.offer(event)) {
                count(&self.counters.dropped_messages);
            }
        } else if let Some((session, token)) = self.server_tasks.progress(number) {
            if let Some(event) = event(&token) {
                self.dropped(self.sessions.publish(&[session], &event));
            }
        } else {
            count(&self.counters.dropped_messages);
        }
    }
}

/// Some servers print a marker or colour before a message, or bytes that are no text within one: what stands between
/// the first and the last brace counts, and such bytes are left out.
fn scan_leniently(line: Bytes) -> Result<(Bytes, Envelope), (Bytes, ScanError)> {
    let error = match jsonrpc::scan(&line) {
        Ok(envelope) => return Ok((line, envelope)),
        Err(error) => error,
    };
    let repaired = matches!(error, ScanError::Encoding { .. });
    let line = if repaired {
        line.utf8_chunks()
            .map(|chunk| chunk.valid())
            .collect::<String>()
            .into()
    } else {
        line
    };
    let (start, end) = (memchr::memchr(b'{', &line), memchr::memrchr(b'}', &line));
    let inner = match (start, end) {
        (Some(start), Some(end)) if start < end => line.slice(start..=end),
        _ => return Err((line, error)),
    };
    if inner.len() == line.len() && !repaired {
        return Err((line, error));
    }
    match jsonrpc::scan(&inner) {
        Ok(envelope) => Ok((inner, envelope)),
        Err(inner_error) => Err((line, if repaired { inner_error } else { error })),
    }
}
