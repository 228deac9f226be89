//! Arguments in forms that Go's flags have, and clap has not.
//!
//! - Switches with a value: `--all=true` is `--all`, and `--all=false` is as if nobody had said it.
//! - Values that begin with a minus: `--session-ttl -1s` is `--session-ttl=-1s`, so that it is told what is wrong with the
//!   value. No option is called by a digit.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, Command};

/// The arguments as `command` reads them. What is behind `--` is the server's.
pub(super) fn plain(args: impl IntoIterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let (mut at, mut is_servers) = (command, false);
    let mut args = args.into_iter().peekable();
    let mut plain: Vec<_> = args.next().into_iter().collect();
    while let Some(mut arg) = args.next() {
        is_servers |= arg == "--";
        let Some(text) = arg.to_str().filter(|_| !is_servers) else {
            plain.push(arg);
            continue;
        };
        at = at.find_subcommand(text).unwrap_or(at);
        if let Some((name, on)) = told(text)
            && let Some(action) = switch(at, name).or_else(|| switch(command, name))
        {
            match action {
                ArgAction::SetTrue => plain.extend(on.then(|| name.into())),
                _ => plain.push(format!("{name}={on}").into()),
            }
            continue;
        }
        let takes = option(at, text).is_some_and(takes_the_next);
        if let Some(value) = args.next_if(|next| takes && is_negative(next)) {
            arg.push("=");
            arg.push(value);
        }
        plain.push(arg);
    }
    plain
}

/// What somebody meant by a value that stands behind its option and not behind an equals sign, where that alone gives it one:
/// `--wait=3s` by `--wait 3s`.
pub(super) fn with_equals(args: &[OsString], command: &Command) -> Option<String> {
    let mut at = command;
    let own = args.iter().take_while(|arg| *arg != "--");
    let texts: Vec<_> = own.filter_map(|arg| arg.to_str()).collect();
    texts.windows(2).find_map(|pair| {
        let [name, value] = pair else { return None };
        at = at.find_subcommand(name).unwrap_or(at);
        let begins = value.starts_with(|c: char| c.is_ascii_digit());
        let takes = option(at, name).is_some_and(Arg::is_require_equals_set);
        (begins && takes).then(|| format!("{name}={value}"))
    })
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
fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
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

fn takes_the_next(option: &Arg) -> bool {
    option.get_action().takes_values() && !option.is_require_equals_set()
}

fn is_negative(value: &OsStr) -> bool {
    let number = value.to_str().and_then(|text| text.strip_prefix('-'));
    number.is_some_and(|number| {
        number
            .trim_start_matches('.')
            .starts_with(|c: char| c.is_ascii_digit())
    })
}
