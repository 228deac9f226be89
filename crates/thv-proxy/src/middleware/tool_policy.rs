//! Which tools clients see, and under which names. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use serde_json::value::RawValue;
use thv_core::ToolOverride;

use crate::error::ProxyError;
use crate::jsonrpc;

/// A filter of tools, by the names that clients see, and other names and descriptions for some.
///
/// It takes two layers, one for lists and one for calls:
///
/// ```
/// use std::collections::BTreeMap;
///
/// use thv_proxy::{BridgeConfig, Layer, ToolOverride, ToolPolicy};
///
/// let shown = ToolOverride { name: "look_up".to_owned(), ..ToolOverride::default() };
/// let overrides = BTreeMap::from([("search".to_owned(), shown)]);
/// let policy = ToolPolicy::new(&["look_up".to_owned(), "read".to_owned()], &overrides)?;
///
/// let mut config = BridgeConfig::default();
/// let calls = Layer::tool_calls(policy.clone(), config.body_limit);
/// config.layers.extend([Layer::tool_lists(policy), calls]);
/// # Ok::<(), thv_proxy::ProxyError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ToolPolicy {
    /// What clients see instead, by the server's name.
    shown: HashMap<String, ToolOverride>,
    /// The server's name of a tool that clients see under another one.
    real: HashMap<String, String>,
    /// Only these are there; none is all.
    only: Option<HashSet<String>>,
}

/// What becomes of a message that may be a list of tools.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rewritten {
    /// It is none.
    AsItIs,
    /// The list as clients see it.
    Instead(Bytes),
    /// It cannot be told what a client would take it for.
    Unclear,
}

impl ToolPolicy {
    /// A policy. An empty filter lets all tools through.
    ///
    /// # Errors
    /// [`ProxyError::Invalid`] when an override says nothing, or two tools would have one name.
    pub fn new(filter: &[String], overrides: &BTreeMap<String, ToolOverride>) -> Result<Self, ProxyError> {
        let invalid = |reason: String| ProxyError::Invalid {
            what: "tools",
            reason,
        };
        let mut real = HashMap::new();
        for (name, shown) in overrides {
            if shown.name.is_empty() && shown.description.is_empty() {
                return Err(invalid(format!("the override of {name:?} says nothing")));
            }
            let visible = if shown.name.is_empty() { name } else { &shown.name };
            if let Some(other) = real.insert(visible.clone(), name.clone()) {
                return Err(invalid(format!(
                    "{other:?} and {name:?} would both be called {visible:?}"
                )));
            }
        }
        Ok(Self {
            shown: overrides
                .iter()
                .map(|(name, shown)| (name.clone(), shown.clone()))
                .collect(),
            real,
            only: (!filter.is_empty()).then(|| filter.iter().cloned().collect()),
        })
    }

    /// The server's name of the tool that clients see as `visible`; none when they do not see it.
    pub(super) fn real<'a>(&'a self, visible: &'a str) -> Option<&'a str> {
        if self.only.as_ref().is_some_and(|only| !only.contains(visible)) {
            return None;
        }
        match self.real.get(visible) {
            Some(real) => Some(real),
            // A tool that has another name now is not there under its own.
            None => (!self.shown.contains_key(visible)).then_some(visible),
        }
    }

    /// The name and description under which clients see a tool; none when they do not.
    fn shown<'a>(&'a self, real: &'a str) -> Option<(&'a str, Option<&'a str>)> {
        let shown = self.shown.get(real);
        let name = shown.map(|shown| shown.name.as_str());
        let visible = name.filter(|name| !name.is_empty()).unwrap_or(real);
        // The name is another tool's.
        if self.real.get(visible).is_some_and(|of| of != real) {
            return None;
        }
        if self.only.as_ref().is_some_and(|only| !only.contains(visible)) {
            return None;
        }
        let description = shown.map(|shown| shown.description.as_str());
        Some((visible, description.filter(|text| !text.is_empty())))
    }

    /// A message of the server, with the tools that clients see.
    pub(super) fn rewrite(&self, message: &[u8]) -> Rewritten {
        // Some clients read the codings whose characters are wider than a byte.
        let start = message
            .iter()
            .position(|byte| !byte.is_ascii_whitespace() && *byte != 0);
        match start.map(|start| &message[start..]) {
            Some([b'{', ..]) => {}
            // Nobody was let ask for a batch; and a byte order mark is skipped by some clients.
            Some([b'[' | 0xEF, ..] | [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..]) => return Rewritten::Unclear,
            _ => return Rewritten::AsItIs,
        }
        let Ok(envelope) = jsonrpc::scan(message) else {
            return Rewritten::Unclear;
        };
        let Some(span) = envelope.result else {
            return Rewritten::AsItIs;
        };
        let result = span.of(message);
        let is_tools =
            |name: &[u8]| jsonrpc::unquoted(name) == b"tools" || jsonrpc::could_mean(name, "tools");
        if !jsonrpc::any_name(result, is_tools) {
            return Rewritten::AsItIs;
        }
        let tools = jsonrpc::member_span(result, "tools").filter(|tools| {
            // A second one could hide behind escapes, or in another case.
            tools.end <= result.len() && !jsonrpc::any_name(result, |name| jsonrpc::could_mean(name, "tools"))
        });
        let Some(tools) = tools else {
            return Rewritten::Unclear;
        };
        let Ok(list) = serde_json::from_slice::<Vec<&RawValue>>(tools.of(result)) else {
            return Rewritten::Unclear;
        };
        let (start, end) = (span.start + tools.start, span.start + tools.end);
        let mut out = message[..start].to_vec();
        out.push(b'[');
        for tool in list.iter().filter_map(|tool| self.tool(tool.get().as_bytes())) {
            if out.last() != Some(&b'[') || out.len() > start + 1 {
                out.push(b',');
            }
            out.extend_from_slice(&tool);
        }
        out.push(b']');
        out.extend_from_slice(&message[end..]);
        Rewritten::Instead(out.into())
    }

    /// One tool as clients see it. One whose name is not clear is none.
    fn tool<'a>(&'a self, tool: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let hidden = |name: &[u8]| {
            ["name", "description"]
                .iter()
                .any(|known| jsonrpc::could_mean(name, known))
        };
        if jsonrpc::any_name(tool, hidden) {
            return None;
        }
        let name = jsonrpc::member_span(tool, "name")?;
        let real = jsonrpc::text(name.of(tool))?;
        let (visible, description) = self.shown(&real)?;
        let mut changes = Vec::new();
        if visible != real {
            changes.push((name.start, name.end, jsonrpc::quoted(visible)));
        }
        if let Some(description) = description {
            let text = jsonrpc::quoted(description);
            match jsonrpc::member_span(tool, "description") {
                Some(span) => changes.push((span.start, span.end, text)),
                None if jsonrpc::any_name(tool, |name| name == b"\"description\"") => return None,
                None => changes.push((name.end, name.end, format!(r#","description":{text}"#))),
            }
        }
        if changes.is_empty() {
            return Some(Cow::Borrowed(tool));
        }
        changes.sort();
        let (mut out, mut at) = (Vec::new(), 0);
        for (start, end, text) in changes {
            out.extend_from_slice(&tool[at..start]);
            out.extend_from_slice(text.as_bytes());
            at = end;
        }
        out.extend_from_slice(&tool[at..]);
        Some(Cow::Owned(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(filter: &[&str], overrides: &[(&str, &str, &str)]) -> Result<ToolPolicy, ProxyError> {
        let filter: Vec<_> = filter.iter().map(|name| (*name).to_owned()).collect();
        let overrides = overrides.iter().map(|(real, name, description)| {
            let shown = ToolOverride {
                name: (*name).to_owned(),
                description: (*description).to_owned(),
                ..ToolOverride::default()
            };
            ((*real).to_owned(), shown)
        });
        ToolPolicy::new(&filter, &overrides.collect())
    }

    const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","description":"A","x":1}, {"inputSchema":{"name":"b"},"name":"b"},{"name":"c"}],"nextCursor":"n"}}"#;

    fn listed(policy: &ToolPolicy) -> String {
        match policy.rewrite(LIST.as_bytes()) {
            Rewritten::Instead(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn clients_see_what_the_filter_names_under_the_names_that_they_know() {
        let all = policy(&[], &[]).unwrap();
        assert_eq!(listed(&all), LIST.replace(", {", ",{"));
        let some = policy(&["a", "z"], &[("b", "z", "Z"), ("c", "a2", "")]).unwrap();
        assert_eq!(
            listed(&some),
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","description":"A","x":1},{"inputSchema":{"name":"b"},"name":"z","description":"Z"}],"nextCursor":"n"}}"#
        );
        for (visible, real) in [
            ("a", Some("a")),
            ("z", Some("b")),
            ("b", None),
            ("c", None),
            ("a2", None),
        ] {
            assert_eq!(some.real(visible), real, "{visible}");
        }
        let described = policy(&[], &[("a", "", "new")]).unwrap();
        assert!(listed(&described).contains(r#"{"name":"a","description":"new","x":1}"#));
        assert_eq!(described.real("a"), Some("a"));
    }

    #[test]
    fn a_name_that_was_given_away_hides_the_tool_that_had_it() {
        let swapped = policy(&[], &[("a", "b", ""), ("b", "a", "")]).unwrap();
        assert_eq!((swapped.real("a"), swapped.real("b")), (Some("b"), Some("a")));
        let taken = policy(&[], &[("a", "b", "")]).unwrap();
        assert_eq!((taken.real("b"), taken.real("a")), (Some("a"), None));
        assert!(!listed(&taken).contains(r#""inputSchema""#), "{}", listed(&taken));
    }

    #[test]
    fn what_says_nothing_or_two_things_is_refused() {
        assert!(policy(&[], &[("a", "", "")]).is_err());
        assert!(policy(&[], &[("a", "x", ""), ("b", "x", "")]).is_err());
        assert!(policy(&[], &[("a", "b", ""), ("b", "", "B")]).is_err());
    }

    #[test]
    fn a_list_in_another_coding_is_none_that_passes() {
        let policy = policy(&["a"], &[]).unwrap();
        let units: Vec<u16> = LIST.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let wide: Vec<u8> = LIST
            .chars()
            .flat_map(|letter| u32::from(letter).to_be_bytes())
            .collect();
        for (mark, text) in [
            (&b"\xff\xfe"[..], &little),
            (b"", &little),
            (b"\xfe\xff", &big),
            (b"", &big),
            (b"\x00\x00\xfe\xff", &wide),
            (b"", &wide),
        ] {
            let message = [mark, text].concat();
            assert_eq!(
                policy.rewrite(&message),
                Rewritten::Unclear,
                "{:?}",
                &message[..8]
            );
        }
        for picture in [&b"\xff\xd8\xff\xe0"[..], b"\x00\x00\x01\x00"] {
            assert_eq!(policy.rewrite(picture), Rewritten::AsItIs);
        }
    }

    #[test]
    fn what_could_be_taken_for_a_list_and_is_not_clear_does_not_pass() {
        let policy = policy(&["a"], &[]).unwrap();
        for message in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[{"name":"b"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"t\u006fols":[{"name":"b"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"t\u006fols":[{"name":"b"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"result":{"tools":[{"name":"b"}]}}"#,
            r#"[{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"b"}]}}]"#,
            r#"{"id":1,"result":{"tools":[{"name":"b"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"Tools":[{"name":"b"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"TOOL\u0053":[{"name":"b"}]}}"#,
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"tools\":[{\"name\":\"b\"}]}}",
        ] {
            assert_eq!(
                policy.rewrite(message.as_bytes()),
                Rewritten::Unclear,
                "{message}"
            );
        }
        for message in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"tools":[]}]}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
            "/messages?session_id=1",
            "",
        ] {
            assert_eq!(policy.rewrite(message.as_bytes()), Rewritten::AsItIs, "{message}");
        }
        let hidden = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"n\u0061me":"b","name":"a"},{"name":"b","name":"a"},{"name":"a","Name":"b"},{"name":"\ud800"},{"name":"a\udfff"}]}}"#;
        let Rewritten::Instead(text) = policy.rewrite(hidden.as_bytes()) else {
            panic!()
        };
        assert_eq!(&text[..], br#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#);
    }
}
