//! The streamable HTTP transport at `/mcp`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::http1::{self, Request, Responder};
use crate::protocol::{Incoming, Server};
use crate::sessions::{Sessions, pump};

const JSON: (&str, &str) = ("Content-Type", "application/json");

pub(crate) fn serve(server: Arc<Server>, address: SocketAddr, stateless: bool) -> io::Result<()> {
    let sessions = Sessions::default();
    http1::serve(address, "/mcp", move |request, responder| {
        match (request.path.as_str(), request.method.as_str()) {
            ("/health", "GET") => responder.text(200, "ok"),
            ("/mcp", "POST") => post(&server, &sessions, stateless, &request, responder),
            ("/mcp", "GET") => match known_session(&sessions, &request) {
                Ok(id) => match sessions.listen(id) {
                    Some(messages) => pump(&messages, &responder.events(&[("Mcp-Session-Id", id)])?),
                    None => responder.text(404, "unknown session"),
                },
                Err((status, text)) => responder.text(status, text),
            },
            ("/mcp", "DELETE") => match known_session(&sessions, &request) {
                Ok(id) => {
                    sessions.close(id);
                    responder.send(204, &[], b"")
                }
                Err((status, text)) => responder.text(status, text),
            },
            ("/mcp", _) => responder.text(405, "GET, POST or DELETE"),
            _ => responder.text(404, "the endpoint is /mcp"),
        }
    })
}

fn post(
    server: &Server,
    sessions: &Sessions,
    stateless: bool,
    request: &Request,
    responder: &mut Responder<'_>,
) -> io::Result<()> {
    let incoming = Incoming::parse(&request.body);
    let opened = (incoming.is_initialize() && !stateless).then(|| sessions.open());
    let mut headers = Vec::new();
    if let Some(id) = &opened {
        headers.push(("Mcp-Session-Id", id.as_str()));
    } else if !stateless && let Err((status, text)) = known_session(sessions, request) {
        return responder.text(status, text);
    }

    if incoming.notifies() {
        let events = responder.events(&headers)?;
        // A client that closed the stream still gets its tool run to the end, as the protocol has it.
        let notify = |message: String| drop(events.event("message", &message));
        return match server.handle(incoming, &notify) {
            Some(answer) => events.event("message", &answer),
            None => Ok(()),
        };
    }

    let expects_answer = incoming.expects_answer();
    match server.handle(incoming, &|_| {}) {
        Some(_) if server.garbage => {
            headers.push(JSON);
            responder.send(200, &headers, b"this is not JSON")
        }
        Some(answer) => {
            headers.push(JSON);
            responder.send(200, &headers, answer.as_bytes())
        }
        // --no-answer: the client waits as long as it likes to.
        None if expects_answer => loop {
            std::thread::park();
        },
        None => responder.send(202, &headers, b""),
    }
}

fn known_session<'a>(sessions: &Sessions, request: &'a Request) -> Result<&'a str, (u16, &'static str)> {
    match request.header("mcp-session-id") {
        None => Err((400, "Mcp-Session-Id is missing")),
        Some(id) if sessions.knows(id) => Ok(id),
        Some(_) => Err((404, "unknown session")),
    }
}
