//! Command lines as they are read, and refused.

use thv::core::{ProxyMode, TransportType};

use super::*;

fn read(args: &[&str]) -> Result<Cli, Refused> {
    Cli::read(["thv"].iter().chain(args).map(OsString::from))
}

#[test]
fn the_command_is_consistent() {
    Cli::full_command().debug_assert();
}

#[test]
fn a_flag_whose_effect_is_not_built_is_refused_by_name() {
    for (flag, name) in [
        ("--audit-config=a.json", "--audit-config"),
        ("--enable-audit", "--enable-audit"),
        ("--otel-tracing-enabled=false", "--otel-tracing-enabled"),
        ("--remote-auth-callback-port=9", "--remote-auth-callback-port"),
        ("--k8s-pod-patch={}", "--k8s-pod-patch"),
    ] {
        let Err(Refused::NoEffect(text)) = read(&["run", flag, "mcp/time"]) else {
            panic!("{flag}")
        };
        assert_eq!(text, format!("{name} is not built yet: leave it out"), "{flag}");
    }
}

#[test]
fn a_command_that_is_not_built_is_refused_by_name_and_not_recommended() {
    for (args, name) in [
        (&["client", "setup"][..], "thv client"),
        (&["proxy", "x", "--target-uri", "http://a"], "thv proxy"),
        (&["mcp", "--help"], "thv mcp"),
        (&["--debug", "serve", "--port", "1"], "thv serve"),
        (&["config", "otel", "get-endpoint"], "thv config otel"),
        (&["config", "set-ca-cert", "a.pem"], "thv config set-ca-cert"),
        (&["registry", "login"], "thv registry login"),
        (&["secret", "reset-keyring"], "thv secret reset-keyring"),
        (&["group", "run", "a", "--secret=b"], "thv group run"),
    ] {
        let Err(Refused::NoEffect(text)) = read(args) else {
            panic!("{args:?}")
        };
        assert_eq!(text, format!("{name} is not built yet"), "{args:?}");
    }
    for args in [&["serv"][..], &["clients"], &["registry", "logi"], &["login"]] {
        let Err(Refused::Usage(error)) = read(args) else {
            panic!("{args:?}")
        };
        let text = error.to_string();
        assert!(text.contains("unrecognized subcommand"), "{text}");
        for hidden in ["'serve'", "'client'", "'login', "] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}

#[test]
fn flags_of_other_commands_are_refused_by_name_too() {
    for (args, name) in [
        (&["secret", "list", "--system"][..], "--system"),
        (&["secret", "delete", "--system", "x"], "--system"),
        (
            &["config", "set-registry", "a.json", "--client-id=x"],
            "--client-id",
        ),
        (
            &["config", "set-registry", "a.json", "--scopes", "a,b"],
            "--scopes",
        ),
    ] {
        let Err(Refused::NoEffect(text)) = read(args) else {
            panic!("{args:?}")
        };
        assert_eq!(text, format!("{name} is not built yet: leave it out"), "{args:?}");
    }
    assert!(read(&["secret", "list", "--system=false"]).is_ok());
}

#[test]
fn switches_take_a_value_too() {
    let list = |args: &[&str]| match read(args) {
        Ok(Cli {
            command: Command::List(list),
            debug,
        }) => (list.all, list.check_upgrades, debug),
        other => panic!("{args:?}: {other:?}"),
    };
    assert_eq!(list(&["list", "--all=true"]), (true, false, false));
    assert_eq!(list(&["list", "-a=T", "--debug=true"]), (true, false, true));
    assert_eq!(list(&["--debug", "list"]), (false, false, true));
    assert_eq!(list(&["--debug=true", "list"]), (false, false, true));
    assert_eq!(
        list(&["--debug=false", "list", "-a", "--check-upgrades=0"]),
        (true, false, false)
    );
    for args in [
        &["run", "--foreground=false", "--stateless=1", "mcp/time"][..],
        &["upgrade", "apply", "x", "--yes=true", "--dry-run=F"],
        &["rm", "--all=1"],
        &["stop", "--all=false", "x"],
        &["version", "--json=True"],
    ] {
        assert!(read(args).is_ok(), "{args:?}");
    }
    for args in [
        &["list", "--all=maybe"][..],
        &["list", "--all", "true"],
        &["rm", "--all=1", "x"],
        &["rm", "--all=false"],
        &["start", "-a=0"],
        &["run", "--keep=true", "mcp/time"],
    ] {
        assert!(matches!(read(args), Err(Refused::Usage(_))), "{args:?}");
    }
    let Ok(Cli {
        command: Command::Run(args),
        ..
    }) = read(&[
        "run",
        "--isolate-network=0",
        "-p=1",
        "mcp/time",
        "--",
        "--all=true",
    ])
    else {
        panic!()
    };
    assert_eq!(args.isolate_network, Some(false));
    assert_eq!(args.publish, ["1"], "it is a switch of other commands only");
    assert_eq!(args.args, ["--all=true"], "the server's");
    let Err(Refused::NoEffect(text)) = read(&["run", "--enable-audit=1", "mcp/time"]) else {
        panic!()
    };
    assert!(text.starts_with("--enable-audit is not built yet"), "{text}");
}

#[test]
fn a_flag_that_says_the_default_is_fine() {
    for flag in [
        "--audit-config=",
        "--enable-audit=false",
        "--image-verification=warn",
        "--image-verification=enabled",
        "--otel-sampling-rate=0.1",
        "--otel-tracing-enabled",
        "--remote-auth-timeout=30s",
        "--isolate-network=false",
    ] {
        assert!(read(&["run", flag, "mcp/time"]).is_ok(), "{flag}");
    }
}

#[test]
fn an_empty_text_asks_for_nothing_where_nothing_is_the_default() {
    let Ok(Cli {
        command: Command::Run(args),
        ..
    }) = read(&[
        "run",
        "--from-config=",
        "--group=",
        "--host=",
        "--target-host=",
        "--permission-profile=",
        "--network=",
        "--env-file=",
        "--env-file-dir=",
        "--thv-ca-bundle=",
        "--tools-override=",
        "--endpoint-prefix=",
        "mcp/time",
    ])
    else {
        panic!()
    };
    assert_eq!(args.config_file(), None);
    let request = args.request(false);
    let texts = [
        request.group,
        request.host,
        request.target_host,
        request.permission_profile,
        request.network,
        request.endpoint_prefix,
    ];
    assert_eq!(texts, [const { None }; 6]);
    let paths = [
        request.env_file,
        request.env_file_dir,
        request.ca_bundle,
        request.tools_override_file,
    ];
    assert_eq!(paths, [const { None }; 4]);
}

#[test]
fn what_follows_two_dashes_is_the_servers() {
    let Ok(Cli {
        command: Command::Run(args),
        ..
    }) = read(&["run", "mcp/time", "--", "--name", "x", "--"])
    else {
        panic!()
    };
    assert_eq!(args.args, ["--name", "x", "--"]);
    assert_eq!(args.name, None);
}

#[test]
fn a_configuration_file_stands_alone() {
    let Err(Refused::NoEffect(text)) = read(&["run", "--from-config=a.json", "--name=x"]) else {
        panic!()
    };
    assert_eq!(
        text,
        "--name has no effect beside --from-config: leave one of them out"
    );
    assert!(matches!(
        read(&["run", "--from-config=a.json", "mcp/time"]),
        Err(Refused::NoEffect(_))
    ));
    assert!(
        read(&[
            "run",
            "--from-config=a.json",
            "--runtime=local",
            "--no-wait",
            "--debug"
        ])
        .is_ok()
    );
}

#[test]
fn a_configuration_file_may_run_in_the_foreground() {
    assert!(read(&["run", "--from-config=a.json", "--foreground", "--keep", "--debug"]).is_ok());
}

#[test]
fn transports_are_understood_in_any_case() {
    let Ok(Cli {
        command: Command::Run(args),
        ..
    }) = read(&["run", "x", "--transport=STDIO", "--proxy-mode=Sse"])
    else {
        panic!()
    };
    let expected = (Some(TransportType::Stdio), Some(ProxyMode::Sse));
    assert_eq!((args.transport, args.proxy_mode), expected);
}

#[test]
fn waiting_has_a_default_and_contradictions_are_refused() {
    let Ok(Cli {
        command: Command::Start(args),
        ..
    }) = read(&["start", "x", "--wait"])
    else {
        panic!()
    };
    assert_eq!(args.wait.wait, Some(Duration::from_mins(5)));
    for args in [
        &["start", "x", "--wait=1m", "--no-wait"][..],
        &["start"],
        &["start", "a", "b"],
        &["start", "a", "--all"],
        &["stop", "a", "--group", "g"],
        &["run"],
        &["nonsense"],
        &["start", "x", "--foreground", "--no-wait"],
        &["start", "x", "--foreground", "--wait"],
        &["run", "x", "--foreground", "--launch-timeout=1s"],
        &["run", "x", "--transport", "inspector"],
        &["run", "x", "--allowed-origins", "garbage"],
    ] {
        assert!(matches!(read(args), Err(Refused::Usage(_))), "{args:?}");
    }
}

#[test]
fn a_negative_value_is_told_as_what_it_is() {
    for args in [
        &["run", "--launch-timeout", "-1s", "mcp/time"][..],
        &["run", "--proxy-port", "-1", "mcp/time"],
        &["run", "--target-port", "-1", "mcp/time"],
        &["run", "--memory", "-1m", "mcp/time"],
        &["run", "x", "--memory", "-1"],
        &["run", "--pids-limit", "-1", "mcp/time"],
        &["start", "--launch-timeout", "-.5s", "x"],
        &["stop", "x", "--timeout", "-1"],
        &["logs", "x", "--tail", "-5"],
        &["reconcile", "--wait-runtime", "-1m"],
        &["--debug", "runtime", "list", "--timeout", "-1"],
        &["runtime", "check", "--timeout", "-1"],
    ] {
        let Err(Refused::Usage(error)) = read(args) else {
            panic!("{args:?}")
        };
        let value = args
            .iter()
            .find(|arg| arg.starts_with('-') && !arg.starts_with("--"));
        let (text, value) = (error.to_string(), value.expect("one is negative"));
        assert!(
            text.contains(&format!("invalid value '{value}'")),
            "{args:?}: {text}"
        );
    }
    // These the manager refuses, by the flag's name.
    let Ok(Cli {
        command: Command::Run(run),
        ..
    }) = read(&[
        "run",
        "--session-ttl",
        "-1s",
        "--cpus",
        "-0.5",
        "x",
        "--",
        "--cpus",
        "-1",
    ])
    else {
        panic!()
    };
    assert_eq!((&*run.session_ttl, run.cpus.as_deref()), ("-1s", Some("-0.5")));
    assert_eq!(run.args, ["--cpus", "-1"]);
    for args in [
        &["run", "--session-ttl", "--name", "x", "y"][..],
        &["run", "-1s", "x"],
        &["list", "--all", "-1"],
    ] {
        assert!(matches!(read(args), Err(Refused::Usage(_))), "{args:?}");
    }
}

#[test]
fn a_switch_does_not_say_that_it_is_true_or_false() {
    let mut command = Cli::full_command();
    for sub in command.get_subcommands_mut() {
        let help = sub.render_long_help().to_string();
        assert!(!help.contains("values: true"), "{help}");
    }
}

#[test]
fn who_leaves_the_equals_sign_out_is_told() {
    for (args, meant) in [
        (&["run", "mcp/time", "--wait", "3s"][..], "--wait=3s"),
        (&["run", "--wait", "3s", "mcp/time"], "--wait=3s"),
        (&["--debug", "start", "x", "--wait", "1m"], "--wait=1m"),
        (&["run", "mcp/time", "--wait", "surely"], ""),
        (&["run", "mcp/time", "--waits", "3s"], ""),
    ] {
        let Err(Refused::Usage(error)) = read(args) else {
            panic!("{args:?}")
        };
        let text = error.to_string();
        assert_eq!(text.contains("equals sign"), !meant.is_empty(), "{text}");
        assert!(text.contains(meant), "{text}");
    }
}
