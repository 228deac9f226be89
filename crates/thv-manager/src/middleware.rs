//! What stands before a proxy, and in which order.
//!
//! The order is data; what a name in it becomes is made by the factory, from parameters that the fields of the run
//! configuration say. An application's own types stand where the configuration's list has them.

use thv_core::{Json, MiddlewareConfig, RunConfig};
use thv_proxy::{Layer, MiddlewareFactory, ProxyError};

use crate::deploy_spec::inbound_hosts;
use crate::proxy::body_limit;
use crate::request::tool_parameters;
use crate::tuning::Tuning;

/// Around everything, also while there is no server; outermost first.
const FRONT: [&str; 3] = ["access-log", "guard", "recovery"];
/// Around the proxy of one server; outermost first.
const INNER: [&str; 3] = ["bodylimit", LISTED, "header-forward"];
/// Here stand the entries of the configuration's list, in its order.
const LISTED: &str = "";
/// Made where the configuration's fields ask for it, listed or not.
const TOOLS: [&str; 2] = ["tool-filter", "tool-call-filter"];

/// The layers in front of all lives of a workload's server.
pub(crate) fn front(own: &MiddlewareFactory, config: &RunConfig) -> Result<Vec<Layer>, ProxyError> {
    let wanted = FRONT.iter().filter_map(|&kind| {
        let parameters = match kind {
            "access-log" if !config.debug => return None,
            "guard" => guard(config),
            _ => Json::Null,
        };
        Some(entry(kind, parameters))
    });
    make(own, &wanted.collect::<Vec<_>>())
}

/// The layers around the proxy of one server.
pub(crate) fn inner(
    own: &MiddlewareFactory,
    config: &RunConfig,
    tuning: &Tuning,
) -> Result<Vec<Layer>, ProxyError> {
    let mut wanted = Vec::new();
    for kind in INNER {
        match kind {
            LISTED => wanted.extend(listed(own, config, tuning)),
            "bodylimit" => wanted.push(entry(
                kind,
                object([("max_bytes", body_limit(config, tuning).into())]),
            )),
            "header-forward" => {
                let headers = config.header_forward.iter();
                let headers = headers.flat_map(|forward| &forward.add_plaintext_headers);
                let headers: Vec<_> = headers
                    .map(|(name, value)| (name.as_str(), value.as_str().into()))
                    .collect();
                if !headers.is_empty() {
                    let headers = headers.into_iter().collect();
                    wanted.push(entry(kind, object([("add_headers", headers)])));
                }
            }
            _ => wanted.push(entry(kind, Json::Null)),
        }
    }
    make(own, &wanted)
}

/// Whether a type in a list is an application's own: then the enforcement table has no say.
pub(crate) fn is_own(own: &MiddlewareFactory, kind: &str) -> bool {
    own.knows(kind) && !TOOLS.contains(&kind)
}

/// The fields of a configuration say what is filtered; the parameters in its list say the same, or it is refused.
fn listed(own: &MiddlewareFactory, config: &RunConfig, tuning: &Tuning) -> Vec<MiddlewareConfig> {
    let filtered = !config.tools_filter.is_empty() || !config.tools_override.is_empty();
    let tools = |kind: &str| {
        let Json::Object(mut pairs) = tool_parameters(config) else {
            return entry(kind, Json::Null);
        };
        if kind == "tool-call-filter" {
            pairs.push(("max_bytes".into(), body_limit(config, tuning).into()));
        }
        entry(kind, Json::Object(pairs))
    };
    let mut wanted: Vec<MiddlewareConfig> = Vec::new();
    let add_tools = |kind: &str, wanted: &mut Vec<MiddlewareConfig>| {
        if filtered && wanted.iter().all(|one| one.kind != kind) {
            wanted.push(tools(kind));
        }
    };
    for one in config
        .middleware_configs
        .iter()
        .chain(&config.additional_middleware_configs)
    {
        if TOOLS.contains(&one.kind.as_str()) {
            add_tools(&one.kind, &mut wanted);
        } else if own.knows(&one.kind) {
            wanted.push(one.clone());
        }
    }
    for kind in TOOLS {
        add_tools(kind, &mut wanted);
    }
    wanted
}

fn guard(config: &RunConfig) -> Json {
    let loopback = crate::ports::bind_address(&config.host).is_ok_and(|address| address.is_loopback());
    // Bound to more than loopback on request, it is reached by the machine's addresses and its own name. Any name
    // would be one that a web page can rebind.
    let own_name = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hosts = config.thv.proxy.allowed_hosts.iter();
    let hosts: Vec<_> = hosts.cloned().chain((!loopback).then(own_name)).collect();
    object([
        ("any_address", Json::Bool(!loopback)),
        ("allowed_hosts", texts(&hosts)),
        ("only_hosts", texts(inbound_hosts(config))),
        ("allowed_origins", texts(&config.allowed_origins)),
    ])
}

fn make(own: &MiddlewareFactory, wanted: &[MiddlewareConfig]) -> Result<Vec<Layer>, ProxyError> {
    MiddlewareFactory::standard().and(own).chain(wanted)
}

fn entry(kind: &str, parameters: Json) -> MiddlewareConfig {
    MiddlewareConfig {
        kind: kind.to_owned(),
        parameters,
        ..MiddlewareConfig::default()
    }
}

fn object<const N: usize>(pairs: [(&str, Json); N]) -> Json {
    pairs.into_iter().collect()
}

fn texts(list: &[String]) -> Json {
    list.iter().map(|one| Json::from(one.as_str())).collect()
}
