//! The `endpoint` event of an SSE server, rewritten so that its clients stay on the proxy.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use url::Url;

use super::endpoint_watch::{Watch, Watched};
use crate::forwarded::Outside;
use crate::whole_events::{WholeEvents, lines};

/// The event comes first. A stream with a longer one before it is refused: somewhere in that clients could be led away.
const LONGEST: usize = 1 << 20;

/// Rewrites each `endpoint` event of a stream. Up to the first one events are held until they are whole; what comes behind
/// it passes as it comes, and only another such event is held: some clients follow that too.
#[derive(Debug)]
pub(super) struct EndpointRewriter {
    /// Where the stream came from: the event's reference is relative to it.
    base: Url,
    outside: Outside,
    events: WholeEvents,
    mode: Mode,
    /// Path and query of the event that was found, without the prefix.
    endpoint: Option<String>,
}

#[derive(Debug)]
enum Mode {
    /// No endpoint is known yet.
    First,
    /// It is known, and all passes.
    Passing(Watch),
    /// The event that is held is another one.
    Another,
}

/// Why a stream goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoEndpoint {
    /// The server tells its clients to send messages to somebody else.
    #[error("the server's endpoint event names another origin")]
    Foreign,
    #[error("the server's endpoint event does not come: another is longer than {LONGEST} bytes")]
    TooLong,
    /// It was passed on before it was known for what it is.
    #[error("the server's endpoint event says where before it says what it is")]
    Late,
}

impl EndpointRewriter {
    pub(super) fn new(base: Url, outside: Outside) -> Self {
        Self {
            base,
            outside,
            events: WholeEvents::new(),
            mode: Mode::First,
            endpoint: None,
        }
    }

    /// Where messages of this stream are sent, each time when that was said.
    pub(super) fn take_endpoint(&mut self) -> Option<String> {
        self.endpoint.take()
    }

    /// What was held back when the stream has ended.
    pub(super) fn finish(&mut self) -> Bytes {
        match &mut self.mode {
            Mode::Passing(watch) => watch.take_held(),
            Mode::First | Mode::Another => self.events.take_rest(),
        }
    }

    /// What can be passed on after `chunk`; empty while an event that has to be seen whole is not.
    pub(super) fn push(&mut self, mut chunk: Bytes) -> Result<Bytes, NoEndpoint> {
        let mut out = BytesMut::new();
        loop {
            if let Mode::Passing(watch) = &mut self.mode {
                match watch.pass(&chunk) {
                    Watched::Nothing(passed) if out.is_empty() => return Ok(passed),
                    Watched::Nothing(passed) => {
                        out.extend_from_slice(&passed);
                        return Ok(out.freeze());
                    }
                    Watched::Late => return Err(NoEndpoint::Late),
                    Watched::Endpoint { before, event } => {
                        out.extend_from_slice(&before);
                        chunk = event;
                        self.mode = Mode::Another;
                    }
                }
            }
            self.events.push(&chunk);
            if !self.hold(&mut out)? {
                return Ok(out.freeze());
            }
            chunk = self.events.take_rest();
            self.mode = Mode::Passing(Watch::default());
        }
    }

    /// Takes whole events until it is known where messages go; false when more has to come first.
    fn hold(&mut self, out: &mut BytesMut) -> Result<bool, NoEndpoint> {
        while let Some(event) = self.events.next_event() {
            let rewritten = self.rewrite(&event)?;
            let found = rewritten.is_some();
            out.extend_from_slice(rewritten.as_deref().unwrap_or(&event));
            if found || matches!(self.mode, Mode::Another) {
                return Ok(true);
            }
        }
        if self.events.held() > LONGEST {
            return Err(NoEndpoint::TooLong);
        }
        Ok(false)
    }

    /// The event as clients get it; none when it is another. It is read as clients read it, what is no text included: one
    /// that passes for another here would lead them away.
    fn rewrite(&mut self, event: &[u8]) -> Result<Option<Vec<u8>>, NoEndpoint> {
        let (mut kind, mut data) = (Cow::default(), String::new());
        for line in lines(event) {
            let (name, value) = match memchr::memchr(b':', line) {
                Some(at) => (&line[..at], &line[at + 1..]),
                None => (line, &b""[..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match name {
                b"event" => kind = String::from_utf8_lossy(value),
                b"data" => {
                    data.push_str(&String::from_utf8_lossy(value));
                    data.push('\n');
                }
                _ => {}
            }
        }
        if kind != "endpoint" || data.is_empty() {
            return Ok(None);
        }
        // A URL has no line breaks: they go.
        let url = self.base.join(&data).map_err(|_| NoEndpoint::Foreign)?;
        if url.origin() != self.base.origin() {
            return Err(NoEndpoint::Foreign);
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let Outside { origin, prefix } = &self.outside;
        let origin = origin.as_deref().unwrap_or_default();
        // Alone, a path that begins with two slashes is another host.
        let is_host = origin.is_empty() && prefix.is_empty() && url.path().starts_with("//");
        let here = if is_host { "/." } else { "" };
        let endpoint = format!("{}{query}", url.path());
        let event = format!("event: endpoint\ndata: {origin}{prefix}{here}{endpoint}\n\n");
        self.endpoint = Some(endpoint);
        Ok(Some(event.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event in pieces of `size`; what is in the middle of a long one comes in larger ones.
    fn pieces(event: &[u8], size: usize) -> impl Iterator<Item = &[u8]> {
        let ends = 1000.min(event.len() / 2);
        let (begin, rest) = event.split_at(ends);
        let (middle, end) = rest.split_at(rest.len() - ends);
        let middle = middle.chunks(size.max(1 << 14));
        begin.chunks(size).chain(middle).chain(end.chunks(size))
    }

    fn check(base: &str, prefix: &str, event: impl AsRef<[u8]>, expected: Result<&str, NoEndpoint>) {
        let event = event.as_ref();
        for size in [1, 7, 1000] {
            let outside = Outside {
                origin: None,
                prefix: prefix.to_owned(),
            };
            let mut rewriter = EndpointRewriter::new(base.parse().unwrap(), outside);
            let mut out = Vec::new();
            let outcome = pieces(event, size).try_for_each(|chunk| {
                out.extend_from_slice(&rewriter.push(Bytes::copy_from_slice(chunk))?);
                Ok(())
            });
            out.extend_from_slice(&rewriter.finish());
            assert_eq!(
                // One blank line more is nothing in an event stream.
                outcome.map(|()| String::from_utf8(out).unwrap().trim_end().to_owned()),
                expected.map(|text| text.trim_end().to_owned()),
                "{}",
                event.escape_ascii()
            );
        }
    }

    #[test]
    fn clients_stay_on_the_proxy() {
        let to = |data: &str| format!("event: endpoint\ndata: {data}\n\n");
        let base = "https://host.example/api/sse";
        check(base, "", to("/messages?s=1"), Ok(&to("/messages?s=1")));
        check(base, "", to("messages?s=1"), Ok(&to("/api/messages?s=1")));
        check(base, "", to("https://host.example/m?s=1"), Ok(&to("/m?s=1")));
        check(base, "/team", to("/m"), Ok(&to("/team/m")));
        check(base, "", "data:/m\r\nevent:endpoint\r\n\r\n", Ok(&to("/m")));
        // What begins with two slashes would be another host.
        check(base, "", to("/.//evil.example/m"), Ok(&to("/.//evil.example/m")));
        check(
            base,
            "",
            to("https://host.example//evil.example/m"),
            Ok(&to("/.//evil.example/m")),
        );
        check(base, "/team", to("/x/..//m"), Ok(&to("/team//m")));
        let mut rewriter = EndpointRewriter::new(base.parse().unwrap(), Outside::default());
        rewriter.push(to("/.//m?s=1").into()).unwrap();
        assert_eq!(
            rewriter.take_endpoint().unwrap(),
            "//m?s=1",
            "as clients ask for it"
        );
        let long = format!("data: {}\n\n", "x".repeat(2 * LONGEST));
        let both =
            |first: &str, second: &str| format!(": hi\n\n{}{long}id: 7\n{}rest", to(first), to(second));
        check(
            base,
            "/team",
            both("/m", "n"),
            Ok(&both("/team/m", "/team/api/n")),
        );
    }

    #[test]
    fn what_comes_behind_the_first_endpoint_leads_nobody_away() {
        let base = "https://host.example/sse";
        let first = "event: endpoint\ndata: /m\n\n";
        let to = "data: https://evil.example/m";
        for (event, expected) in [
            (format!("event: endpoint\n{to}\n\n"), NoEndpoint::Foreign),
            (format!("event:endpoint\r{to}\r\r"), NoEndpoint::Foreign),
            (
                format!(": x\r\nevent: endpoint\r\n{to}\r\n\r\n"),
                NoEndpoint::Foreign,
            ),
            (format!("{to}\nevent: endpoint\n\n"), NoEndpoint::Late),
            (format!("{to}\r\nevent: endpoint\r\n\r\n"), NoEndpoint::Late),
            (
                format!("data\rid: 1\r\nevent: endpoint\n{to}\n\n"),
                NoEndpoint::Late,
            ),
            (
                format!("event: endpoint\n\nevent: endpoint\n{to}\n\n"),
                NoEndpoint::Foreign,
            ),
            (
                format!("event: endpoint\ndata: /n\n\nevent: endpoint\n{to}\n\n"),
                NoEndpoint::Foreign,
            ),
            (
                format!("event: endpoint\nid: {}", "x".repeat(LONGEST)),
                NoEndpoint::TooLong,
            ),
        ] {
            for between in ["", "data: 1\n\n", "\n", "\r\n\r\n"] {
                check(base, "", format!("{first}{between}{event}"), Err(expected));
            }
        }
        for harmless in [
            "data: event: endpoint\n\n",
            "event: endpoints\ndata: //x/\n\n",
            "event: endpoint \ndata: //x/\n\n",
            "event:  endpoint\ndata: //x/\n\n",
            " event: endpoint\ndata: //x/\n\n",
            "Event: endpoint\ndata: //x/\n\n",
            "event: endpoint\n\n",
            "event: endpoin",
            "data: 1\n\nevent: endpoint\n\ndata: 2\n\ndata",
        ] {
            let stream = format!("{first}{harmless}");
            check(base, "", &stream, Ok(&stream));
        }
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
                format!("event: endpoint\ndata: {data}\n\n"),
                Err(NoEndpoint::Foreign),
            );
        }
    }

    #[test]
    fn what_clients_take_for_an_endpoint_is_one_here_too() {
        let to = "data: https://evil.example/m\n\n";
        for event in [
            format!("event: message\n\r\nevent: endpoint\n{to}"),
            format!("event: message\r\n\nevent: endpoint\n{to}"),
            format!("event: message\nevent: endpoint\n{to}"),
            format!("\u{feff}event: endpoint\n{to}"),
            format!("data:\nevent: endpoint\n{to}"),
            "event: endpoint\ndata: https://evil\ndata: .example/m\n\n".to_owned(),
            "event: endpoint\rdata: https://evil.example/m\r\r".to_owned(),
            format!(": {}\n\nevent: endpoint\n{to}", "x".repeat(LONGEST - 100)),
        ] {
            let mut rewriter =
                EndpointRewriter::new("https://host.example/sse".parse().unwrap(), Outside::default());
            let outcome = rewriter.push(Bytes::from(event.clone()));
            assert_eq!(outcome, Err(NoEndpoint::Foreign), "{event:.100}");
        }
        let no_text = b"event: endpoint\nx: \xff\ndata: https://evil.example/m\n\n";
        check("https://host.example/sse", "", no_text, Err(NoEndpoint::Foreign));
        let without_data = "event: endpoint\n\nevent: endpoint\ndata: /m\n\n";
        check("https://host.example/sse", "", without_data, Ok(without_data));
    }

    #[test]
    fn what_is_too_long_to_be_looked_at_does_not_pass() {
        let mut rewriter =
            EndpointRewriter::new("https://host.example/sse".parse().unwrap(), Outside::default());
        let comment = Bytes::from(format!(": {}", "x".repeat(LONGEST - 100)));
        assert_eq!(rewriter.push(comment), Ok(Bytes::new()));
        let outcome = rewriter.push(Bytes::from("x".repeat(200)));
        assert_eq!(outcome, Err(NoEndpoint::TooLong));
    }
}
