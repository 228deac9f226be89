//! The names that stand for something on this machine.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Arg, Command};
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use thv::core::{Dirs, Env, WorkloadName};

use crate::commands::registry::registry;

/// Nobody looks through more, and a folder that others fill must not take long.
const MOST: usize = 10_000;

/// Arguments that are names of workloads, each behind its commands.
const WORKLOADS: [(&[&str], &str); 11] = [
    (&["status"], "name"),
    (&["stop"], "names"),
    (&["start"], "name"),
    (&["restart"], "name"),
    (&["rm"], "names"),
    (&["logs"], "name"),
    (&["events"], "names"),
    (&["export"], "name"),
    (&["group", "move"], "names"),
    (&["upgrade", "check"], "name"),
    (&["upgrade", "apply"], "name"),
];

/// Arguments that are names of groups.
const GROUPS: [(&[&str], &str); 8] = [
    (&["run"], "group"),
    (&["list"], "group"),
    (&["stop"], "group"),
    (&["start"], "group"),
    (&["restart"], "group"),
    (&["rm"], "group"),
    (&["group", "rm"], "name"),
    (&["group", "move"], "to"),
];

/// Arguments that are names of servers in the registry.
const SERVERS: [(&[&str], &str); 2] = [(&["run"], "server"), (&["registry", "info"], "server")];

/// The command, with what can be said for its arguments to bash, or to a shell that quotes by itself.
pub(super) fn add(mut command: Command, in_bash: bool) -> Command {
    for (path, arg) in WORKLOADS {
        command = on(command, path, arg, &|arg| {
            arg.add(ArgValueCandidates::new(workloads))
        });
    }
    for (path, arg) in GROUPS {
        command = on(command, path, arg, &|arg| {
            arg.add(ArgValueCandidates::new(move || groups(in_bash)))
        });
    }
    for (path, arg) in SERVERS {
        command = on(command, path, arg, &|arg| {
            arg.add(ArgValueCandidates::new(servers))
        });
    }
    // An argument that is changed goes behind the others, and positional ones are counted.
    on(command, &["run"], "args", &|arg| arg)
}

fn on(command: Command, path: &[&str], arg: &str, change: &dyn Fn(Arg) -> Arg) -> Command {
    match path {
        [first, rest @ ..] => command.mut_subcommand(*first, |next| on(next, rest, arg, change)),
        [] => command.mut_arg(arg, change),
    }
}

/// Those that have a configuration or a status, read or not: what a plain look at two folders tells.
fn workloads() -> Vec<CompletionCandidate> {
    let Some(dirs) = dirs() else { return Vec::new() };
    let folders = [dirs.runconfigs(), dirs.statuses()];
    let names = folders.iter().flat_map(|folder| documents(folder));
    // Names of old files that no workload can have would not be understood.
    candidates(names.filter(|name| WorkloadName::new(name.as_str()).is_ok()))
}

fn groups(in_bash: bool) -> Vec<CompletionCandidate> {
    let Some(dirs) = dirs() else { return Vec::new() };
    let hidden = |name: &String| name.starts_with("__");
    let names = documents(&dirs.groups()).filter(|name| !hidden(name));
    // bash puts there what it is given, and a space would begin another word.
    let on_the_line = |name: String| if in_bash { name.replace(' ', "\\ ") } else { name };
    candidates(names.chain(["default".to_owned()]).map(on_the_line))
}

/// Full names, and last parts that mean one server. A registry elsewhere is not asked: what it said last is offered.
fn servers() -> Vec<CompletionCandidate> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let (Ok(runtime), Ok(registry)) = (runtime, registry()) else {
        return Vec::new();
    };
    let Some(catalogue) = runtime.block_on(registry.kept()) else {
        return Vec::new();
    };
    let names = catalogue.entries().take(MOST).flat_map(|entry| {
        let name = entry.name();
        let last = name.rsplit_once('/').map(|(_, last)| last);
        [Some(name), last.filter(|last| catalogue.get(last).is_ok())]
    });
    candidates(names.flatten().map(str::to_owned))
}

fn dirs() -> Option<Dirs> {
    Dirs::from_env(&Env::from_vars(std::env::vars_os())).ok()
}

/// The names of the documents in a folder.
fn documents(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.take(MOST).flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let name = name.strip_suffix(".json")?;
        let is_one = !name.starts_with('.') && !name.chars().any(char::is_control);
        is_one.then(|| name.to_owned())
    })
}

fn candidates(names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let sorted: BTreeSet<_> = names.collect();
    sorted.into_iter().map(CompletionCandidate::new).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    /// Arguments that are called like one, and stand for something else.
    const OTHERS: [&str; 8] = [
        "run name",
        "group create name",
        "registry info name",
        "secret set name",
        "secret get name",
        "secret delete name",
        "config set name",
        "config get name",
    ];

    fn named(command: &Command, path: &str, found: &mut Vec<String>) {
        for arg in command.get_arguments() {
            if matches!(arg.get_id().as_str(), "name" | "names" | "group" | "to") {
                found.push(format!("{path}{}", arg.get_id()));
            }
        }
        for next in command.get_subcommands() {
            named(next, &format!("{path}{} ", next.get_name()), found);
        }
    }

    #[test]
    fn every_argument_that_is_a_name_is_completed() {
        let table = WORKLOADS.iter().chain(&GROUPS);
        let known: Vec<_> = table
            .map(|(path, arg)| format!("{} {arg}", path.join(" ")))
            .collect();
        let mut found = Vec::new();
        named(&Cli::command(), "", &mut found);
        found.retain(|arg| !known.contains(arg) && !OTHERS.contains(&arg.as_str()));
        assert_eq!(found, [""; 0]);
        add(Cli::command(), true).debug_assert();
    }
}
