//! `thv list`.

use std::process::ExitCode;

use thv::core::{Json, ProxyMode, Workload, WorkloadStatus};
use thv::labels::Selector;
use thv::manager::ListOptions;
use thv::upgrade::CheckResult;

use super::{Done, Failure, manager, upgrade};
use crate::cli::{ListArgs, ListFormat};
use crate::output::table::{Cell, Colour, layout};
use crate::output::{has_colours, json, note, print, progress, times};

pub(super) async fn run(args: &ListArgs) -> Done {
    let mut options = ListOptions {
        all: args.all,
        group: args.group.clone(),
        selector: None,
    };
    if !args.label.is_empty() {
        let selector = args.label.join(",").parse::<Selector>();
        options.selector = Some(selector.map_err(|error| Failure::new(error.to_string()))?);
    }
    if args.check_upgrades && args.format == ListFormat::Mcpservers {
        return Err(Failure::new(
            "--check-upgrades has no effect beside --format mcpservers: leave one of them out",
        ));
    }
    let manager = manager()?;
    let listed = progress::during("listing", manager.list(options)).await?;
    for warning in &listed.warnings {
        note(&format!("Warning: {warning}"));
    }
    let checks = if args.check_upgrades {
        Some(upgrade::of_all(&manager).await?)
    } else {
        None
    };
    let text = match args.format {
        ListFormat::Json if checks.is_some() => {
            json::text(&annotated(
                &listed.workloads,
                checks.as_deref().unwrap_or_default(),
            )?)? + "\n"
        }
        ListFormat::Json => {
            thv::core::gojson::to_string_pretty(&listed.workloads)
                .map_err(|error| Failure::new(error.to_string()))?
                + "\n"
        }
        ListFormat::Mcpservers => json::text(&mcp_servers(&listed.workloads))? + "\n",
        ListFormat::Text if listed.workloads.is_empty() => "No MCP servers found\n".to_owned(),
        ListFormat::Text => table(&listed.workloads, checks.as_deref(), has_colours()),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The list with a check of each workload that has a configuration.
fn annotated(workloads: &[Workload], checks: &[CheckResult]) -> Result<Json, Failure> {
    let object = |workload: &Workload| -> Result<Json, Failure> {
        let text = thv::core::gojson::to_string(workload).map_err(|error| Failure::new(error.to_string()))?;
        let mut object = Json::parse(text.as_bytes()).map_err(|error| Failure::new(error.to_string()))?;
        if let (Json::Object(pairs), Some(check)) = (&mut object, check_of(workload, checks)) {
            pairs.push(("upgrade".into(), upgrade::json(check)));
        }
        Ok(object)
    };
    workloads.iter().map(object).collect()
}

fn check_of<'a>(workload: &Workload, checks: &'a [CheckResult]) -> Option<&'a CheckResult> {
    checks.iter().find(|check| check.workload_name == workload.name)
}

fn table(workloads: &[Workload], checks: Option<&[CheckResult]>, colours: bool) -> String {
    let mut heads = vec!["NAME", "PACKAGE", "STATUS", "URL", "PORT", "GROUP", "CREATED"];
    if checks.is_some() {
        heads.push("UPGRADE");
    }
    // ToolHive's table, as long as there is nothing to say.
    let has_notes = workloads.iter().any(|workload| !notes(workload).is_empty());
    if has_notes {
        heads.push("NOTE");
    }
    let mut rows = vec![heads.into_iter().map(Cell::from).collect::<Vec<_>>()];
    rows.extend(workloads.iter().map(|workload| {
        let mut row = vec![
            workload.name.clone().into(),
            workload.package.clone().into(),
            status(workload.status),
            workload.url.clone().into(),
            workload.port.to_string().into(),
            workload.group.clone().into(),
            times::go_text(&workload.created_at).into(),
        ];
        if let Some(checks) = checks {
            let status = check_of(workload, checks).map_or("-", |check| check.status.as_str());
            row.push(status.into());
        }
        if has_notes {
            row.push(Cell::coloured(notes(workload), Colour::Yellow));
        }
        row
    }));
    layout(&rows, colours)
}

/// What the columns do not say: why nothing is known of it, and what is old.
fn notes(workload: &Workload) -> String {
    let unknown = workload.status == WorkloadStatus::Unknown;
    let reason = if unknown {
        workload.status_context.as_str()
    } else {
        ""
    };
    let notes = [reason, &old_secrets(workload)];
    let notes: Vec<_> = notes.into_iter().filter(|note| !note.is_empty()).collect();
    notes.join("; ")
}

/// What is to be said of the secrets of a server that runs.
pub(super) fn old_secrets(workload: &Workload) -> String {
    let details = &workload.thv;
    let names = details.old_secrets.iter();
    let names: Vec<_> = names.map(|name| format!("\"{}\"", name.escape_debug())).collect();
    match (names.len(), details.secrets_may_be_old) {
        (0, false) => String::new(),
        (0, true) => "secrets may be stale".to_owned(),
        (count, perhaps) => {
            let of = if count == 1 { "secret" } else { "secrets" };
            let others = if perhaps { "; others may be stale" } else { "" };
            format!("old value of {of} {}{others}", names.join(", "))
        }
    }
}

/// The status with ToolHive's decorations.
pub(super) fn status(status: WorkloadStatus) -> Cell {
    let decoration = match status {
        WorkloadStatus::Unauthenticated => "⚠️  ",
        WorkloadStatus::AuthRetrying => "🔄 ",
        WorkloadStatus::PolicyStopped => "🚫 ",
        _ => "",
    };
    let colour = match status {
        WorkloadStatus::Running => Colour::Green,
        WorkloadStatus::Error | WorkloadStatus::Unhealthy | WorkloadStatus::Unauthenticated => Colour::Red,
        WorkloadStatus::Stopped | WorkloadStatus::Unknown => Colour::Grey,
        _ => Colour::Yellow,
    };
    Cell::coloured(format!("{decoration}{status}"), colour)
}

/// What clients put into their configuration.
fn mcp_servers(workloads: &[Workload]) -> Json {
    let servers = workloads.iter().map(|workload| {
        let kind = workload.proxy_mode.map_or_else(
            || {
                workload
                    .transport_type
                    .map_or("", thv::core::TransportType::as_str)
            },
            ProxyMode::as_str,
        );
        let entry = json::Object::default()
            .with("type", kind)
            .with_text("url", &workload.url);
        (workload.name.clone(), Json::from(entry))
    });
    json::Object::default()
        .with("mcpServers", servers.collect::<Json>())
        .into()
}

#[cfg(test)]
mod tests {
    use thv::core::TransportType;

    use super::*;

    fn workloads() -> Vec<Workload> {
        let mut fetch = Workload::new("fetch", WorkloadStatus::Running);
        fetch.package = "ghcr.io/stackloklabs/gofetch/server:1.0.5".into();
        fetch.url = "http://127.0.0.1:28733/mcp".into();
        fetch.port = 28733;
        fetch.transport_type = Some(TransportType::StreamableHttp);
        fetch.proxy_mode = Some(ProxyMode::StreamableHttp);
        fetch.group = "default".into();
        fetch.created_at = "2026-08-21T10:12:13.123456789+05:45".parse().unwrap();
        let mut remote = Workload::new("remote", WorkloadStatus::Unauthenticated);
        remote.package = "remote".into();
        remote.status_context = "token expired".into();
        vec![fetch, remote]
    }

    #[test]
    fn the_table_has_toolhives_columns() {
        insta::assert_snapshot!(table(&workloads(), None, false));
    }

    #[test]
    fn a_server_with_an_old_secret_is_marked() {
        let mut workloads = workloads();
        assert_eq!(old_secrets(&workloads[0]), "");
        workloads[0].thv.old_secrets = vec!["a".into(), "b\n".into()];
        workloads[1].thv.secrets_may_be_old = true;
        insta::assert_snapshot!(table(&workloads, None, false));
    }

    #[test]
    fn why_nothing_is_known_of_a_server_is_said() {
        let mut workloads = workloads();
        workloads[1].status = WorkloadStatus::Unknown;
        workloads[1].status_context = "it belongs to the engine at /a; here is the one at /b".into();
        insta::assert_snapshot!(table(&workloads, None, false));
    }

    #[test]
    fn json_has_toolhives_keys() {
        insta::assert_snapshot!(thv::core::gojson::to_string_pretty(&workloads()).unwrap());
    }

    #[test]
    fn client_entries_have_type_and_url() {
        insta::assert_snapshot!(json::text(&mcp_servers(&workloads())).unwrap());
    }
}
