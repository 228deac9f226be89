//! Errors for people.

use std::error::Error;

use thv::core::Json;

use super::hints;
use super::json::Object;

/// The message and its causes on one line, with what helps; a cause that the message says already is left out.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = hints::said(error);
    let mut hints: Vec<_> = hints::of(error).into_iter().collect();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = hints::said(error);
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        hints.extend(hints::of(error));
        cause = error.source();
    }
    for hint in hints {
        text.push_str("; ");
        text.push_str(&hint);
    }
    with_remedy(text)
}

/// What failed, with what to do where that is known by the words alone; what a proxy met is a text by then.
pub(crate) fn with_remedy(mut text: String) -> String {
    let remedies: Vec<_> = hints::of_text(&text).collect();
    for remedy in remedies {
        text.push_str("; ");
        text.push_str(remedy);
    }
    text
}

/// What the manager said, with the last lines of a server that failed.
pub(crate) fn report(error: &thv::manager::Error) -> String {
    let mut text = chain(error);
    if let thv::manager::Error::StartFailed { last_lines, .. } = error
        && !last_lines.is_empty()
    {
        text.push_str("\n  its last lines:");
        for line in last_lines {
            text.push_str("\n    ");
            text.extend(line.chars().map(|c| if c == '\t' { c } else { super::shown(c) }));
        }
    }
    text
}

/// The line for one workload of several: its name stands in it once.
pub(crate) fn of_workload(name: &str, error: &thv::manager::Error) -> String {
    let text = report(error);
    if text.contains(&format!("\"{name}\"")) {
        format!("Error: {text}")
    } else {
        format!("Error: {name}: {text}")
    }
}

/// The warning for one workload of several that is not ours to touch.
pub(crate) fn left_out(name: &str, error: &thv::manager::Error) -> String {
    let text = chain(error);
    if text.contains(&format!("\"{name}\"")) {
        format!("Warning: left out: {text}")
    } else {
        format!("Warning: \"{name}\" is left out: {text}")
    }
}

/// What went wrong, for programs.
pub(crate) fn object(error: &thv::manager::Error) -> Json {
    Object::default()
        .with("code", error.code())
        .with("message", chain(error))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_shell_or_of_a_mount_is_named() {
        let error = |errno: rustix::io::Errno| thv::manager::Error::Io {
            action: "read it".into(),
            source: errno.into(),
        };
        for (errno, named) in [
            (rustix::io::Errno::MFILE, "ulimit -n"),
            (rustix::io::Errno::FBIG, "ulimit -f"),
            (rustix::io::Errno::ROFS, "mount it writable"),
        ] {
            assert!(chain(&error(errno)).contains(named), "{errno:?}");
        }
        assert!(!chain(&error(rustix::io::Errno::NOSPC)).contains("ulimit"));
    }

    #[test]
    fn a_name_stands_once_in_a_line() {
        let error = thv::manager::Error::AnotherInstallation {
            name: "fetch".into(),
            detail: "its instance is fetch-1".into(),
        };
        for line in [left_out("fetch", &error), of_workload("fetch", &error)] {
            assert_eq!(line.matches("\"fetch\"").count(), 1, "{line}");
        }
        let other = thv::manager::Error::PortTaken {
            port: 1,
            holder: "nobody".into(),
        };
        assert!(left_out("fetch", &other).contains("\"fetch\" is left out"));
    }
}
