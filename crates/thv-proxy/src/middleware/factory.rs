//! Layers by the type strings of a run configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use thv_core::{Json, MiddlewareConfig, ToolOverride};

use super::layer::Layer;
use super::tool_policy::ToolPolicy;
use crate::error::ProxyError;
use crate::guard::GuardConfig;

/// Largest request body where nothing else is said.
const BODY_LIMIT: usize = 8 << 20;

type Maker = Arc<dyn Fn(&Json) -> Result<Option<Layer>, ProxyError> + Send + Sync>;

/// Makes layers by type strings, from parameters as a run configuration has them. The order of the layers is the order
/// of the list that they are made from.
///
/// ```
/// use http::HeaderName;
/// use thv_proxy::{Json, Layer, MiddlewareConfig, MiddlewareFactory, ProxyError};
///
/// let factory = MiddlewareFactory::standard().with("com.example.mark", |parameters| {
///     let word = parameters.get("word").and_then(Json::as_str).unwrap_or_default();
///     let value = word.parse().map_err(|_| ProxyError::Invalid {
///         what: "com.example.mark",
///         reason: "\"word\" cannot stand in a header".to_owned(),
///     })?;
///     Ok(Some(Layer::headers(vec![(HeaderName::from_static("x-mark"), value)])?))
/// });
/// let wanted = [("com.example.mark", r#"{"word": "hello"}"#), ("recovery", "null")];
/// let wanted = wanted.map(|(kind, parameters)| MiddlewareConfig {
///     kind: kind.to_owned(),
///     parameters: Json::parse(parameters.as_bytes()).unwrap_or_default(),
///     ..MiddlewareConfig::default()
/// });
/// let layers: Vec<Layer> = factory.chain(&wanted)?;
/// assert_eq!(layers.len(), 2);
/// # Ok::<(), thv_proxy::ProxyError>(())
/// ```
#[derive(Clone, Default)]
pub struct MiddlewareFactory {
    makers: BTreeMap<String, Maker>,
}

impl fmt::Debug for MiddlewareFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.makers.keys()).finish()
    }
}

impl MiddlewareFactory {
    /// A factory that knows no type.
    pub fn new() -> Self {
        Self::default()
    }

    /// The types of this crate. Those of run configurations, with the parameters that they have there: `bodylimit`,
    /// `origin`, `recovery`, `strip-auth`, `header-forward`, `tool-filter` and `tool-call-filter`; `mcp-parser` and
    /// `usagemetrics` make nothing. Besides: `guard` (the members of a [`GuardConfig`]: `allowed_hosts`, `only_hosts`,
    /// `any_address`, `any_host`, `allowed_origins`), `request-timeout` (`timeout`, such as `60s`) and `access-log`.
    pub fn standard() -> Self {
        let nothing = |_: &Json| Ok(None);
        Self::new()
            .with("mcp-parser", nothing)
            .with("usagemetrics", nothing)
            .with("recovery", |_| Ok(Some(Layer::recovery())))
            .with("access-log", |_| Ok(Some(Layer::access_log())))
            .with("strip-auth", |_| Ok(Some(Layer::strip_auth())))
            .with("bodylimit", |parameters| {
                let limit = bytes(parameters, "bodylimit")?;
                Ok(Some(Layer::body_limit(limit as u64)))
            })
            .with("request-timeout", |parameters| {
                let text = member(parameters, "timeout").and_then(Json::as_str);
                let parsed = text.and_then(|text| text.parse::<thv_core::gojson::GoDuration>().ok());
                let timeout = parsed.and_then(thv_core::gojson::GoDuration::to_std);
                let timeout = timeout.filter(|timeout| !timeout.is_zero()).ok_or_else(|| {
                    invalid(
                        "request-timeout",
                        "\"timeout\" is no duration above zero such as \"60s\"",
                    )
                })?;
                Ok(Some(Layer::request_timeout(timeout)))
            })
            .with("guard", |parameters| {
                let flag = |key| match member(parameters, key) {
                    None => Ok(false),
                    Some(flag) => flag
                        .as_bool()
                        .ok_or_else(|| invalid("guard", format!("{key:?} is neither true nor false"))),
                };
                Ok(Some(Layer::guard(GuardConfig {
                    hosts: strings(parameters, "allowed_hosts", "guard")?,
                    only: strings(parameters, "only_hosts", "guard")?,
                    any_address: flag("any_address")?,
                    any_host: flag("any_host")?,
                    origins: strings(parameters, "allowed_origins", "guard")?,
                })))
            })
            .with("origin", |parameters| {
                Ok(Some(Layer::guard(GuardConfig {
                    any_host: true,
                    origins: strings(parameters, "allowed_origins", "origin")?,
                    ..GuardConfig::default()
                })))
            })
            .with("header-forward", |parameters| {
                Ok(Some(Layer::headers(forwarded(parameters)?)?))
            })
            .with("tool-filter", |parameters| {
                Ok(Some(Layer::tool_lists(tools(parameters, "tool-filter")?)))
            })
            .with("tool-call-filter", |parameters| {
                let policy = tools(parameters, "tool-call-filter")?;
                let limit = bytes(parameters, "tool-call-filter")?;
                Ok(Some(Layer::tool_calls(policy, limit)))
            })
    }

    /// Makes layers of this type with `maker`, also when the type was known; `None` is a type without a layer.
    pub fn with(
        mut self,
        kind: impl Into<String>,
        maker: impl Fn(&Json) -> Result<Option<Layer>, ProxyError> + Send + Sync + 'static,
    ) -> Self {
        self.makers.insert(kind.into(), Arc::new(maker));
        self
    }

    /// The types of both; of one that both have, as `other` makes it.
    pub fn and(mut self, other: &Self) -> Self {
        let makers = other.makers.iter();
        self.makers
            .extend(makers.map(|(kind, maker)| (kind.clone(), Arc::clone(maker))));
        self
    }

    /// Whether layers of this type can be made.
    pub fn knows(&self, kind: &str) -> bool {
        self.makers.contains_key(kind)
    }

    /// The types that are known.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.makers.keys().map(String::as_str)
    }

    /// The layer of one type.
    ///
    /// # Errors
    /// [`ProxyError::Invalid`] for a type that is not known, and for parameters that mean nothing.
    pub fn make(&self, kind: &str, parameters: &Json) -> Result<Option<Layer>, ProxyError> {
        let maker = self.makers.get(kind);
        let maker = maker.ok_or_else(|| invalid("middleware", format!("unknown type {kind:?}")))?;
        maker(parameters)
    }

    /// The layers of a list, the first of which is the outermost.
    ///
    /// # Errors
    /// As [`make`](Self::make).
    pub fn chain(&self, list: &[MiddlewareConfig]) -> Result<Vec<Layer>, ProxyError> {
        let made = list.iter().map(|one| self.make(&one.kind, &one.parameters));
        made.filter_map(Result::transpose).collect()
    }
}

fn invalid(what: &'static str, reason: impl Into<String>) -> ProxyError {
    ProxyError::Invalid {
        what,
        reason: reason.into(),
    }
}

/// A member that is there and not null.
fn member<'a>(object: &'a Json, key: &str) -> Option<&'a Json> {
    let found = object.as_object()?.iter().find(|(name, _)| name.as_str() == key);
    found.map(|(_, value)| value).filter(|value| !value.is_null())
}

/// How large a body may be.
fn bytes(parameters: &Json, what: &'static str) -> Result<usize, ProxyError> {
    let Some(limit) = member(parameters, "max_bytes") else {
        return Ok(BODY_LIMIT);
    };
    let limit = limit.as_i64().and_then(|limit| usize::try_from(limit).ok());
    limit
        .filter(|limit| *limit > 0)
        .ok_or_else(|| invalid(what, "\"max_bytes\" is no number above zero"))
}

fn strings(parameters: &Json, key: &str, what: &'static str) -> Result<Vec<String>, ProxyError> {
    let Some(list) = member(parameters, key) else {
        return Ok(Vec::new());
    };
    let all = list
        .as_array()
        .map(|list| list.iter().map(|one| one.as_str().map(str::to_owned)).collect());
    all.flatten()
        .ok_or_else(|| invalid(what, format!("{key:?} is no list of texts")))
}

fn forwarded(parameters: &Json) -> Result<Vec<(HeaderName, HeaderValue)>, ProxyError> {
    let Some(headers) = member(parameters, "add_headers") else {
        return Ok(Vec::new());
    };
    let bad = || invalid("header-forward", "a name or value is none of a header");
    let pairs = headers.as_object().ok_or_else(bad)?;
    let header = |name: &str, value: &Json| {
        let name: HeaderName = name.parse().ok()?;
        Some((name, HeaderValue::from_str(value.as_str()?).ok()?))
    };
    pairs
        .iter()
        .map(|(name, value)| header(name.as_str(), value).ok_or_else(bad))
        .collect()
}

fn tools(parameters: &Json, what: &'static str) -> Result<ToolPolicy, ProxyError> {
    let filter = strings(parameters, "filter_tools", what)?;
    let mut overrides = BTreeMap::new();
    if let Some(found) = member(parameters, "tools_override") {
        let bad = || invalid(what, "\"tools_override\" is no object of names and descriptions");
        for (tool, shown) in found.as_object().ok_or_else(bad)? {
            shown.as_object().ok_or_else(bad)?;
            let text = |key| match member(shown, key) {
                None => Ok(String::new()),
                Some(text) => text.as_str().map(str::to_owned).ok_or_else(bad),
            };
            let shown = ToolOverride {
                name: text("name")?,
                description: text("description")?,
                ..ToolOverride::default()
            };
            overrides.insert(tool.as_str().to_owned(), shown);
        }
    }
    ToolPolicy::new(&filter, &overrides)
}
