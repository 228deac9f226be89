//! Switches with a value, as Go's flags have them: `--all=true` is `--all`, and `--all=false` is as if nobody had said it.

use std::any::TypeId;
use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// The arguments with switches as `command` reads them. What is behind `--` is the server's.
pub(super) fn plain(args: impl IntoIterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let (mut at, mut is_servers) = (command, false);
    let mut args = args.into_iter();
    let mut plain: Vec<_> = args.next().into_iter().collect();
    plain.extend(args.filter_map(|arg| {
        is_servers |= arg == "--";
        let Some(text) = arg.to_str().filter(|_| !is_servers) else {
            return Some(arg);
        };
        at = at.find_subcommand(text).unwrap_or(at);
        let Some((name, on)) = told(text) else {
            return Some(arg);
        };
        match switch(at, name).or_else(|| switch(command, name)) {
            None => Some(arg),
            Some(ArgAction::SetTrue) => on.then(|| name.into()),
            Some(_) => Some(format!("{name}={on}").into()),
        }
    }));
    plain
}

/// A name and what is said of it, in every word that Go takes for it.
fn told(text: &str) -> Option<(&str, bool)> {
    let (name, value) = text.split_once('=')?;
    let on = match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => return None,
    };
    Some((name, on))
}

/// The option of this command that is called `name`, dashes included.
pub(super) fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|arg| match (name.strip_prefix("--"), name.strip_prefix('-')) {
            (Some(long), _) => arg.get_long() == Some(long),
            (None, Some(short)) => arg.get_short().is_some_and(|own| short.chars().eq([own])),
            (None, None) => false,
        })
}

/// How the command reads this switch, if it is one.
fn switch<'a>(command: &'a Command, name: &str) -> Option<&'a ArgAction> {
    let arg = option(command, name)?;
    let is_bool = arg.get_value_parser().type_id() == TypeId::of::<bool>();
    is_bool.then(|| arg.get_action())
}
