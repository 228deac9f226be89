//! `thv runtime list` and `thv runtime check`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use thv::core::Json;
use thv::runtime::{About, Capabilities, RuntimeKind, Runtimes};

use super::{Done, Failure, manager};
use crate::cli::{Format, RuntimeCommand};
use crate::output::table::{Cell, layout};
use crate::output::{self, json, progress};

pub(super) async fn run(command: &RuntimeCommand) -> Done {
    match command {
        RuntimeCommand::List { timeout, format } => list(Duration::from_secs(*timeout), *format).await,
        RuntimeCommand::Check {
            timeout,
            runtime,
            format,
        } => check(*timeout, runtime.as_deref(), *format).await,
    }
}

async fn check(timeout: u64, runtime: Option<&str>, format: Format) -> Done {
    let manager = manager()?;
    let runtimes = manager.runtimes();
    let kind = match runtime {
        Some(kind) => RuntimeKind::new(kind),
        None => runtimes
            .default_kind()
            .cloned()
            .ok_or_else(|| Failure::new("no runtime is configured"))?,
    };
    let asked = runtimes.get(&kind).map_err(thv::manager::Error::from)?;
    let answer = tokio::time::timeout(Duration::from_secs(timeout), asked.about());
    let about = match progress::during("asking the runtime", answer).await {
        Ok(Ok(about)) => about,
        Ok(Err(error)) => return Err(thv::manager::Error::from(error).into()),
        Err(_) => {
            return Err(Failure::new(format!(
                "runtime \"{kind}\" did not answer within {timeout} s"
            )));
        }
    };
    match format {
        Format::Text if asked.images().is_some() => output::print("Container runtime is responsive\n")?,
        Format::Text => output::print(&format!("Runtime {kind} is responsive\n"))?,
        Format::Json => {
            let answer = json::Object::default()
                .with("runtime", kind.as_str())
                .with("responsive", true);
            json::print(&described(answer, &about).into())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known of one runtime.
struct Row {
    kind: RuntimeKind,
    is_default: bool,
    /// Why it is the default; empty if it is not.
    because: String,
    about: Result<About, String>,
    can: Capabilities,
}

async fn list(timeout: Duration, format: Format) -> Done {
    let manager = manager()?;
    let runtimes = manager.runtimes();
    let default = runtimes.default_kind();
    let asking = runtimes.kinds().map(async |kind| {
        let runtime = runtimes.get(kind).map_err(thv::manager::Error::from)?;
        let about = match tokio::time::timeout(timeout, runtime.about()).await {
            Ok(Ok(about)) => Ok(about),
            Ok(Err(error)) => Err(output::error::chain(&error)),
            Err(_) => Err(format!("it did not answer within {} s", timeout.as_secs())),
        };
        Ok::<_, thv::manager::Error>(Row {
            kind: kind.clone(),
            is_default: default == Some(kind),
            because: if default == Some(kind) {
                because(runtimes, kind)
            } else {
                String::new()
            },
            about,
            can: runtime.capabilities(),
        })
    });
    let rows = progress::during("asking the runtimes", futures_util::future::try_join_all(asking)).await?;
    match format {
        Format::Json => json::print(
            &rows
                .iter()
                .map(|row| Json::from(row.described()))
                .collect::<Json>(),
        )?,
        Format::Text => output::print(&table(&rows))?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Row {
    fn described(&self) -> json::Object {
        let object = json::Object::default()
            .with("runtime", self.kind.as_str())
            .with("default", self.is_default)
            .with_text("default_because", &self.because)
            .with("responsive", self.about.is_ok());
        let object = match &self.about {
            Ok(about) => described(object, about),
            Err(why) => object.with_text("error", why),
        };
        object
            .with("network_isolation", self.can.network_isolation)
            .with_text(
                "isolation_lacks",
                self.can.isolation_lacks.as_deref().unwrap_or_default(),
            )
    }
}

/// Why this is the one that is used when nothing else is said.
fn because(runtimes: &Runtimes, kind: &RuntimeKind) -> String {
    if runtimes.default_is_named() {
        return "TOOLHIVE_RUNTIME names it".to_owned();
    }
    let priority = runtimes.priority(kind).unwrap_or_default();
    format!("no other one goes before its priority {priority}")
}

fn described(object: json::Object, about: &About) -> json::Object {
    object
        .with_text("product", &about.product)
        .with_text("version", &about.version)
        .with_text("api_version", &about.api_version)
        .with_text("place", &about.place)
        .with_text("chosen_by", &about.chosen_by)
}

fn table(rows: &[Row]) -> String {
    let heads = ["RUNTIME", "DEFAULT", "STATE", "ENGINE", "PLACE", "CHOSEN BY"];
    let mut cells = vec![heads.map(Cell::from).to_vec()];
    for row in rows {
        let nothing = About::default();
        let (state, about) = match &row.about {
            Ok(about) => ("responsive", about),
            Err(_) => ("away", &nothing),
        };
        let engine = format!("{} {}", about.product, about.version);
        cells.push(vec![
            row.kind.as_str().into(),
            if row.is_default { "yes" } else { "" }.into(),
            state.into(),
            engine.trim().into(),
            about.place.clone().into(),
            about.chosen_by.clone().into(),
        ]);
    }
    let mut text = layout(&cells, output::has_colours());
    for row in rows.iter().filter(|row| row.is_default) {
        let _ = writeln!(text, "{} is the default: {}", row.kind, row.because);
    }
    for row in rows {
        if let Err(why) = &row.about {
            let _ = writeln!(text, "{} is away: {why}", row.kind);
        }
    }
    text
}
