//! `thv registry` and `thv search`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use thv::core::{Env, Json};
use thv::registry::{Entry, Registry};

use super::{Done, Failure};
use crate::cli::{Format, RegistryCommand, RegistryInfoArgs, RegistryListArgs, SearchArgs};
use crate::output::table::{Cell, layout};
use crate::output::{has_colours, json, print, progress};

/// How much of a description a table shows, in characters.
const DESCRIPTION: usize = 50;

/// The registry that the configuration names.
pub(super) fn registry() -> Result<Arc<dyn Registry>, Failure> {
    Ok(thv::registry_from_env(&Env::from_vars(std::env::vars_os()))?)
}

pub(super) async fn run(command: &RegistryCommand) -> Done {
    match command {
        RegistryCommand::List(args) => list(args).await,
        RegistryCommand::Info(args) => info(args).await,
    }
}

async fn list(args: &RegistryListArgs) -> Done {
    let registry = registry()?;
    if args.refresh {
        registry.forget();
    }
    let entries = progress::during("asking the registry", registry.list()).await?;
    write(
        &entries,
        Column::Tier,
        args.format,
        "No servers found in the registry",
    )
}

pub(super) async fn search(args: &SearchArgs) -> Done {
    let registry = registry()?;
    let found = progress::during("asking the registry", registry.search(&args.query)).await?;
    let nothing = format!("No servers found matching query: {}", args.query);
    write(&found, Column::Transport, args.format, &nothing)
}

/// In what the two tables of ToolHive's differ.
#[derive(Debug, Clone, Copy)]
enum Column {
    Tier,
    Transport,
}

fn write(entries: &[Arc<Entry>], column: Column, format: Format, nothing: &str) -> Done {
    if format == Format::Json {
        json::print(&entries.iter().map(|entry| entry.to_json()).collect::<Json>())?;
    } else if entries.is_empty() {
        print(&format!("{}\n", visible(nothing)))?;
    } else {
        print(&table(entries, column, has_colours()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(entries: &[Arc<Entry>], column: Column, colours: bool) -> String {
    let head = match column {
        Column::Tier => "TIER",
        Column::Transport => "TRANSPORT",
    };
    let heads = ["NAME", "TYPE", "DESCRIPTION", head, "STARS"];
    let mut rows = vec![heads.map(Cell::from).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        let info = entry.info();
        let stars = info.metadata.as_ref().map_or(0, |metadata| metadata.stars);
        vec![
            info.name.clone().into(),
            kind(entry).into(),
            description(&info.status, &info.description).into(),
            match column {
                Column::Tier => info.tier.clone().into(),
                Column::Transport => info.transport.as_str().into(),
            },
            stars.to_string().into(),
        ]
    }));
    layout(&rows, colours)
}

fn kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::Image(_) => "container",
        Entry::Remote(_) => "remote",
    }
}

fn description(status: &str, text: &str) -> String {
    let text = match status {
        "Deprecated" => format!("**DEPRECATED** {text}"),
        _ => text.to_owned(),
    };
    if text.chars().count() <= DESCRIPTION {
        return text;
    }
    text.chars().take(DESCRIPTION - 3).chain("...".chars()).collect()
}

async fn info(args: &RegistryInfoArgs) -> Done {
    let registry = registry()?;
    if args.refresh {
        registry.forget();
    }
    let entry = progress::during("asking the registry", registry.get(&args.server)).await?;
    match args.format {
        Format::Json => json::print(&entry.to_json())?,
        Format::Text => print(&text(&entry))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(entry: &Entry) -> String {
    let info = entry.info();
    let mut text = String::new();
    let mut line = |head: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{:<14}{}", format!("{head}:"), visible(value));
        }
    };
    line("Name", &info.name);
    line("Title", &info.title);
    line("Type", kind(entry));
    line("Description", &info.description);
    line("Tier", &info.tier);
    line("Status", &info.status);
    line("Transport", info.transport.as_str());
    match entry {
        Entry::Image(image) => {
            line("Image", &image.image);
            if image.target_port != 0 {
                line("Target port", &image.target_port.to_string());
            }
            line("Arguments", &image.args.join(" "));
            if let Some(provenance) = &image.provenance {
                line("Built from", &provenance.repository_uri);
                line("Signed by", &provenance.signer_identity);
            }
        }
        Entry::Remote(remote) => line("URL", &remote.url),
    }
    line("Repository", &info.repository_url);
    if let Some(metadata) = &info.metadata {
        line("Stars", &metadata.stars.to_string());
        line("Last updated", &metadata.last_updated);
    }
    line("Tags", &info.tags.join(", "));
    line("Tools", &info.tools.clone().unwrap_or_default().join(", "));
    if let Some(permissions) = entry.as_image().and_then(|image| image.permissions.as_ref()) {
        let _ = write!(text, "\nPermissions:\n{}", visible_lines(&permissions.to_json()));
    }
    values(&mut text, entry);
    text
}

/// The variables and headers that it reads.
fn values(text: &mut String, entry: &Entry) {
    let mut section = |head: &str, values: &mut dyn Iterator<Item = (&str, &str, bool, bool, &str)>| {
        let mut first = true;
        for (name, description, required, secret, default) in values {
            if std::mem::take(&mut first) {
                let _ = write!(text, "\n{head}:\n");
            }
            let mut marks = Vec::new();
            marks.extend(required.then(|| "required".to_owned()));
            marks.extend(secret.then(|| "secret".to_owned()));
            marks.extend((!default.is_empty()).then(|| format!("default {default}")));
            let marks = match marks.as_slice() {
                [] => String::new(),
                marks => format!(" ({})", marks.join(", ")),
            };
            let _ = writeln!(text, "  {}", visible(&format!("{name}{marks}: {description}")));
        }
    };
    let variables = entry.env_vars().iter();
    section(
        "Environment variables",
        &mut variables.map(|v| {
            (
                v.name.as_str(),
                v.description.as_str(),
                v.required,
                v.secret,
                v.default.as_str(),
            )
        }),
    );
    let headers = entry.as_remote().map_or(&[][..], |remote| &remote.headers).iter();
    section(
        "Headers",
        &mut headers.map(|h| {
            (
                h.name.as_str(),
                h.description.as_str(),
                h.required,
                h.secret,
                h.default.as_str(),
            )
        }),
    );
}

/// A foreign text on one line; it cannot speak to the terminal.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(crate::output::shown).collect()
}

fn visible_lines(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "  {}", visible(line));
        all
    })
}

#[cfg(test)]
mod tests {
    use thv::core::TransportType;
    use thv::registry::{EntryInfo, ImageEntry};

    use super::*;

    #[test]
    fn the_tables_have_toolhives_columns() {
        let info = EntryInfo {
            name: "com.example/fetch".into(),
            tier: "Community".into(),
            transport: TransportType::Sse,
            ..EntryInfo::default()
        };
        let image = ImageEntry {
            info,
            ..ImageEntry::default()
        };
        let entries = [Arc::new(Entry::Image(image))];
        assert_eq!(
            table(&entries, Column::Tier, false),
            "NAME                TYPE        DESCRIPTION   TIER        STARS\n\
             com.example/fetch   container                 Community   0\n"
        );
        assert_eq!(
            table(&entries, Column::Transport, false),
            "NAME                TYPE        DESCRIPTION   TRANSPORT   STARS\n\
             com.example/fetch   container                 sse         0\n"
        );
    }

    #[test]
    fn a_description_is_cut_between_characters() {
        let long = "ü".repeat(60);
        assert_eq!(description("Active", &long), format!("{}...", "ü".repeat(47)));
        assert_eq!(description("Deprecated", "old"), "**DEPRECATED** old");
        assert_eq!(description("deprecated", &"x".repeat(50)), "x".repeat(50));
    }
}
