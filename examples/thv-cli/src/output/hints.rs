//! What the command line adds to errors of the libraries: its flags and commands, which they do not know.

use std::error::Error;

use thv::manager::RequestField;
use thv::registry::Error as RegistryError;
use thv::secrets::SecretError;

/// What a proxy may meet, by the words for it, and what helps: limits of a shell, and authorities of one's own.
const REMEDIES: [(&str, &str); 4] = [
    ("(os error 24)", "raise the limit of open files (ulimit -n)"),
    ("(os error 27)", "raise the limit of file sizes (ulimit -f)"),
    (
        "(os error 30)",
        "that file system is mounted read-only: mount it writable first",
    ),
    (
        "its authority is not known here",
        "--thv-ca-bundle names the certificate of one",
    ),
];

/// What helps by the text alone: what a proxy met is no error any more.
pub(crate) fn of_text(text: &str) -> impl Iterator<Item = &'static str> {
    let met = REMEDIES.into_iter().filter(|(said, _)| text.contains(said));
    met.map(|(_, remedy)| remedy)
}

/// An error in the words of the command line: parts of a request are its flags.
pub(crate) fn said(error: &(dyn Error + 'static)) -> String {
    use thv::manager::Error as E;
    match error.downcast_ref() {
        Some(E::InvalidRequest { field, value, detail }) => {
            let value = value.as_ref().map(|value| format!(" \"{value}\""));
            format!("invalid {}{}: {detail}", flag(*field), value.unwrap_or_default())
        }
        _ => error.to_string(),
    }
}

/// What can be done about an error by flags and commands.
pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<String> {
    let by_manager = || error.downcast_ref().and_then(of_manager);
    let by_upgrade = || match error.downcast_ref()? {
        thv::upgrade::Error::MissingValues { secret, .. } => Some(give(false, *secret).to_owned()),
        _ => None,
    };
    let by_registry = || error.downcast_ref().and_then(of_registry);
    let by_secrets = || error.downcast_ref().and_then(of_secrets);
    by_manager()
        .or_else(by_upgrade)
        .or_else(by_registry)
        .or_else(by_secrets)
}

fn of_manager(error: &thv::manager::Error) -> Option<String> {
    use thv::manager::Error as E;
    Some(match error {
        E::AlreadyExists { failed: true, .. } => "use --replace to replace it".to_owned(),
        E::AlreadyExists { name, .. } => format!("\"thv start {name}\" starts it, --replace replaces it"),
        E::LocalOnly { .. } => "--runtime local runs it there".to_owned(),
        E::MissingValues { values, .. } => give(
            values.iter().any(|value| value.header),
            values.iter().any(|value| value.secret),
        )
        .to_owned(),
        E::PermissionsNotAccepted { .. } => {
            "--accept-permissions grants them, --permission-profile gives others".to_owned()
        }
        E::AnotherInstallation { .. } => "use --force to act on it all the same".to_owned(),
        E::BelongsElsewhere { option, .. } => format!("--{} does so", option.as_str().replace('_', "-")),
        E::LoggedElsewhere { .. } => "its proxy's log is there with --proxy".to_owned(),
        E::Registry(error) => return of_registry(error),
        _ => return None,
    })
}

fn of_registry(error: &RegistryError) -> Option<String> {
    let allowed = matches!(error, RegistryError::Denied { allowable: true, .. });
    allowed.then(|| "--allow-private-ip (allow_private_registry_ip in config.yaml) allows it".to_owned())
}

fn of_secrets(error: &SecretError) -> Option<String> {
    let hint = match error {
        SecretError::NotConfigured => {
            "run `thv secret setup`, or set TOOLHIVE_SECRETS_PROVIDER=environment and put values into \
             TOOLHIVE_SECRET_<name>"
        }
        SecretError::Locked { .. } => "give it with --secrets-password-fd",
        SecretError::Unsupported { .. } => "`thv secret setup` chooses one that can",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// How values are given that a registry entry needs.
fn give(header: bool, secret: bool) -> &'static str {
    match (header, secret) {
        (true, _) => "give each with --remote-forward-headers NAME=VALUE",
        (false, true) => "give each with --env NAME=VALUE, or a secret with --secret <secret>,target=NAME",
        (false, false) => "give each with --env NAME=VALUE",
    }
}

/// The flag of a part of a request: most are named alike.
fn flag(field: RequestField) -> String {
    let named = match field {
        RequestField::Args => return "arguments after --".to_owned(),
        RequestField::CaBundle => "thv-ca-bundle",
        RequestField::ForwardHeaders => "remote-forward-headers",
        RequestField::Labels => "label",
        RequestField::PrintOverlays => "print-resolved-overlays",
        RequestField::Secrets => "secret",
        RequestField::ToolsOverrideFile => "tools-override",
        RequestField::Volumes => "volume",
        other => other.name(),
    };
    format!("--{}", named.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_part_of_a_request_is_a_flag_of_run() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        let flags: Vec<_> = run.get_arguments().filter_map(clap::Arg::get_long).collect();
        for field in RequestField::ALL
            .iter()
            .filter(|field| **field != RequestField::Args)
        {
            let flag = flag(*field);
            assert!(flags.contains(&&flag[2..]), "{flag}");
        }
    }
}
