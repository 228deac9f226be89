//! What the stored parameters of a middleware ask for.
//!
//! A proxy is built from the fields of a configuration, not from the parameters in its list. So parameters count only
//! where they say what the fields say, or nothing.

use super::feature::MiddlewareType;
use crate::RunConfig;
use crate::gojson::same_key;
use crate::gojson::{Json, JsonString};

/// How large a request body may be.
const MAX_BODY: i64 = 8 * 1024 * 1024;

/// Whether a middleware with these parameters changes nothing: `auth` without OIDC, `telemetry` without exporter.
///
/// Parameters that are not understood count as an effect.
pub fn is_without_effect(kind: MiddlewareType, parameters: &Json) -> bool {
    match kind {
        MiddlewareType::Auth => absent(parameters, "oidc_config"),
        MiddlewareType::Telemetry => {
            let Some(config) = values(parameters, "config") else {
                return false;
            };
            config.iter().all(|config| {
                config.is_null()
                    || (absent(config, "endpoint") && absent(config, "enablePrometheusMetricsPath"))
            })
        }
        _ => false,
    }
}

/// Whether the parameters of an enforced middleware ask for no more and no less than `config` does without them. A
/// proxy of ToolHive that saves its configuration while it runs writes what it derived from the fields into the list.
///
/// Parameters that are not understood are not implied.
pub fn is_implied(kind: MiddlewareType, parameters: &Json, config: &RunConfig) -> bool {
    let only = |key: &str| only_values(parameters, key);
    match kind {
        MiddlewareType::BodyLimit => only("max_bytes").is_some_and(|limits| {
            limits
                .iter()
                .all(|limit| limit.is_null() || limit.as_i64() == Some(MAX_BODY))
        }),
        MiddlewareType::Origin => only("allowed_origins").is_some_and(|lists| {
            lists
                .iter()
                .all(|list| list.is_null() || list.as_array().is_some_and(|list| same_origins(list, config)))
        }),
        MiddlewareType::HeaderForward => only("add_headers").is_some_and(|headers| {
            headers.iter().all(|headers| {
                headers.is_null()
                    || headers
                        .as_object()
                        .is_some_and(|headers| are_forwarded(headers, config))
            })
        }),
        MiddlewareType::ToolFilter | MiddlewareType::ToolCallFilter => same_tools(parameters, config),
        _ => false,
    }
}

/// Both lists of tools, as the configuration has them. Each key stands there once, in its own spelling.
fn same_tools(parameters: &Json, config: &RunConfig) -> bool {
    let Json::Object(pairs) = parameters else {
        return false;
    };
    let known = |(key, _): &(JsonString, Json)| matches!(key.as_str(), "filter_tools" | "tools_override");
    let (filters, overrides) = (
        values(parameters, "filter_tools"),
        values(parameters, "tools_override"),
    );
    let (Some(filters), Some(overrides)) = (filters, overrides) else {
        return false;
    };
    if !pairs.iter().all(known) || filters.len() > 1 || overrides.len() > 1 {
        return false;
    }
    let filter = filters.first().map_or(Some(Vec::new()), |json| names(json));
    let same_override = |tool: &JsonString, shown: &Json| {
        let known = config.tools_override.get(tool.as_str());
        known.is_some_and(|known| {
            only_text(shown, "name") == Some(known.name.as_str())
                && only_text(shown, "description") == Some(known.description.as_str())
        })
    };
    let same_overrides = match overrides.first() {
        None | Some(Json::Null) => config.tools_override.is_empty(),
        Some(Json::Object(pairs)) => {
            pairs.len() == config.tools_override.len()
                && pairs.iter().all(|(tool, shown)| same_override(tool, shown))
        }
        Some(_) => false,
    };
    filter.is_some_and(|filter| filter == config.tools_filter) && same_overrides
}

/// A list of texts; null is one without entries.
fn names(json: &Json) -> Option<Vec<&str>> {
    match json {
        Json::Null => Some(Vec::new()),
        json => json.as_array()?.iter().map(Json::as_str).collect(),
    }
}

/// The text under `key` in an object that has no other keys than a name and a description; absent is empty.
fn only_text<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    let known = |(key, _): &(JsonString, Json)| matches!(key.as_str(), "name" | "description");
    if !json.as_object()?.iter().all(known) {
        return None;
    }
    match values(json, key)?.as_slice() {
        [] | [Json::Null] => Some(""),
        [text] => text.as_str(),
        _ => None,
    }
}

/// A list without entries is no list. Another one lets in all that the field lets in, and nothing but that and the
/// proxy's own origin.
fn same_origins(list: &[Json], config: &RunConfig) -> bool {
    let Some(listed) = list
        .iter()
        .map(|origin| origin.as_str().and_then(Origin::parse))
        .collect::<Option<Vec<_>>>()
    else {
        return false;
    };
    let allowed: Vec<_> = config
        .allowed_origins
        .iter()
        .map(|text| Origin::parse(text))
        .collect();
    listed.is_empty()
        || (allowed
            .iter()
            .all(|origin| origin.as_ref().is_some_and(|origin| listed.contains(origin)))
            && listed
                .iter()
                .all(|origin| origin.is_proxys_own(config.port) || allowed.contains(&Some(origin.clone()))))
}

/// Scheme and authority in lower case; a path does not count.
#[derive(Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    authority: String,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            authority: authority.to_ascii_lowercase(),
        })
    }

    fn is_proxys_own(&self, port: u16) -> bool {
        self.scheme == "http"
            && ["localhost", "127.0.0.1", "[::1]"]
                .iter()
                .any(|host| self.authority == format!("{host}:{port}"))
    }
}

/// Whether each header has that value in the configuration too, or is one of those that come from a secret: for these
/// the field itself is judged.
fn are_forwarded(headers: &[(JsonString, Json)], config: &RunConfig) -> bool {
    let Some(forward) = &config.header_forward else {
        return headers.is_empty();
    };
    let find = |name: &str| {
        let mut plain = forward.add_plaintext_headers.iter();
        plain.find(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    headers.iter().all(|(name, value)| {
        find(name).is_some_and(|(_, known)| value.as_str() == Some(known))
            || forward
                .add_headers_from_secret
                .keys()
                .any(|known| known.eq_ignore_ascii_case(name))
    })
}

/// Whether an object (or null) lacks `key`, in every spelling that Go would take for it, or has Go's empty value there.
fn absent(json: &Json, key: &str) -> bool {
    values(json, key).is_some_and(|values| {
        values
            .iter()
            .all(|value| value.is_null() || value.as_str() == Some("") || value.as_bool() == Some(false))
    })
}

/// All values of `key` in an object, of null none; nothing if `json` is something else.
fn values<'a>(json: &'a Json, key: &str) -> Option<Vec<&'a Json>> {
    match json {
        Json::Null => Some(Vec::new()),
        Json::Object(pairs) => Some(
            pairs
                .iter()
                .filter(|(found, _)| same_key(found, key))
                .map(|(_, value)| value)
                .collect(),
        ),
        _ => None,
    }
}

/// As [`values`]; nothing if there is another key too.
fn only_values<'a>(json: &'a Json, key: &str) -> Option<Vec<&'a Json>> {
    let found = values(json, key)?;
    (json.as_object().map_or(0, <[_]>::len) == found.len()).then_some(found)
}
