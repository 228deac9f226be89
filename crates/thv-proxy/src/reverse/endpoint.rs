//! The `endpoint` event of an SSE server, rewritten so that its clients stay on the proxy.

use bytes::{Bytes, BytesMut};
use url::Url;

use crate::forwarded::Outside;

/// The event comes first. What is longer than this without it is passed on as it is.
const LONGEST_SEARCH: usize = 64 * 1024;

/// Looks for the first `endpoint` event in a stream; everything behind it passes untouched.
#[derive(Debug)]
pub(super) struct EndpointRewriter {
    /// Where the stream came from: the event's reference is relative to it.
    base: Url,
    outside: Outside,
    held: BytesMut,
    done: bool,
    /// Path and query of the event that was found, without the prefix.
    endpoint: Option<String>,
}

/// The server tells its clients to send messages to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's endpoint event names another origin")]
pub(super) struct ForeignEndpoint;

impl EndpointRewriter {
    pub(super) fn new(base: Url, outside: Outside) -> Self {
        Self {
            base,
            outside,
            held: BytesMut::new(),
            done: false,
            endpoint: None,
        }
    }

    /// Where messages of this stream are sent, once it is known and once only.
    pub(super) fn take_endpoint(&mut self) -> Option<String> {
        self.endpoint.take()
    }

    /// What was held back when the stream has ended.
    pub(super) fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    /// What can be passed on after `chunk`; empty while the event is incomplete.
    pub(super) fn push(&mut self, chunk: Bytes) -> Result<Bytes, ForeignEndpoint> {
        if self.done {
            return Ok(chunk);
        }
        self.held.extend_from_slice(&chunk);
        let mut out = BytesMut::new();
        while let Some(end) = event_end(&self.held) {
            let event = self.held.split_to(end);
            match self.rewrite(&event)? {
                None => out.extend_from_slice(&event),
                Some(rewritten) => {
                    out.extend_from_slice(&rewritten);
                    self.done = true;
                    break;
                }
            }
        }
        if self.done || self.held.len() > LONGEST_SEARCH {
            self.done = true;
            out.extend_from_slice(&self.held.split());
        }
        Ok(out.freeze())
    }

    fn rewrite(&mut self, event: &[u8]) -> Result<Option<Vec<u8>>, ForeignEndpoint> {
        let Ok(text) = std::str::from_utf8(event) else {
            return Ok(None);
        };
        let field = |name: &str| {
            text.split(['\n', '\r']).find_map(|line| {
                let value = line.strip_prefix(name)?.strip_prefix(':')?;
                Some(value.strip_prefix(' ').unwrap_or(value))
            })
        };
        if field("event") != Some("endpoint") {
            return Ok(None);
        }
        let url = self
            .base
            .join(field("data").unwrap_or_default())
            .map_err(|_| ForeignEndpoint)?;
        if url.origin() != self.base.origin() {
            return Err(ForeignEndpoint);
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let Outside { origin, prefix } = &self.outside;
        let origin = origin.as_deref().unwrap_or_default();
        let endpoint = format!("{}{query}", url.path());
        let event = format!("event: endpoint\ndata: {origin}{prefix}{endpoint}\n\n");
        self.endpoint = Some(endpoint);
        Ok(Some(event.into_bytes()))
    }
}

/// Where the first event ends, its blank line included.
fn event_end(bytes: &[u8]) -> Option<usize> {
    let ends = [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"];
    ends.iter()
        .filter_map(|end| memchr::memmem::find(bytes, end).map(|at| at + end.len()))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: &str, prefix: &str, event: &str, expected: Result<&str, ForeignEndpoint>) {
        for size in [1, 7, 1000] {
            let outside = Outside {
                origin: None,
                prefix: prefix.to_owned(),
            };
            let mut rewriter = EndpointRewriter::new(base.parse().unwrap(), outside);
            let mut out = Vec::new();
            let outcome = event.as_bytes().chunks(size).try_for_each(|chunk| {
                out.extend_from_slice(&rewriter.push(Bytes::copy_from_slice(chunk))?);
                Ok(())
            });
            out.extend_from_slice(&rewriter.finish());
            assert_eq!(
                outcome.map(|()| String::from_utf8(out).unwrap()).as_deref(),
                expected.as_deref(),
                "{event}"
            );
        }
    }

    #[test]
    fn clients_stay_on_the_proxy() {
        let to = |data: &str| format!("event: endpoint\ndata: {data}\n\n");
        let base = "https://host.example/api/sse";
        check(base, "", &to("/messages?s=1"), Ok(&to("/messages?s=1")));
        check(base, "", &to("messages?s=1"), Ok(&to("/api/messages?s=1")));
        check(base, "", &to("https://host.example/m?s=1"), Ok(&to("/m?s=1")));
        check(base, "/team", &to("/m"), Ok(&to("/team/m")));
        check(base, "", "data:/m\r\nevent:endpoint\r\n\r\n", Ok(&to("/m")));
        check(
            base,
            "",
            ": hi\n\nevent: endpoint\ndata: /m\n\nevent: endpoint\ndata: x\n\nrest",
            Ok(": hi\n\nevent: endpoint\ndata: /m\n\nevent: endpoint\ndata: x\n\nrest"),
        );
    }

    #[test]
    fn what_is_held_back_comes_at_the_end_of_the_stream() {
        check(
            "http://host.example/sse",
            "",
            ": hi\n\ndata: x\n",
            Ok(": hi\n\ndata: x\n"),
        );
    }

    #[test]
    fn an_endpoint_elsewhere_is_refused() {
        for data in [
            "https://evil.example/m",
            "//evil.example/m",
            "http://host.example/m",
            "https://host.example:444/m",
        ] {
            check(
                "https://host.example/sse",
                "",
                &format!("event: endpoint\ndata: {data}\n\n"),
                Err(ForeignEndpoint),
            );
        }
    }
}
