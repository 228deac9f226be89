//! Values that begin with a minus: `--session-ttl -1s` is read as `--session-ttl=-1s`, so that it is told what is wrong with
//! the value. No option is called by a digit.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

use super::switches::option;

/// The arguments, where a number or duration below nothing is one with the option that it is the value of. What is behind
/// `--` is the server's.
pub(super) fn joined(args: Vec<OsString>, command: &Command) -> Vec<OsString> {
    let (mut at, mut is_servers) = (command, false);
    let mut args = args.into_iter().peekable();
    let mut joined = Vec::new();
    while let Some(mut arg) = args.next() {
        is_servers |= arg == "--";
        if let Some(text) = arg.to_str().filter(|_| !is_servers) {
            at = at.find_subcommand(text).unwrap_or(at);
            let takes = option(at, text).is_some_and(takes_the_next);
            if let Some(value) = args.next_if(|next| takes && is_negative(next)) {
                arg.push("=");
                arg.push(value);
            }
        }
        joined.push(arg);
    }
    joined
}

fn takes_the_next(option: &Arg) -> bool {
    option.get_action().takes_values() && !option.is_require_equals_set()
}

fn is_negative(value: &OsStr) -> bool {
    let digits = value.to_str().and_then(|text| text.strip_prefix('-'));
    digits.is_some_and(|digits| {
        digits
            .trim_start_matches('.')
            .starts_with(|c: char| c.is_ascii_digit())
    })
}
