//! `thv events`.

use std::pin::pin;
use std::process::ExitCode;

use futures_util::StreamExt as _;
use jiff::{Timestamp, ZonedDateTime};
use thv::core::{Json, WorkloadName};
use thv::manager::{WatchEvent, WatchFrom, Watched};
use thv::process::output::reader_has_gone;

use super::{Done, Failure, manager};
use crate::cli::{EventsArgs, Format};
use crate::output::{self, json};

pub(super) async fn run(args: &EventsArgs) -> Done {
    let names = args.names.iter().map(WorkloadName::new);
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let from = if args.initial {
        WatchFrom::Beginning
    } else {
        WatchFrom::Now
    };
    let manager = manager()?;
    let mut watch = manager.watch(from).await?;
    let mut reader_has_gone = pin!(reader_has_gone(std::io::stdout()));
    loop {
        let next = tokio::select! {
            next = watch.next() => next,
            () = &mut reader_has_gone => return Ok(ExitCode::SUCCESS),
        };
        let Some(watched) = next else { break };
        let name = match &watched.event {
            WatchEvent::Changed(state) => Some(&state.name),
            WatchEvent::Removed(name) => Some(name),
            _ => None,
        };
        if name.is_some_and(|name| !names.is_empty() && !names.contains(name)) {
            continue;
        }
        let line = match args.format {
            Format::Text => text(&watched.event, &ZonedDateTime::now()),
            Format::Json => json::line(&object(&watched, Timestamp::now()))?,
        };
        if !line.is_empty() && !output::print_some(line.as_bytes())? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(Failure::new("changes are not heard any more"))
}

/// One line; nothing of what only programs need to know.
fn text(event: &WatchEvent, now: &ZonedDateTime) -> String {
    let what = match event {
        WatchEvent::Changed(state) if state.context.is_empty() => format!("{}  {}", state.name, state.status),
        WatchEvent::Changed(state) => format!("{}  {}  {}", state.name, state.status, state.context),
        WatchEvent::Removed(name) => format!("{name}  removed"),
        WatchEvent::Gap => "changes were missed; what there is now follows".to_owned(),
        _ => return String::new(),
    };
    let line: String = what.chars().map(crate::output::shown).collect();
    format!("{}  {line}\n", now.strftime("%Y-%m-%d %H:%M:%S"))
}

fn object(watched: &Watched, now: Timestamp) -> Json {
    let named = |kind: &str| {
        json::Object::default()
            .with("event", kind)
            .with("time", now.to_string())
    };
    let object = match &watched.event {
        WatchEvent::Changed(state) => named("changed")
            .with("name", state.name.as_str())
            .with("status", state.status.as_str())
            .with_text("status_context", &state.context)
            .with("should_run", state.should_run),
        WatchEvent::Removed(name) => named("removed").with("name", name.as_str()),
        WatchEvent::Gap => named("gap"),
        WatchEvent::Synced => named("synced"),
        _ => named("other"),
    };
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_control_characters_and_programs_alone_hear_of_being_synced() {
        let now = ZonedDateTime::new("2026-08-21T10:12:19.5Z".parse().unwrap(), jiff::tz::TimeZone::UTC);
        let removed = WatchEvent::Removed(WorkloadName::new("fetch").unwrap());
        assert_eq!(text(&removed, &now), "2026-08-21 10:12:19  fetch  removed\n");
        assert_eq!(text(&WatchEvent::Synced, &now), "");
    }
}
