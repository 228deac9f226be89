//! `thv status`.

use std::process::ExitCode;

use jiff::Timestamp;
use thv::core::{Json, ProvenanceVerdict, ProxyMode, TransportType, WorkloadName, WorkloadStatus};
use thv::manager::WorkloadReport;

use super::registry::visible;
use super::{Done, list, manager};
use crate::cli::{Format, StatusArgs};
use crate::output::table::{Cell, layout};
use crate::output::{has_colours, json, print, progress, times};

pub(super) async fn run(args: &StatusArgs) -> Done {
    let name = WorkloadName::new(args.name.as_str())?;
    let details = progress::during("looking", manager()?.status(&name)).await?;
    let uptime = uptime(&details, Timestamp::now());
    match args.format {
        Format::Text => print(&text(&details, &uptime, has_colours()))?,
        Format::Json => json::print(&object(&details, &uptime))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(details: &WorkloadReport, uptime: &str, colours: bool) -> String {
    let workload = &details.workload;
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let lines: Vec<(&str, Cell)> = vec![
        ("Name:", workload.name.clone().into()),
        ("Status:", list::status(workload.status)),
        ("Reason:", workload.status_context.clone().into()),
        (
            "Health:",
            if is_down(workload.status) {
                ""
            } else {
                health(workload.status)
            }
            .into(),
        ),
        ("Package:", workload.package.clone().into()),
        ("URL:", workload.url.clone().into()),
        ("Port:", workload.port.to_string().into()),
        (
            "Transport:",
            workload.transport_type.map_or("", TransportType::as_str).into(),
        ),
        (
            "Proxy Mode:",
            workload.proxy_mode.map_or("", ProxyMode::as_str).into(),
        ),
        ("Group:", workload.group.clone().into()),
        ("Created:", times::short(&workload.created_at).into()),
        ("Remote:", if workload.remote { "true" } else { "" }.into()),
        ("Uptime:", uptime.into()),
        ("Secrets:", list::old_secrets(workload).into()),
        ("Should run:", yes(details.desired_running).into()),
        (
            "Runtime:",
            details.runtime.as_ref().map_or("", |kind| kind.as_str()).into(),
        ),
        ("Network:", network(details).into()),
        ("Image:", image(details).into()),
        ("Provenance:", provenance(details).into()),
        (
            "Launched by:",
            details.launcher.clone().unwrap_or_default().into(),
        ),
        (
            "Proxy process:",
            details
                .proxy_pid
                .map(|pid| pid.to_string())
                .unwrap_or_default()
                .into(),
        ),
        ("Proxy log:", details.proxy_log.display().to_string().into()),
    ];
    let rows: Vec<_> = lines
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(label, value)| vec![Cell::from(label), value])
        .collect();
    layout(&rows, colours)
}

/// Nothing is said of a remote server: its network is elsewhere.
fn network(details: &WorkloadReport) -> &'static str {
    match (details.workload.remote, details.network_isolated) {
        (true, _) => "",
        (false, true) => "isolated",
        (false, false) => "not isolated",
    }
}

/// Which image each start deploys.
fn image(details: &WorkloadReport) -> String {
    let Some(image) = &details.workload.thv.image else {
        return String::new();
    };
    match (image.digest.as_str(), image.id.as_str()) {
        ("", "") => String::new(),
        ("", id) => format!("{id} (built here)"),
        (digest, _) => digest.to_owned(),
    }
}

/// Who made it, as far as that was found out. What a certificate says is shown without what a terminal would obey.
fn provenance(details: &WorkloadReport) -> String {
    let image = details.workload.thv.image.as_ref();
    let Some(provenance) = image.and_then(|image| image.provenance.as_ref()) else {
        return String::new();
    };
    let at = times::short(&provenance.checked_at);
    let said = match (provenance.verdict, &provenance.signer) {
        (ProvenanceVerdict::Verified, Some(signer)) => {
            let of = if signer.identity.starts_with('/') {
                signer.repository.as_str()
            } else {
                ""
            };
            format!("verified {at}, signed by {of}{}", signer.identity)
        }
        (ProvenanceVerdict::Verified, None) => format!("verified {at}"),
        (ProvenanceVerdict::Unsigned, _) => format!("not verified {at}: it is not signed"),
        (ProvenanceVerdict::Undeclared, _) => {
            format!("not verified {at}: nobody says who should have signed it")
        }
        (_, _) => format!("not verified {at}: {}", provenance.detail),
    };
    visible(&said)
}

/// ToolHive's keys in its order, then ours.
fn object(details: &WorkloadReport, uptime: &str) -> Json {
    let workload = &details.workload;
    let secrets = &workload.thv;
    let mut thv = json::Object::default()
        .with("desired_running", details.desired_running)
        .with("network_isolated", details.network_isolated)
        .with_text(
            "runtime",
            details.runtime.as_ref().map_or("", |kind| kind.as_str()),
        )
        .with_text("launcher", details.launcher.as_deref().unwrap_or_default())
        .with("proxy_pid", i64::from(details.proxy_pid.unwrap_or(0)))
        .with("proxy_log", details.proxy_log.display().to_string());
    if let Some(image) = &workload.thv.image {
        let text = thv::core::gojson::to_string(image).unwrap_or_default();
        thv = thv.with("image", Json::parse(text.as_bytes()).unwrap_or_default());
    }
    if !secrets.old_secrets.is_empty() {
        let names = secrets.old_secrets.iter().map(|name| Json::from(name.as_str()));
        thv = thv.with("old_secrets", names.collect::<Json>());
    }
    if secrets.secrets_may_be_old {
        thv = thv.with("secrets_may_be_old", true);
    }
    json::Object::default()
        .with("name", workload.name.as_str())
        .with("status", workload.status.as_str())
        .with_text("health", health(workload.status))
        .with("package", workload.package.as_str())
        .with("url", workload.url.as_str())
        .with("port", i64::from(workload.port))
        .with(
            "transport",
            workload.transport_type.map_or("", TransportType::as_str),
        )
        .with_text("proxy_mode", workload.proxy_mode.map_or("", ProxyMode::as_str))
        .with_text("group", &workload.group)
        .with_text("uptime", uptime)
        .with_text("status_context", &workload.status_context)
        .with("thv", thv)
        .into()
}

/// Of what does not run there is no health to speak of.
fn is_down(status: WorkloadStatus) -> bool {
    use WorkloadStatus as S;
    matches!(status, S::Stopped | S::Error | S::Removing | S::PolicyStopped)
}

/// In ToolHive's words.
fn health(status: WorkloadStatus) -> &'static str {
    match status {
        WorkloadStatus::Running => "healthy",
        WorkloadStatus::Starting | WorkloadStatus::Unknown => "unknown",
        WorkloadStatus::Unauthenticated => "unauthenticated",
        WorkloadStatus::AuthRetrying => "degraded",
        WorkloadStatus::Unhealthy
        | WorkloadStatus::Stopped
        | WorkloadStatus::Error
        | WorkloadStatus::Stopping
        | WorkloadStatus::Removing
        | WorkloadStatus::PolicyStopped => "unhealthy",
    }
}

fn uptime(details: &WorkloadReport, now: Timestamp) -> String {
    let workload = &details.workload;
    if workload.status != WorkloadStatus::Running || workload.started_at.is_zero() {
        return String::new();
    }
    times::uptime(&workload.started_at, now)
}
