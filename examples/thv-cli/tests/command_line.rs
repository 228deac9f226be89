//! What a user of the command line sees, without a workload being touched: help texts, refusals, exit codes.

use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};

fn thv(args: &[&str]) -> Output {
    thv_to(args, Stdio::piped())
}

fn thv_to(args: &[&str], stdout: impl Into<Stdio>) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Command::new(env!("CARGO_BIN_EXE_thv"))
        .args(args)
        .stdout(stdout)
        .env_clear()
        .env("HOME", folder.path())
        // No engine: the host's has containers of its own.
        .env(
            "DOCKER_HOST",
            format!("unix://{}/engine.sock", folder.path().display()),
        )
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
        "group",
        "logs",
        "events",
        "export",
        "reconcile",
        "registry",
        "search",
        "config",
        "runtime",
        "secret",
        "upgrade",
        "version",
    ] {
        insta::assert_snapshot!(format!("help_{verb}"), shown(&[verb, "--help"]));
    }
}

#[test]
fn an_upgrade_of_nothing_says_so() {
    assert_eq!(shown(&["upgrade", "check"]), "No MCP servers found\n");
    assert_eq!(shown(&["upgrade", "check", "--format", "json"]), "[]\n");
    assert_eq!(
        shown(&["upgrade", "check", "--exit-code"]),
        "No MCP servers found\n"
    );
    assert_eq!(
        shown(&["upgrade", "apply", "--all"]),
        "Everything is up to date.\n"
    );
    assert_eq!(shown(&["list", "--check-upgrades", "--format", "json"]), "[]\n");
    for verb in ["check", "apply"] {
        assert_eq!(
            refused(&["upgrade", verb, "x"]),
            "Error: workload \"x\" not found\n"
        );
    }
    assert!(refused(&["list", "--check-upgrades", "--format", "mcpservers"]).contains("mcpservers"));
    assert!(refused(&["upgrade", "apply"]).contains("--all"));
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
fn version_as_text_says_only_what_is_known() {
    let text = shown(&["version"]);
    assert!(text.contains("Compiler: rustc 1."), "{text}");
    assert!(text.contains("Platform: linux/"), "{text}");
    assert!(!text.contains("unknown"), "{text}");
}

#[test]
fn the_version_is_a_flag_as_well() {
    let text = format!("thv {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(shown(&["--version"]), text);
    assert!(shown(&["version"]).starts_with(&text));
}

#[test]
fn what_cannot_be_written_is_a_failure_and_a_reader_that_has_gone_is_none() {
    for args in [
        &["help"][..],
        &["help", "run"],
        &["run", "--help"],
        &["--version"],
        &["version"],
        &["group"],
        &[],
        &["list"],
        &["list", "--format", "json"],
        &["completion", "bash"],
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux");
        let output = thv_to(args, full);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("cannot write: No space left"), "{args:?}: {said}");
        let (reader, gone) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(thv_to(args, gone).status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn help_that_nobody_asked_for_is_on_standard_output_too() {
    assert_eq!(shown(&[]), shown(&["--help"]));
    assert!(shown(&["runtime"]).contains("check"));
}

#[test]
fn a_verb_without_a_name_shows_what_may_stand_for_one() {
    for verb in ["start", "restart", "stop", "rm"] {
        let text = refused(&[verb]);
        for part in ["--all", "--group <GROUP>"] {
            assert!(text.contains(&format!("thv {verb} [OPTIONS] {part}")), "{text}");
        }
    }
}

#[test]
fn a_home_that_is_missing_is_said_with_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_thv"))
        .arg("list")
        .env_clear()
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "Error: invalid environment: HOME is not set, or is no absolute path: set it to the folder that holds your files\n"
    );
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
    let rule = refused(&["run", "--allowed-origins=garbage", "exec:///bin/true"]);
    assert!(rule.contains("scheme://host"), "{rule}");
    assert!(refused(&["run", "uvx://mcp-server-time"]).contains("--runtime local"));
    assert!(refused(&["run", "--isolate-network", "exec:///bin/true"]).contains("isolat"));
    let no_image = refused(&["run", "--image-verification=enabled", "exec:///bin/true"]);
    assert!(no_image.contains("there is no image"), "{no_image}");
    let policy = refused(&["run", "--image-verification=maybe", "mcp/time"]);
    assert!(policy.contains("warn, enabled, disabled"), "{policy}");
}

/// Every flag of ToolHive's `run` that has no effect here, with a value that asks for one.
const NOT_BUILT: &[&str] = &[
    "--authz-config=a.json",
    "--audit-config=a.json",
    "--enable-audit",
    "--runtime-image=alpine",
    "--runtime-add-package=git",
    "--build-with=a",
    "--jwks-auth-token-file=a",
    "--jwks-allow-private-ip",
    "--oidc-insecure-allow-http",
    "--remote-forward-headers-secret=A=b",
    "--resource-url=https://a.example",
    "--otel-endpoint=localhost:4317",
    "--otel-service-name=a",
    "--otel-custom-attributes=a=b",
    "--otel-tracing-enabled=false",
    "--otel-metrics-enabled=false",
    "--otel-use-legacy-attributes=false",
    "--otel-sampling-rate=0.5",
    "--otel-headers=a=b",
    "--otel-env-vars=A",
    "--otel-insecure",
    "--otel-enable-prometheus-metrics-path",
    "--webhook-config=a.json",
    "--k8s-pod-patch={}",
    "--oidc-issuer=https://a.example",
    "--oidc-audience=a",
    "--oidc-jwks-url=https://a.example",
    "--oidc-introspection-url=https://a.example",
    "--oidc-client-id=a",
    "--oidc-client-secret=a",
    "--oidc-scopes=a",
    "--remote-auth",
    "--remote-auth-issuer=https://a.example",
    "--remote-auth-client-id=a",
    "--remote-auth-client-secret=a",
    "--remote-auth-client-secret-file=a",
    "--remote-auth-authorize-url=https://a.example",
    "--remote-auth-token-url=https://a.example",
    "--remote-auth-resource=a",
    "--remote-auth-bearer-token=a",
    "--remote-auth-bearer-token-file=a",
    "--remote-auth-scope-param-name=a",
    "--remote-auth-scopes=a",
    "--remote-auth-skip-browser",
    "--remote-auth-timeout=31s",
    "--remote-auth-callback-port=8667",
    "--token-exchange-url=https://a.example",
    "--token-exchange-client-id=a",
    "--token-exchange-client-secret=a",
    "--token-exchange-client-secret-file=a",
    "--token-exchange-audience=a",
    "--token-exchange-scopes=a",
    "--token-exchange-subject-token-type=a",
    "--token-exchange-header-name=a",
];

#[test]
fn every_flag_that_is_not_built_is_refused_by_name() {
    for flag in NOT_BUILT {
        let name = flag.split('=').next().unwrap_or(flag);
        let text = refused(&["run", flag, "exec:///bin/true"]);
        assert_eq!(text, format!("Error: {name} is not built yet: leave it out\n"));
    }
}

#[test]
fn a_command_that_is_not_built_is_refused_by_name() {
    assert_eq!(
        refused(&["client", "setup", "--all"]),
        "Error: thv client is not built yet\n"
    );
    assert!(!shown(&["--help"]).contains("client"));
    assert!(refused(&["serv"]).contains("unrecognized"));
}

#[test]
fn a_configuration_without_end_is_not_read_to_it() {
    let text = refused(&["run", "--from-config=/dev/zero"]);
    assert!(text.contains("/dev/zero is not a run configuration"), "{text}");
    assert!(text.contains("more than the"), "{text}");
}

#[test]
fn wrong_usage_exits_with_1() {
    assert!(refused(&["nonsense"]).contains("nonsense"));
    assert!(refused(&["run"]).contains("required"));
}
