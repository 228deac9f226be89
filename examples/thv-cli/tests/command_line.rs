//! What a user of the command line sees, without a workload being touched: help texts, refusals, exit codes.

use std::process::{Command, Output};

fn thv(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Command::new(env!("CARGO_BIN_EXE_thv"))
        .args(args)
        .env_clear()
        .env("HOME", folder.path())
        .env("COLUMNS", "100")
        .output()
        .expect("the program runs")
}

/// Standard output of a call that succeeds.
fn shown(args: &[&str]) -> String {
    let output = thv(args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Standard error of a call that fails, always with 1.
fn refused(args: &[&str]) -> String {
    let output = thv(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn help_texts() {
    insta::assert_snapshot!("help", shown(&["--help"]));
    for verb in [
        "run",
        "list",
        "status",
        "stop",
        "start",
        "restart",
        "rm",
        "logs",
        "export",
        "reconcile",
        "runtime",
        "version",
    ] {
        insta::assert_snapshot!(format!("help_{verb}"), shown(&[verb, "--help"]));
    }
}

#[test]
fn a_list_of_nothing_says_so_and_as_json_is_an_empty_array() {
    assert_eq!(shown(&["list", "--all"]), "No MCP servers found\n");
    assert_eq!(shown(&["ls", "--format", "json"]), "[]\n");
    assert_eq!(
        shown(&["list", "--format", "mcpservers"]),
        "{\n  \"mcpServers\": {}\n}\n"
    );
}

#[test]
fn version_as_json_has_toolhives_keys_and_no_newline() {
    let text = shown(&["version", "--json"]);
    assert!(
        text.starts_with("{\n  \"version\": \"") && text.ends_with('}'),
        "{text}"
    );
    for key in ["commit", "build_date", "go_version", "platform"] {
        assert!(text.contains(&format!("\"{key}\": ")), "{key}");
    }
}

#[test]
fn a_completion_script_knows_the_verbs() {
    assert!(shown(&["completion", "bash"]).contains("reconcile"));
}

#[test]
fn unknown_names_and_bad_names_are_errors_with_exit_code_1() {
    for verb in [&["status", "x"][..], &["start", "x"], &["logs", "x"]] {
        assert_eq!(refused(verb), "Error: workload \"x\" not found\n", "{verb:?}");
    }
    for name in ["../x", "a b", ".x", &"a".repeat(101)] {
        assert!(refused(&["status", name]).contains("a name "), "{name}");
    }
}

#[test]
fn removing_what_is_not_there_succeeds() {
    assert_eq!(shown(&["rm", "missing"]), "");
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    assert_eq!(
        refused(&["run", "--audit-config", "a.json", "mcp/time"]),
        "Error: --audit-config is not built yet: leave it out\n"
    );
    assert!(refused(&["run", "uvx://mcp-server-time"]).contains("--runtime local"));
    assert!(refused(&["run", "--isolate-network", "exec:///bin/true"]).contains("isolat"));
}

#[test]
fn wrong_usage_exits_with_1() {
    assert!(refused(&["nonsense"]).contains("nonsense"));
    assert!(refused(&["run"]).contains("required"));
}
