//! `subscriptions/listen`: the event stream of a client without a session. It ends when the client closes it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::Instant;
use uuid::Uuid;

use super::calls::{CallError, Then};
use super::core::{Ask, Core};
use super::event_stream::EventStream;
use super::events::{Event, Events, queue};
use super::in_flight::Shape;
use super::initialize::{Initialized, own_meta};
use super::link::Link;
use super::request::{self, Message};
use crate::answer;
use crate::body::Body;
use crate::budget::Share;
use crate::jsonrpc::{self, Envelope};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// What can be listened to: the name in the filter, the capability of the server, and the notification.
const LISTS: [(&str, &str, &[u8]); 3] = [
    ("toolsListChanged", "tools", b"notifications/tools/list_changed"),
    (
        "promptsListChanged",
        "prompts",
        b"notifications/prompts/list_changed",
    ),
    (
        "resourcesListChanged",
        "resources",
        b"notifications/resources/list_changed",
    ),
];
/// URIs of one stream.
const MOST_URIS: usize = 1024;

/// One open stream.
#[derive(Debug)]
struct Listener {
    events: Events,
    /// The id of its request as its client wrote it: all that it is sent carries it.
    id: Bytes,
    /// Which of [`LISTS`] it wants.
    lists: [bool; 3],
}

/// All open streams of clients without a session.
#[derive(Debug)]
pub(super) struct Listeners {
    limit: usize,
    table: Mutex<HashMap<u128, Listener>>,
}

impl Listeners {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u128, Listener>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: u128, listener: Listener) -> bool {
        let mut table = self.table();
        let room = table.len() < self.limit;
        if room {
            table.insert(key, listener);
        }
        room
    }

    /// Ends all streams; each is told so.
    pub(super) fn end(&self) {
        let all = std::mem::take(&mut *self.table());
        for listener in all.into_values() {
            let id = &listener.id[..];
            let head = br#"{"jsonrpc":"2.0","id":"#.as_slice();
            let meta = [
                br#","result":{"resultType":"complete","_meta":{""#,
                SUBSCRIPTION.as_bytes(),
                br#"":"#,
            ];
            let whole = [head, id, &meta.concat(), id, b"}}}"].concat();
            // Who does not read is not told.
            let _ = listener.events.offer(Event::message([Bytes::from(whole)]));
        }
    }
}

/// A stream of the server's changes has no end while the server lives.
const LISTENING: Duration = Duration::from_hours(365 * 24);

impl Core {
    /// Asks a server without sessions for the changes that it says it tells of, for all clients together. Returns when
    /// the request is on its way.
    pub(super) async fn listen_to_server(
        self: &Arc<Self>,
        link: &Arc<Link>,
        server: &Initialized,
    ) -> Result<(), CallError> {
        let tells = |(_, capability, _): &&(&str, &str, &[u8])| {
            let capability = jsonrpc::member(server.capabilities(), capability).unwrap_or_default();
            jsonrpc::member(capability, "listChanged") == Some(b"true")
        };
        let wanted: Vec<String> = LISTS
            .iter()
            .filter(tells)
            .map(|(name, ..)| format!(r#""{name}":true"#))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let (meta, wanted) = (own_meta(), wanted.join(","));
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"subscriptions/listen","params":{{"_meta":{{{meta}}},"notifications":{{{wanted}}}}}}}"#
        );
        let mut call = self
            .send(link, Ask::own(message.into())?, Instant::now() + LISTENING)
            .await?
            .without_doubt();
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            // It is answered when the server does not know it, or ends.
            if let Some(answer) = core.stop.run_until_cancelled(call.reply()).await {
                let refused = answer.is_ok_and(|line| line.error.is_some());
                tracing::debug!(refused, "the server tells of no more changes");
            }
        });
        Ok(())
    }

    /// A list of the server has changed. How many who wanted to know had no room.
    pub(super) fn list_changed(&self, line: &Bytes, envelope: &Envelope) -> usize {
        let method = envelope.method_in(line);
        let Some(list) = LISTS.iter().position(|(_, _, name)| *name == method) else {
            return 0;
        };
        let table = self.listeners.table();
        let wanting = table.values().filter(|listener| listener.lists[list]);
        self.tell(wanting, line, envelope)
    }

    /// A resource has changed. How many of those who listen, `keys` among others, had no room.
    pub(super) fn resource_updated(&self, keys: &[u128], line: &Bytes, envelope: &Envelope) -> usize {
        let table = self.listeners.table();
        if table.is_empty() {
            return 0;
        }
        self.tell(keys.iter().filter_map(|key| table.get(key)), line, envelope)
    }

    fn tell<'a>(&self, to: impl Iterator<Item = &'a Listener>, line: &Bytes, envelope: &Envelope) -> usize {
        to.filter(|listener| {
            let id = String::from_utf8_lossy(&listener.id);
            let message = jsonrpc::with_meta(line, envelope, &format!(r#""{SUBSCRIPTION}":{id}"#));
            let charged = self.answers.charge(message);
            !charged.is_some_and(|message| listener.events.offer(Event::message([message])))
        })
        .count()
    }

    /// Opens a stream for a client that accepts one.
    pub(super) async fn listen(self: &Arc<Self>, message: Message) -> Response<Body> {
        let id = Bytes::copy_from_slice(message.envelope.id_in(&message.bytes));
        let refuse = |reason| answer::rpc_error(StatusCode::BAD_REQUEST, -32602, reason, &id);
        let params = message.envelope.params_in(&message.bytes);
        let Some(filter) = jsonrpc::member(params, "notifications").filter(|filter| filter.starts_with(b"{"))
        else {
            return refuse("\"notifications\" is no object");
        };
        let uris = match jsonrpc::member(filter, "resourceSubscriptions") {
            None | Some(b"null") => Some(Vec::new()),
            Some(list) => serde_json::from_slice::<Vec<String>>(list).ok(),
        };
        let Some(uris) = uris.filter(|uris| uris.len() <= MOST_URIS) else {
            return refuse("\"resourceSubscriptions\" is no list of at most 1024 URIs");
        };
        let wanted = LISTS.map(|(name, ..)| jsonrpc::member(filter, name) == Some(b"true"));
        drop(message);
        match tokio::time::timeout(self.config.request_timeout, self.open(&id, wanted, uris)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => request::failure(&error, &id),
            Err(_) => request::failure(&CallError::Timeout, &id),
        }
    }

    async fn open(
        self: &Arc<Self>,
        id: &Bytes,
        wanted: [bool; 3],
        uris: Vec<String>,
    ) -> Result<Response<Body>, CallError> {
        let ready = self.initialized_in_time(&self.link()?).await?;
        let able = |capability, what| has(&ready, capability, what);
        let mut lists = wanted;
        for (wants, (_, capability, _)) in lists.iter_mut().zip(LISTS) {
            *wants &= able(capability, "listChanged");
        }
        let (events, waiting) = queue(self.config.stream_buffer, self.config.stream_bytes);
        let key = Uuid::new_v4().as_u128();
        let listener = Listener {
            events,
            id: id.clone(),
            lists,
        };
        if !self.listeners.add(key, listener) {
            return Err(CallError::Busy);
        }
        let listening = Listening {
            core: Arc::clone(self),
            key,
        };
        let mut accepted = Vec::new();
        if able("resources", "subscribe") {
            for uri in uris {
                if self.subscribe(key, &uri).await? {
                    accepted.push(uri);
                }
            }
        }
        let stream = EventStream::new(self, waiting)
            .beginning_with(acknowledgement(id, lists, &accepted))
            .listening(listening);
        Ok(answer::unbuffered(answer::events(stream.into_body())))
    }

    /// Asks the server for the updates of a resource. Whether it sends them.
    async fn subscribe(self: &Arc<Self>, key: u128, uri: &str) -> Result<bool, CallError> {
        let asked = self.subscriptions.ask(key, uri);
        let uri = asked.map_err(|what| CallError::TooMuch { what })?;
        let text = jsonrpc::quoted(&uri);
        let message =
            format!(r#"{{"jsonrpc":"2.0","id":0,"method":"resources/subscribe","params":{{"uri":{text}}}}}"#);
        let envelope = jsonrpc::scan(message.as_bytes()).map_err(|error| CallError::NotReady {
            reason: error.to_string(),
        })?;
        let ask = Ask {
            session: Some(key),
            message: message.into(),
            envelope,
            events: None,
            share: Share::default(),
            then: Then::Subscribe(Arc::clone(&uri)),
            own: false,
            shape: Shape::AsItComes,
            askable: None,
        };
        match self.begin(ask).await {
            Ok(mut call) => Ok(call.reply().await?.result.is_some()),
            Err(error) => {
                self.subscriptions.settle(key, &uri, false);
                Err(error)
            }
        }
    }
}

/// Whether the server has said that it can do this.
fn has(ready: &Initialized, capability: &str, what: &str) -> bool {
    let capability = jsonrpc::member(ready.capabilities(), capability).unwrap_or_default();
    jsonrpc::member(capability, what) == Some(b"true")
}

/// The first event of a stream: what will come on it.
fn acknowledgement(id: &[u8], lists: [bool; 3], uris: &[String]) -> Bytes {
    let id = String::from_utf8_lossy(id);
    let mut agreed: Vec<String> = LISTS
        .iter()
        .zip(lists)
        .filter(|(_, wanted)| *wanted)
        .map(|((name, ..), _)| format!(r#""{name}":true"#))
        .collect();
    if !uris.is_empty() {
        let uris: Vec<String> = uris.iter().map(jsonrpc::quoted).collect();
        agreed.push(format!(r#""resourceSubscriptions":[{}]"#, uris.join(",")));
    }
    let agreed = agreed.join(",");
    let message = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"{SUBSCRIPTION}":{id}}},"notifications":{{{agreed}}}}}}}"#
    );
    [answer::EVENT_HEAD, message.as_bytes(), answer::EVENT_TAIL]
        .concat()
        .into()
}

/// A stream that is listened to. Its end is the end of its subscriptions.
pub(super) struct Listening {
    core: Arc<Core>,
    key: u128,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.core.listeners.table().remove(&self.key);
        self.core.forget([self.key]);
        self.core.orphaned.notify_one();
    }
}
