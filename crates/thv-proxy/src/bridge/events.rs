//! The events that wait for one event stream, bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::answer::{EVENT_HEAD, EVENT_TAIL};
use crate::body::{Body, BodyError};

/// Bytes of one permit.
const UNIT: usize = 1024;
/// An event up to this size is sent in one piece.
const JOIN: usize = 16 * 1024;

/// One event in the pieces that it is sent in.
#[derive(Debug, Clone, Default)]
pub(super) struct Event(VecDeque<Bytes>);

impl Event {
    /// A message as an event. A large one is not copied.
    pub(super) fn message(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut all = VecDeque::from([Bytes::from_static(EVENT_HEAD)]);
        all.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        all.push_back(Bytes::from_static(EVENT_TAIL));
        let len: usize = all.iter().map(Bytes::len).sum();
        if len > JOIN {
            return Self(all);
        }
        let mut joined = Vec::with_capacity(len);
        for piece in all {
            joined.extend_from_slice(&piece);
        }
        Self::from(Bytes::from(joined))
    }

    /// An event that says nothing but its id: from here on its client can come back.
    pub(super) fn priming(id: impl std::fmt::Display) -> Self {
        Self::from(Bytes::from(format!("id: {id}\ndata: \n\n")))
    }

    /// The event with an id before it.
    pub(super) fn with_id(mut self, id: impl std::fmt::Display) -> Self {
        self.0.push_front(Bytes::from(format!("id: {id}\n")));
        self
    }

    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        self.0.pop_front()
    }

    /// What `other` says, behind what this one says.
    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// This event as a whole body.
    pub(super) fn into_body(mut self) -> Body {
        if self.0.len() <= 1 {
            return Body::full(self.next_piece().unwrap_or_default());
        }
        Body::stream(stream::iter(self.0.into_iter().map(Ok::<_, BodyError>)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl From<Bytes> for Event {
    fn from(piece: Bytes) -> Self {
        Self(VecDeque::from([piece]))
    }
}

#[derive(Debug)]
struct Queued {
    event: Event,
    _room: OwnedSemaphorePermit,
}

/// The end where events go in; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Events {
    sender: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    /// All of `room`.
    units: u32,
}

/// The end where a client reads.
#[derive(Debug)]
pub(super) struct Waiting(mpsc::Receiver<Queued>);

/// A place for one event that is not there yet.
#[derive(Debug)]
pub(super) struct Place {
    place: mpsc::OwnedPermit<Queued>,
    events: Events,
}

/// A queue for `messages` events of `bytes` together; a single larger one is taken while nothing else waits.
pub(super) fn queue(messages: usize, bytes: usize) -> (Events, Waiting) {
    let (sender, receiver) = mpsc::channel(messages);
    let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
    let room = Arc::new(Semaphore::new(units as usize));
    (Events { sender, room, units }, Waiting(receiver))
}

impl Events {
    fn units(&self, event: &Event) -> u32 {
        u32::try_from(event.len().div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .clamp(1, self.units)
    }

    /// Queues an event if there is room for it.
    pub(super) fn offer(&self, event: Event) -> bool {
        let units = self.units(&event);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(units) else {
            return false;
        };
        self.sender.try_send(Queued { event, _room: room }).is_ok()
    }

    /// A place that nobody else gets; none when the client is gone. Cancel-safe.
    pub(super) async fn reserve(self) -> Option<Place> {
        let place = self.sender.clone().reserve_owned().await.ok()?;
        Some(Place { place, events: self })
    }

    /// Whether both go to the same client's connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Resolves when the client is gone.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}

impl Place {
    /// Queues the event as soon as there is room for its bytes; false when the client is gone before.
    pub(super) async fn send(self, event: Event) -> bool {
        let units = self.events.units(&event);
        let room = Arc::clone(&self.events.room).acquire_many_owned(units);
        tokio::select! {
            room = room => match room {
                Ok(room) => {
                    self.place.send(Queued { event, _room: room });
                    true
                }
                Err(_) => false,
            },
            () = self.events.closed() => false,
        }
    }
}

impl Waiting {
    /// The next event; none when nobody can send another. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.0.recv().await.map(|queued| queued.event)
    }

    pub(super) fn try_next(&mut self) -> Option<Event> {
        self.0.try_recv().ok().map(|queued| queued.event)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bytes: usize) -> Event {
        Event::from(Bytes::from(vec![b'x'; bytes]))
    }

    #[tokio::test]
    async fn a_stream_that_is_not_read_holds_no_more_than_its_bytes() {
        let (events, mut waiting) = queue(100, 8 * UNIT);
        assert!(events.offer(event(5 * UNIT)));
        assert!(!events.offer(event(5 * UNIT)), "no room for its bytes");
        assert!(events.offer(event(10)));
        assert_eq!(waiting.next().await.unwrap().len(), 5 * UNIT);
        assert!(events.offer(event(5 * UNIT)));
        while waiting.try_next().is_some() {}
        assert!(events.offer(event(50 * UNIT)), "a large one alone is taken");
        assert!(!events.offer(event(10)));
        assert_eq!(waiting.next().await.unwrap().len(), 50 * UNIT);

        let (events, waiting) = queue(2, 8 * UNIT);
        assert!(events.offer(event(1)) && events.offer(event(1)) && !events.offer(event(1)));
        drop(waiting);
        assert!(events.is_closed() && events.reserve().await.is_none());
    }

    #[tokio::test]
    async fn an_answer_with_a_place_waits_for_room_and_is_never_dropped() {
        let (events, mut waiting) = queue(10, 8 * UNIT);
        assert!(events.offer(event(8 * UNIT)));
        let place = events.clone().reserve().await.unwrap();
        let sending = tokio::spawn(place.send(event(3 * UNIT)));
        assert_eq!(waiting.next().await.unwrap().len(), 8 * UNIT);
        assert_eq!(waiting.next().await.unwrap().len(), 3 * UNIT);
        assert!(sending.await.unwrap());
    }

    #[test]
    fn a_message_is_one_event_whatever_its_size() {
        for size in [1, 100_000] {
            let mut event = Event::message([Bytes::from(vec![b'x'; size]), Bytes::new()]);
            let mut text = Vec::new();
            while let Some(piece) = event.next_piece() {
                text.extend_from_slice(&piece);
            }
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text, format!("event: message\ndata: {}\n\n", "x".repeat(size)));
        }
    }
}
