//! Flags of ToolHive's that are known here and have no effect yet: refused when they ask for something.

use clap::{Arg, ArgAction, ArgMatches, Command};

/// How a flag is written, and what it says when it asks for nothing.
enum Kind {
    Text(&'static str),
    List,
    Switch(bool),
}
use Kind::{List, Switch, Text};

const RUN: &[(&str, Kind)] = &[
    ("authz-config", Text("")),
    ("audit-config", Text("")),
    ("enable-audit", Switch(false)),
    ("runtime-image", Text("")),
    ("runtime-add-package", List),
    ("build-with", List),
    ("jwks-auth-token-file", Text("")),
    ("jwks-allow-private-ip", Switch(false)),
    ("oidc-insecure-allow-http", Switch(false)),
    ("remote-forward-headers-secret", List),
    ("resource-url", Text("")),
    ("otel-endpoint", Text("")),
    ("otel-service-name", Text("")),
    ("otel-custom-attributes", Text("")),
    ("otel-tracing-enabled", Switch(true)),
    ("otel-metrics-enabled", Switch(true)),
    ("otel-use-legacy-attributes", Switch(true)),
    ("otel-sampling-rate", Text("0.1")),
    ("otel-headers", List),
    ("otel-env-vars", List),
    ("otel-insecure", Switch(false)),
    ("otel-enable-prometheus-metrics-path", Switch(false)),
    ("allow-docker-gateway", Switch(false)),
    ("webhook-config", List),
    ("k8s-pod-patch", Text("")),
    ("oidc-issuer", Text("")),
    ("oidc-audience", Text("")),
    ("oidc-jwks-url", Text("")),
    ("oidc-introspection-url", Text("")),
    ("oidc-client-id", Text("")),
    ("oidc-client-secret", Text("")),
    ("oidc-scopes", List),
    ("remote-auth", Switch(false)),
    ("remote-auth-issuer", Text("")),
    ("remote-auth-client-id", Text("")),
    ("remote-auth-client-secret", Text("")),
    ("remote-auth-client-secret-file", Text("")),
    ("remote-auth-authorize-url", Text("")),
    ("remote-auth-token-url", Text("")),
    ("remote-auth-resource", Text("")),
    ("remote-auth-bearer-token", Text("")),
    ("remote-auth-bearer-token-file", Text("")),
    ("remote-auth-scope-param-name", Text("")),
    ("remote-auth-scopes", List),
    ("remote-auth-skip-browser", Switch(false)),
    ("remote-auth-timeout", Text("30s")),
    ("remote-auth-callback-port", Text("8666")),
    ("token-exchange-url", Text("")),
    ("token-exchange-client-id", Text("")),
    ("token-exchange-client-secret", Text("")),
    ("token-exchange-client-secret-file", Text("")),
    ("token-exchange-audience", Text("")),
    ("token-exchange-scopes", List),
    ("token-exchange-subject-token-type", Text("")),
    ("token-exchange-header-name", Text("")),
];

pub(super) fn add_to_run(command: Command) -> Command {
    command.args(RUN.iter().map(arg))
}

/// Hidden from the help: a flag is shown when it does something.
fn arg((name, kind): &(&'static str, Kind)) -> Arg {
    let arg = Arg::new(*name).long(*name).hide(true);
    match kind {
        Text(default) => arg.default_value(*default),
        List => arg.action(ArgAction::Append),
        Switch(default) => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value(if *default { "true" } else { "false" })
            .value_parser(clap::value_parser!(bool)),
    }
}

/// The first flag that asks for something, as a sentence.
pub(super) fn first_asked(matches: &ArgMatches) -> Option<String> {
    let Some(("run", matches)) = matches.subcommand() else {
        return None;
    };
    let asks = |(name, kind): &&(&'static str, Kind)| match kind {
        Text(default) => matches
            .get_one::<String>(name)
            .is_some_and(|value| value != default),
        List => matches
            .get_many::<String>(name)
            .is_some_and(|mut values| values.any(|value| !value.is_empty())),
        Switch(default) => matches
            .get_one::<bool>(name)
            .is_some_and(|value| value != default),
    };
    RUN.iter()
        .find(asks)
        .map(|(name, _)| format!("--{name} is not built yet: leave it out"))
}
