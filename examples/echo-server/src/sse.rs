//! The HTTP+SSE transport of revision 2024-11-05: answers come through the event stream at `/sse`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::http1::{self, Request, Responder};
use crate::protocol::{Incoming, Server};
use crate::sessions::{Sessions, pump};

pub(crate) fn serve(server: Arc<Server>, address: SocketAddr) -> io::Result<()> {
    let sessions = Arc::new(Sessions::default());
    http1::serve(address, "/sse", move |request, responder| {
        match (request.path.as_str(), request.method.as_str()) {
            ("/health", "GET") => responder.text(200, "ok"),
            ("/sse", "GET") => stream(&sessions, responder),
            ("/messages", "POST") => post(&server, &sessions, &request, responder),
            ("/sse" | "/messages", _) => responder.text(405, "GET /sse, POST /messages"),
            _ => responder.text(404, "the endpoints are /sse and /messages"),
        }
    })
}

/// A session lives as long as its event stream.
fn stream(sessions: &Sessions, responder: &mut Responder<'_>) -> io::Result<()> {
    let id = sessions.open();
    let Some(messages) = sessions.listen(&id) else {
        return responder.text(404, "unknown session");
    };
    let result = responder.events(&[]).and_then(|events| {
        events.event("endpoint", &format!("/messages?sessionId={id}"))?;
        pump(&messages, &events)
    });
    sessions.close(&id);
    result
}

fn post(
    server: &Arc<Server>,
    sessions: &Arc<Sessions>,
    request: &Request,
    responder: &mut Responder<'_>,
) -> io::Result<()> {
    let id = request
        .query
        .split('&')
        .find_map(|pair| pair.strip_prefix("sessionId="))
        .unwrap_or_default();
    if !sessions.knows(id) {
        return responder.text(404, "unknown session");
    }
    let incoming = Incoming::parse(&request.body);
    let (server, sessions, id) = (Arc::clone(server), Arc::clone(sessions), id.to_owned());
    let answer = move |incoming: Incoming| {
        let notify = |message: String| {
            sessions.send(&id, message);
        };
        if let Some(answer) = server.handle(incoming, &notify) {
            let answer = if server.garbage {
                "this is not JSON".to_owned()
            } else {
                answer
            };
            sessions.send(&id, answer);
        }
    };
    responder.send(202, &[], b"")?;
    if incoming.blocks() {
        std::thread::Builder::new().spawn(move || answer(incoming))?;
    } else {
        answer(incoming);
    }
    Ok(())
}
