//! What a check found out, for people and for programs.

use std::fmt::Write as _;

use thv::core::Json;
use thv::core::gojson;
use thv::upgrade::{CheckResult, EnvVarInfo, UpgradeStatus};

use crate::commands::registry::visible;
use crate::output::table::{Cell, Colour, layout};

const DRIFT: &str = "⚠ drift";

/// All of it, with ToolHive's keys.
pub(in crate::commands) fn json(result: &CheckResult) -> Json {
    let text = gojson::to_string(result).unwrap_or_default();
    Json::parse(text.as_bytes()).unwrap_or_default()
}

pub(super) fn table(results: &[CheckResult], colours: bool) -> String {
    let heads = ["NAME", "STATUS", "CURRENT", "CANDIDATE", "NEW-ENV", "POSTURE"];
    let mut rows = vec![heads.map(Cell::from).to_vec()];
    rows.extend(results.iter().map(|result| {
        let names: Vec<_> = added(result).iter().map(|info| info.name.as_str()).collect();
        vec![
            result.workload_name.clone().into(),
            status(result.status),
            or_dash(&result.current_image),
            or_dash(&result.candidate_image),
            or_dash(&names.join(", ")),
            or_dash(if result.config_drift.is_some() { DRIFT } else { "" }),
        ]
    }));
    layout(&rows, colours)
}

fn or_dash(text: &str) -> Cell {
    if text.is_empty() { "-" } else { text }.into()
}

fn status(status: UpgradeStatus) -> Cell {
    let colour = match status {
        UpgradeStatus::UpToDate => Colour::Green,
        UpgradeStatus::UpgradeAvailable => Colour::Yellow,
        _ => Colour::Grey,
    };
    Cell::coloured(status.as_str().to_owned(), colour)
}

/// The report on one workload.
pub(super) fn one(result: &CheckResult) -> String {
    let mut text = String::new();
    for (head, value) in [
        ("Workload:", result.workload_name.as_str()),
        ("Status:", result.status.as_str()),
        ("Registry:", &result.registry_server),
        ("Current:", &result.current_image),
        ("Candidate:", &result.candidate_image),
        ("Reason:", &result.reason),
    ] {
        if !value.is_empty() {
            let _ = writeln!(text, "{head:<11}{}", visible(value));
        }
    }
    if !added(result).is_empty() {
        text.push_str("New environment variables:\n");
    }
    for info in added(result) {
        let _ = writeln!(text, "  {}", variable(info));
    }
    if let Some(drift) = &result.config_drift {
        text.push_str("The registry says otherwise, and the workload keeps what it has:\n");
        let changes = [
            ("transport", &drift.transport),
            ("permission profile", &drift.permission_profile),
        ];
        for (what, change) in changes {
            if let Some(change) = change {
                let (from, to) = (visible(&change.from), visible(&change.to));
                let _ = writeln!(text, "  ⚠ {what}: {from} -> {to}");
            }
        }
    }
    text
}

fn variable(info: &EnvVarInfo) -> String {
    let mut text = visible(&info.name);
    let kinds: Vec<_> = [(info.required, "required"), (info.secret, "secret")]
        .into_iter()
        .filter_map(|(is, what)| is.then_some(what))
        .collect();
    if !kinds.is_empty() {
        let _ = write!(text, " ({})", kinds.join(", "));
    }
    if !info.description.is_empty() {
        let _ = write!(text, " - {}", visible(&info.description));
    }
    if !info.default.is_empty() {
        let _ = write!(text, " [default: {}]", visible(&info.default));
    }
    text
}

fn added(result: &CheckResult) -> &[EnvVarInfo] {
    result.env_var_drift.as_ref().map_or(&[], |drift| &drift.added)
}

/// Why there is nothing to apply.
pub(super) fn nothing_to_do(result: &CheckResult) -> String {
    let name = &result.workload_name;
    let no_upgrade = "no upgrade can be applied.";
    match result.status {
        UpgradeStatus::UpToDate => format!("{name} is already up to date."),
        UpgradeStatus::NotRegistrySourced => {
            format!("{name} was not created from a registry entry; {no_upgrade}")
        }
        UpgradeStatus::ServerNotFound => {
            format!("{name} references a registry server that no longer exists; {no_upgrade}")
        }
        _ if result.reason.is_empty() => {
            format!("{name}: the upgrade status could not be determined; {no_upgrade}")
        }
        _ => format!("{name}: {}; {no_upgrade}", visible(&result.reason)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use thv::core::{EnvVarSpec, PermissionProfile, RunConfig, TransportType};
    use thv::registry::{Entry, EntryInfo, ImageEntry, MemoryRegistry};
    use thv::upgrade::Checker;

    use super::*;

    async fn results() -> Vec<CheckResult> {
        let token = EnvVarSpec {
            name: "TOKEN".into(),
            description: "what to log in with\n\u{1b}[2J".into(),
            required: true,
            secret: true,
            ..EnvVarSpec::default()
        };
        let mode = EnvVarSpec {
            name: "MODE".into(),
            default: "fast".into(),
            ..EnvVarSpec::default()
        };
        let info = |name: &str| EntryInfo {
            name: name.into(),
            transport: TransportType::StreamableHttp,
            ..EntryInfo::default()
        };
        let entries = ["io.example/drifted", "io.example/same"].map(|name| {
            let drifted = name.ends_with("drifted");
            Entry::Image(ImageEntry {
                info: info(name),
                image: "ghcr.io/example/server:1.1.0".into(),
                env_vars: if drifted {
                    vec![token.clone(), mode.clone()]
                } else {
                    Vec::new()
                },
                permissions: drifted.then(PermissionProfile::network),
                ..ImageEntry::default()
            })
        });
        let configs: Vec<_> = [
            ("drifted", "io.example/drifted", "1.0.0"),
            ("gone", "io.example/gone", "1.0.0"),
            ("moving", "io.example/same", "latest"),
            ("own", "", "1.0.0"),
            ("same", "io.example/same", "1.1.0"),
        ]
        .into_iter()
        .map(|(name, server, tag)| RunConfig {
            name: name.into(),
            image: format!("ghcr.io/example/server:{tag}"),
            registry_server_name: server.into(),
            permission_profile_name_or_path: "none".into(),
            ..RunConfig::default()
        })
        .collect();
        Checker::new(Arc::new(MemoryRegistry::new(entries)))
            .check_all(&configs)
            .await
    }

    #[tokio::test]
    async fn a_table_of_all() {
        insta::assert_snapshot!(table(&results().await, false));
    }

    #[tokio::test]
    async fn a_report_on_one() {
        insta::assert_snapshot!(one(&results().await[0]));
    }

    #[tokio::test]
    async fn json_has_toolhives_keys() {
        let results = results().await;
        insta::assert_snapshot!(gojson::to_string_pretty(&json(&results[0])).unwrap());
    }

    #[tokio::test]
    async fn why_there_is_nothing_to_do() {
        let texts: Vec<_> = results().await[1..].iter().map(nothing_to_do).collect();
        insta::assert_snapshot!(texts.join("\n"));
    }
}
