//! Headers that say what arguments of a tool's call say (`x-mcp-header` in its definition), since revision 2026-07-28.
//!
//! Whoever stands between may act on them, and the server behind the bridge sees no headers: it is checked here that they say
//! what it gets. Which tools have such headers is learned from the lists that clients get. For a call of a tool that may
//! be on none of them the server is asked once, and again when it has said that its tools are others.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use memchr::memmem::Finder;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::calls::CallError;
use super::core::{Ask, Core};
use super::link::Link;
use super::request::Message;
use crate::answer;
use crate::jsonrpc;

const ANNOTATION: &str = "x-mcp-header";
/// Where data of any shape stands in a schema.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];
/// How long a call waits for a list of tools; one that has not come by then counts as empty.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many parts of a list are asked for.
const MOST_PAGES: usize = 64;
/// Names and paths that are kept, in bytes. What is beyond is not checked.
const MOST_BYTES: usize = 1 << 20;
/// What an entry costs beside its texts.
const ENTRY: usize = 64;
/// The largest number that all parsers of JSON read alike.
const MOST_EXACT: f64 = 9_007_199_254_740_991.0;

static ANNOTATED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(ANNOTATION.as_bytes()));

/// What is known of the tools on one connection.
#[derive(Debug, Default)]
pub(super) struct ParamHeaders {
    known: Mutex<Known>,
    /// Whoever asks the server; held until it has answered, so that others do not ask it too.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// The tools that have such headers.
    tools: Tools,
    bytes: usize,
    /// The tools that are not here have none.
    complete: bool,
    /// How often the server has said that its tools are others.
    changes: u64,
}

type Tools = HashMap<String, Arc<[ParamHeader]>>;

/// One header, and the argument that it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParamHeader {
    name: HeaderName,
    /// The names that lead to it from the arguments.
    path: Vec<String>,
}

/// A list of tools that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listing {
    /// As it was then.
    changes: u64,
    /// It is the first part of the list, or all of it.
    first: bool,
}

impl ParamHeaders {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's tools are others from now on.
    pub(super) fn forget(&self) {
        let mut known = self.known();
        let changes = known.changes + 1;
        *known = Known {
            changes,
            ..Known::default()
        };
    }

    /// A list that is asked for now, with these parameters.
    pub(super) fn listing(&self, params: &[u8]) -> Listing {
        let cursor = jsonrpc::member(params, "cursor");
        Listing {
            changes: self.known().changes,
            first: cursor.is_none_or(|cursor| cursor == b"null"),
        }
    }

    /// Takes the answer to `listing`, the text of its result.
    pub(super) fn learn(&self, listing: Listing, result: &[u8]) {
        let whole = listing.first && next_cursor(result).is_none();
        let annotated = ANNOTATED.find(result).is_some();
        // What was annotated before may not be any more.
        let listed = if annotated || !(whole || self.known().tools.is_empty()) {
            tools_in(result)
        } else {
            Vec::new()
        };
        let mut known = self.known();
        if known.changes != listing.changes {
            return;
        }
        if whole {
            (known.tools, known.bytes, known.complete) = (Tools::new(), 0, true);
        }
        for (tool, headers) in listed {
            known.put(tool, headers.into());
        }
    }

    /// The headers of `tool`; none when the server has to be asked.
    fn of(&self, tool: &str) -> Option<Arc<[ParamHeader]>> {
        let known = self.known();
        let headers = known.tools.get(tool).map(Arc::clone);
        headers.or_else(|| known.complete.then(Arc::default))
    }
}

impl Known {
    fn put(&mut self, tool: String, headers: Arc<[ParamHeader]>) {
        if let Some(old) = self.tools.remove(&tool) {
            self.bytes -= size(&tool, &old);
        }
        let size = size(&tool, &headers);
        if headers.is_empty() || self.bytes + size > MOST_BYTES {
            return;
        }
        self.bytes += size;
        self.tools.insert(tool, headers);
    }
}

fn size(tool: &str, headers: &[ParamHeader]) -> usize {
    let of_header = |header: &ParamHeader| {
        let path: usize = header.path.iter().map(|name| name.len() + ENTRY).sum();
        header.name.as_str().len() + path + ENTRY
    };
    tool.len() + ENTRY + headers.iter().map(of_header).sum::<usize>()
}

fn next_cursor(result: &[u8]) -> Option<&[u8]> {
    jsonrpc::member(result, "nextCursor").filter(|cursor| *cursor != b"null")
}

/// The tools of a list, with their headers.
fn tools_in(result: &[u8]) -> Vec<(String, Vec<ParamHeader>)> {
    let tools = jsonrpc::member(result, "tools").unwrap_or_default();
    let tools: Vec<&RawValue> = serde_json::from_slice(tools).unwrap_or_default();
    let named = tools.iter().filter_map(|tool| {
        let tool = tool.get().as_bytes();
        let name = jsonrpc::member(tool, "name").and_then(jsonrpc::text)?;
        let headers = if ANNOTATED.find(tool).is_some() {
            headers_in(jsonrpc::member(tool, "inputSchema").unwrap_or_default())
        } else {
            Ok(Vec::new())
        };
        // Clients leave such a tool out, or know nothing of its headers: there is nothing to compare.
        let headers = headers.unwrap_or_else(|reason| {
            tracing::debug!(tool = name, reason, "x-mcp-header of a tool is not heeded");
            Vec::new()
        });
        Some((name, headers))
    });
    named.collect()
}

/// The headers that a schema asks for, or why it asks for none in a proper way.
fn headers_in(schema: &[u8]) -> Result<Vec<ParamHeader>, &'static str> {
    let schema: Value = serde_json::from_slice(schema).map_err(|_| "the schema is no JSON")?;
    let mut found = Vec::new();
    collect(&schema, &mut Vec::new(), true, &mut found)?;
    Ok(found)
}

/// `reachable` says whether `path` leads to what `schema` describes in every call.
fn collect(
    schema: &Value,
    path: &mut Vec<String>,
    reachable: bool,
    found: &mut Vec<ParamHeader>,
) -> Result<(), &'static str> {
    let members = match schema {
        Value::Object(members) => members,
        Value::Array(schemas) => {
            return schemas
                .iter()
                .try_for_each(|schema| collect(schema, path, false, found));
        }
        _ => return Ok(()),
    };
    if let Some(said) = members.get(ANNOTATION) {
        if !reachable || path.is_empty() {
            return Err("it stands where no single argument is described");
        }
        let kind = members.get("type").and_then(Value::as_str);
        if !matches!(kind, Some("string" | "integer" | "boolean")) {
            return Err("the argument is no string, integer or boolean");
        }
        let said = said.as_str().filter(|said| !said.is_empty());
        let name = said.and_then(|said| HeaderName::try_from(format!("mcp-param-{said}")).ok());
        let name = name.ok_or("it cannot be a part of a header's name")?;
        if found.iter().any(|header| header.name == name) {
            return Err("two arguments have one header");
        }
        found.push(ParamHeader {
            name,
            path: path.clone(),
        });
    }
    for (keyword, inner) in members {
        if let ("properties", Value::Object(properties)) = (keyword.as_str(), inner) {
            for (name, property) in properties {
                path.push(name.clone());
                collect(property, path, reachable, found)?;
                path.pop();
            }
        } else if keyword != ANNOTATION && !DATA.contains(&keyword.as_str()) {
            collect(inner, path, false, found)?;
        }
    }
    Ok(())
}

impl ParamHeader {
    /// What is wrong with it among the headers of a call with these arguments.
    fn objection(&self, sent: &HeaderMap, arguments: &[u8]) -> Option<String> {
        let wrong = |what: &str| {
            let argument = self.path.join(".");
            Some(format!(
                "the header {} {what} params.arguments.{argument}",
                self.name
            ))
        };
        let Ok(value) = self.argument(arguments) else {
            return wrong("cannot be compared with two values of");
        };
        let mut said = sent.get_all(&self.name).iter();
        match (value.filter(|value| *value != b"null"), said.next(), said.next()) {
            (None, None, _) => None,
            // It is no argument that a header could say; the server says what it thinks of it.
            (Some(value), None, _) if matches!(value.first(), Some(b'{' | b'[')) => None,
            (Some(_), None, _) => wrong("is missing, which says"),
            (Some(value), Some(said), None) if says(said.as_bytes(), value) => None,
            _ => wrong("is not"),
        }
    }

    /// The text of its argument, if there is one; an error when a name on the way stands there twice.
    fn argument<'a>(&self, arguments: &'a [u8]) -> Result<Option<&'a [u8]>, jsonrpc::Twice> {
        let mut at = arguments;
        for name in &self.path {
            match jsonrpc::one_member(at, name)? {
                Some(inner) => at = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

/// Whether a header says this JSON value.
fn says(header: &[u8], value: &[u8]) -> bool {
    let Some(said) = answer::header_text(header) else {
        return false;
    };
    match value.first() {
        Some(b'"') => jsonrpc::text(value) == Some(said),
        Some(b'-' | b'0'..=b'9') => said.as_bytes() == value || is_same_number(said.as_bytes(), value),
        Some(b't' | b'f') => said.as_bytes() == value,
        _ => false,
    }
}

/// `42` and `42.0` are one number.
fn is_same_number(said: &[u8], value: &[u8]) -> bool {
    let number = |text: &[u8]| {
        let number: f64 = serde_json::from_slice(text).ok()?;
        (number.abs() <= MOST_EXACT && !text.first()?.is_ascii_whitespace()).then_some(number)
    };
    match (number(said), number(value)) {
        (Some(said), Some(value)) => said.total_cmp(&value).is_eq(),
        _ => false,
    }
}

impl Core {
    /// Whether the headers of a tool's call say what its arguments say.
    ///
    /// # Errors
    /// [`CallError::HeaderMismatch`] when they do not; another one when the server's tools cannot be known now.
    pub(super) async fn check_param_headers(
        self: &Arc<Self>,
        sent: &HeaderMap,
        message: &Message,
    ) -> Result<(), CallError> {
        let params = message.envelope.params_in(&message.bytes);
        let name = jsonrpc::member_however_written(params, "name");
        // Without a name there is no tool.
        let Some(tool) = name.and_then(jsonrpc::text) else {
            return Ok(());
        };
        // A server whose tools change all the time is asked again for each call, one after the other.
        let asking = tokio::time::timeout(self.config.request_timeout, self.param_headers(&tool));
        let asking = async { asking.await.map_err(|_| CallError::Timeout)? };
        let headers = self.while_working(asking).await?;
        if headers.is_empty() {
            return Ok(());
        }
        let mismatch = |reason| Err(CallError::HeaderMismatch { reason });
        let Ok(arguments) = jsonrpc::one_member(params, "arguments") else {
            return mismatch("params.arguments stands there twice".into());
        };
        let arguments = arguments.unwrap_or_default();
        headers
            .iter()
            .find_map(|header| header.objection(sent, arguments))
            .map_or(Ok(()), mismatch)
    }

    async fn param_headers(self: &Arc<Self>, tool: &str) -> Result<Arc<[ParamHeader]>, CallError> {
        let link = self.link()?;
        if let Some(headers) = link.param_headers.of(tool) {
            return Ok(headers);
        }
        let ready = self.initialized_in_time(&link).await?;
        if jsonrpc::member(ready.capabilities(), "tools").is_none() {
            return Ok(Arc::default());
        }
        let _turn = link.param_headers.asking.lock().await;
        if link.param_headers.of(tool).is_none() {
            self.list_tools(&link).await?;
        }
        Ok(link.param_headers.of(tool).unwrap_or_default())
    }

    /// Asks the server for all its tools.
    async fn list_tools(self: &Arc<Self>, link: &Arc<Link>) -> Result<(), CallError> {
        let deadline = Instant::now() + PATIENCE;
        let mut cursor = String::new();
        let listing = link.param_headers.listing(b"");
        for _ in 0..MOST_PAGES {
            let message =
                format!(r#"{{"jsonrpc":"2.0","id":0,"method":"tools/list","params":{{{cursor}}}}}"#);
            let mut call = self.send(link, Ask::own(message.into())?, deadline).await?;
            let answer = match call.reply().await {
                Ok(answer) => answer,
                Err(CallError::Died) => return Err(CallError::Died),
                Err(error) => {
                    tracing::debug!(?error, "the server does not list its tools");
                    break;
                }
            };
            let Some(result) = answer.result else { break };
            let result = result.of(&answer.line);
            let first = cursor.is_empty();
            link.param_headers.learn(Listing { first, ..listing }, result);
            match next_cursor(result).and_then(|next| std::str::from_utf8(next).ok()) {
                Some(next) => cursor = format!(r#""cursor":{next}"#),
                None => break,
            }
        }
        link.param_headers.settle(listing);
        Ok(())
    }
}

impl ParamHeaders {
    /// There is no more to be learned by asking, unless the server's tools have changed since.
    fn settle(&self, listing: Listing) {
        let mut known = self.known();
        if known.changes == listing.changes {
            known.complete = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn list(schema: &Value) -> Vec<u8> {
        json!({"tools": [{"name": "t", "inputSchema": schema}, {"name": "plain"}]})
            .to_string()
            .into_bytes()
    }

    fn property(header: &Value, kind: &str) -> Value {
        json!({"type": "object", "properties": {"a": {"type": kind, "x-mcp-header": header}}})
    }

    fn whole() -> Listing {
        ParamHeaders::default().listing(b"{}")
    }

    #[test]
    fn what_a_definition_asks_for_in_a_proper_way_counts_and_nothing_else() {
        let deep = json!({"properties": {"o": {"type": "object", "properties": {
            "i": {"type": "integer", "x-mcp-header": "Deep"}}},
            "b": {"type": "boolean", "x-mcp-header": "b"},
            "x-mcp-header": {"type": "string", "default": {"x-mcp-header": 1}}}});
        let found = headers_in(deep.to_string().as_bytes()).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|header| (header.name.as_str(), header.path.join(".")))
            .collect();
        assert_eq!(
            found,
            [("mcp-param-b", "b".into()), ("mcp-param-deep", "o.i".to_owned())]
        );
        let one = property(&json!("A"), "string");
        for bad in [
            property(&json!(""), "string"),
            property(&json!("a b"), "string"),
            property(&json!("a\r\nb"), "string"),
            property(&json!(7), "string"),
            property(&json!("A"), "number"),
            property(&json!("A"), "object"),
            json!({"properties": {"a": {"x-mcp-header": "A"}}}),
            json!({"type": "string", "x-mcp-header": "A"}),
            json!({"properties": {"a": {"items": {"type": "string", "x-mcp-header": "A"}}}}),
            json!({"properties": {"a": {"items": one.clone()}}}),
            json!({"anyOf": [one.clone()]}),
            json!({"$defs": {"d": one.clone()}}),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": "H"}, "b": {"type": "string", "x-mcp-header": "h"}}}),
        ] {
            assert!(headers_in(bad.to_string().as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_header_says_what_the_argument_says_and_is_there_exactly_when_that_is() {
        let header = ParamHeader {
            name: HeaderName::from_static("mcp-param-a"),
            path: vec!["o".into(), "a".into()],
        };
        for (argument, said, fits) in [
            (r#""us-west1""#, Some("us-west1"), true),
            (r#""us-west1""#, Some("US-west1"), false),
            (r#""us-west1""#, None, false),
            (r#""""#, Some(""), true),
            (r#""caf\u00e9""#, Some("=?base64?Y2Fmw6k=?="), true),
            (r#""café""#, Some("=?base64?Y2Fmw6k?="), false),
            (r#""café""#, Some("=?base64?!?="), false),
            (r#""a""#, Some("a\tb"), false),
            ("42", Some("42"), true),
            ("42", Some("42.0"), true),
            ("4.2e1", Some("42"), true),
            ("42", Some("43"), false),
            ("42", Some("0x2a"), false),
            ("42", Some("=?base64?IDQy?="), false),
            ("9007199254740993", Some("9007199254740992"), false),
            ("9007199254740993", Some("9007199254740993"), true),
            ("true", Some("true"), true),
            ("true", Some("True"), false),
            ("null", None, true),
            ("null", Some("null"), false),
            (r#"{"b":1}"#, None, true),
            (r#"{"b":1}"#, Some("x"), false),
        ] {
            let mut sent = HeaderMap::new();
            if let Some(said) = said {
                sent.insert("mcp-param-a", HeaderValue::from_str(said).unwrap());
            }
            let arguments = format!(r#"{{"o":{{"x":1,"a":{argument}}}}}"#);
            let objection = header.objection(&sent, arguments.as_bytes());
            assert_eq!(objection.is_none(), fits, "{argument} {said:?}: {objection:?}");
        }
        let raw = HeaderValue::from_bytes("café".as_bytes()).unwrap();
        let one = HeaderMap::from_iter([(header.name.clone(), raw)]);
        assert!(
            header
                .objection(&one, r#"{"o":{"a":"café"}}"#.as_bytes())
                .is_some()
        );
        let none = HeaderMap::new();
        for without in ["", "{}", "[]", r#"{"o":7}"#, r#"{"o":{}}"#] {
            assert_eq!(header.objection(&none, without.as_bytes()), None, "{without}");
        }
        for unclear in [
            r#"{"o":{"a":null,"a":"x"}}"#,
            r#"{"o":{"a":null,"\u0061":"x"}}"#,
            r#"{"o":{},"o":{"a":"x"}}"#,
        ] {
            assert!(header.objection(&none, unclear.as_bytes()).is_some(), "{unclear}");
        }
        let mut twice = HeaderMap::new();
        for _ in 0..2 {
            twice.append("mcp-param-a", HeaderValue::from_static("x"));
        }
        assert!(header.objection(&twice, br#"{"o":{"a":"x"}}"#).is_some());
    }

    #[test]
    fn what_is_known_is_what_the_last_list_said() {
        let known = ParamHeaders::default();
        assert_eq!(known.of("t"), None);
        known.learn(whole(), &list(&property(&json!("A"), "string")));
        assert_eq!(known.of("t").unwrap().len(), 1);
        assert!(known.of("plain").unwrap().is_empty() && known.of("other").unwrap().is_empty());
        // A part of a list says nothing of what is not on it.
        let part = known.listing(br#"{"cursor":"c"}"#);
        known.learn(part, br#"{"tools":[{"name":"plain"}]}"#);
        assert_eq!(known.of("t").unwrap().len(), 1);
        known.learn(part, &list(&json!({})));
        assert!(known.of("t").unwrap().is_empty());
        // A list that was asked for before the tools changed says nothing.
        known.forget();
        known.learn(part, &list(&property(&json!("A"), "string")));
        assert_eq!((known.of("t"), known.of("plain")), (None, None));
        let first = known.listing(b"{}");
        known.learn(first, br#"{"nextCursor":"c","tools":[{"name":"plain"}]}"#);
        assert_eq!(known.of("plain"), None, "more may come");
        known.learn(first, br#"{"nextCursor":null,"tools":[]}"#);
        assert!(known.of("t").unwrap().is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let known = ParamHeaders::default();
        let schema = property(&json!("A"), "string");
        let tools: Vec<_> = (0..8)
            .map(|at| json!({"name": format!("{at}{}", "n".repeat(MOST_BYTES / 4)), "inputSchema": schema}))
            .collect();
        for _ in 0..3 {
            known.learn(known.listing(b""), json!({"tools": tools}).to_string().as_bytes());
            assert_eq!(known.known().tools.len(), 3);
        }
        known.forget();
        assert_eq!(known.known().bytes, 0);
    }
}
