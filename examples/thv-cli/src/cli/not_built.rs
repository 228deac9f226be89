//! Commands and flags of ToolHive's that are known here and have no effect yet. A flag is refused when it asks for something.

use clap::{Arg, ArgAction, ArgMatches, Command};

/// How a flag is written, and what it says when it asks for nothing.
enum Kind {
    Text(&'static str),
    List,
    Switch(bool),
}
use Kind::{List, Switch, Text};

/// Flags of one command.
type Flags = &'static [(&'static str, Kind)];

const RUN: Flags = &[
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

/// The flags of the registry's login.
const SET_REGISTRY: Flags = &[
    ("issuer", Text("")),
    ("client-id", Text("")),
    ("audience", Text("")),
    ("scopes", List),
];

/// Secrets of the system's own.
const SYSTEM_SECRETS: Flags = &[("system", Switch(false))];

/// Which commands have such flags.
const FLAGS: [(&[&str], Flags); 4] = [
    (&["run"], RUN),
    (&["config", "set-registry"], SET_REGISTRY),
    (&["secret", "list"], SYSTEM_SECRETS),
    (&["secret", "delete"], SYSTEM_SECRETS),
];

/// Whole commands, each behind the one that it belongs to.
const COMMANDS: [(&[&str], &[&str]); 5] = [
    (
        &[],
        &[
            "ai-plugin",
            "build",
            "client",
            "inspector",
            "llm",
            "mcp",
            "proxy",
            "serve",
            "skill",
            "vmcp",
        ],
    ),
    (
        &["config"],
        &[
            "get-build-auth-file",
            "get-build-env",
            "get-ca-cert",
            "otel",
            "set-build-auth-file",
            "set-build-env",
            "set-ca-cert",
            "unset-build-auth-file",
            "unset-build-env",
            "unset-ca-cert",
            "usage-metrics",
        ],
    ),
    (&["group"], &["run"]),
    (&["registry"], &["convert", "login", "logout"]),
    (&["secret"], &["reset-keyring"]),
];

/// The command with all of them.
pub(super) fn add(mut command: Command) -> Command {
    for (path, flags) in FLAGS {
        command = at(command, path, &|command| command.args(flags.iter().map(arg)));
    }
    for (path, names) in COMMANDS {
        command = at(command, path, &|command| {
            command.subcommands(names.iter().map(|name| whole(name)))
        });
    }
    command
}

fn at(command: Command, path: &[&str], change: &dyn Fn(Command) -> Command) -> Command {
    match path {
        [] => change(command),
        [first, rest @ ..] => command.mut_subcommand(*first, |next| at(next, rest, change)),
    }
}

/// A command that takes whatever is behind it.
fn whole(name: &'static str) -> Command {
    let rest = Arg::new("rest")
        .num_args(0..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true);
    Command::new(name).hide(true).disable_help_flag(true).arg(rest)
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

/// The command, or the first flag that asks for something, as a sentence.
pub(super) fn first_asked(matches: &ArgMatches) -> Option<String> {
    let (mut path, mut matches) = (Vec::new(), matches);
    while let Some((name, next)) = matches.subcommand() {
        if COMMANDS
            .iter()
            .any(|(parent, names)| *parent == path && names.contains(&name))
        {
            path.push(name);
            return Some(format!("thv {} is not built yet", path.join(" ")));
        }
        path.push(name);
        matches = next;
    }
    let (_, flags) = FLAGS.iter().find(|(command, _)| *command == path)?;
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
    flags
        .iter()
        .find(asks)
        .map(|(name, _)| format!("--{name} is not built yet: leave it out"))
}
