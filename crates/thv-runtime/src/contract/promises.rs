//! The promises, one function each. What a promise means is in its name.

#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "the names of the promises say what they are"
)]

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::bench::Bench;
pub use super::dropped::{
    a_dropped_attach_is_healed, a_dropped_deploy_is_healed, a_dropped_remove_does_not_reach_the_next_deploy,
    a_dropped_remove_is_healed, a_dropped_stop_does_not_reach_the_next_deploy, a_dropped_stop_is_healed,
};
pub use super::events::{events_of_one_workload_are_no_other_ones, events_tell_the_life_of_an_instance};
use super::{EXIT_CODE, LAST_WORDS, Outcome, READY_LINE, Server};
use crate::{
    DeployOutcome, Expect, InstanceId, InstanceRef, InstanceState, LogLine, LogOptions, MountBind,
    PortBinding, StopOptions,
};

pub(super) const SHORT: Duration = Duration::from_secs(2);

pub async fn answers_a_ping(bench: &Bench<'_>) -> Outcome {
    bench.ok(bench.runtime.ping().await, "ping");
    Ok(())
}

pub async fn nothing_is_there_before_a_deploy(bench: &Bench<'_>) -> Outcome {
    let name = bench.name();
    let which = InstanceRef::named(name.clone());
    assert!(bench.ok(bench.runtime.inspect(&name).await, "inspect").is_none());
    assert_eq!(
        bench.code(bench.runtime.attach(&which).await, "attach"),
        "not_found"
    );
    assert_eq!(
        bench.code(
            bench
                .runtime
                .logs(&which, LogOptions::default())
                .await
                .map(|_| ()),
            "logs"
        ),
        "not_found"
    );
    Ok(())
}

pub async fn a_deployed_instance_is_inspected_and_listed(bench: &Bench<'_>) -> Outcome {
    let mut spec = bench.spec(Server::Echo)?;
    spec.labels.insert("contract".to_owned(), "yes".to_owned());
    let deployed = bench.deploy(&spec).await;
    assert_eq!(deployed.outcome, DeployOutcome::Created);
    let seen = bench
        .ok(bench.runtime.inspect(&spec.name).await, "inspect")
        .expect("it was deployed");
    assert_eq!(seen.id, deployed.instance.id);
    assert_eq!(seen.state, InstanceState::Running);
    assert_eq!(seen.workload, spec.name.as_str());
    assert_eq!(seen.instance_name, spec.instance_name);
    assert_eq!(&seen.runtime, bench.runtime.kind());
    assert_eq!(seen.labels.get("contract").map(String::as_str), Some("yes"));
    let listed = bench.ok(bench.runtime.list().await, "list");
    assert_eq!(
        listed.iter().filter(|i| i.workload == spec.name.as_str()).count(),
        1
    );
    bench.remove(&spec).await;
    assert!(
        bench
            .ok(bench.runtime.inspect(&spec.name).await, "inspect")
            .is_none()
    );
    Ok(())
}

pub async fn stop_and_remove_are_safe_to_repeat(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec(Server::Echo)?;
    bench.stop(&spec, SHORT).await;
    bench.remove(&spec).await;
    bench.deploy(&spec).await;
    bench.stop(&spec, SHORT).await;
    let seen = bench
        .ok(bench.runtime.inspect(&spec.name).await, "inspect")
        .expect("stopped, not removed");
    assert_eq!(seen.state, InstanceState::Stopped);
    bench.stop(&spec, SHORT).await;
    bench.remove(&spec).await;
    bench.remove(&spec).await;
    Ok(())
}

pub async fn expecting_absence_conflicts_with_what_is_there(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec(Server::Echo)?;
    let id = bench.deploy(&spec).await.instance.id;
    assert_eq!(
        bench.code(bench.runtime.deploy(&spec).await, "a second deploy"),
        "conflict"
    );
    assert_running(bench, &spec.name, &id).await;
    bench.stop(&spec, SHORT).await;
    assert_eq!(
        bench.code(bench.runtime.deploy(&spec).await, "a deploy over a stopped one"),
        "conflict"
    );
    Ok(())
}

pub async fn of_deploys_at_once_one_makes_the_instance(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec(Server::Echo)?;
    let deploys = (0..3).map(|_| bench.runtime.deploy(&spec));
    let (made, refused): (Vec<_>, Vec<_>) = join_all(deploys).await.into_iter().partition(Result::is_ok);
    let [Ok(made)] = made.as_slice() else {
        panic!("{} of three deploys at once made an instance", made.len());
    };
    for refused in refused {
        assert_eq!(bench.code(refused, "a deploy beside another"), "conflict");
    }
    assert_running(bench, &spec.name, &made.instance.id).await;
    let listed = bench.ok(bench.runtime.list().await, "list");
    let of_it = listed.iter().filter(|it| it.workload == spec.name.as_str());
    assert_eq!(of_it.count(), 1);
    Ok(())
}

pub async fn expecting_an_instance_conflicts_with_absence(bench: &Bench<'_>) -> Outcome {
    let mut spec = bench.spec(Server::Echo)?;
    spec.expect = Expect::Instance(InstanceId::new("nobody"));
    assert_eq!(
        bench.code(bench.runtime.deploy(&spec).await, "a deploy"),
        "conflict"
    );
    assert!(
        bench
            .ok(bench.runtime.inspect(&spec.name).await, "inspect")
            .is_none()
    );
    Ok(())
}

pub async fn a_wrong_id_is_a_conflict_and_nothing_is_done(bench: &Bench<'_>) -> Outcome {
    let mut spec = bench.spec(Server::Echo)?;
    let id = bench.deploy(&spec).await.instance.id;
    let wrong = InstanceRef::exact(spec.name.clone(), InstanceId::new("somebody-else"));
    let opts = StopOptions { grace: SHORT };
    assert_eq!(
        bench.code(bench.runtime.stop(&wrong, opts).await, "stop"),
        "conflict"
    );
    assert_eq!(
        bench.code(bench.runtime.remove(&wrong).await, "remove"),
        "conflict"
    );
    assert_eq!(
        bench.code(bench.runtime.attach(&wrong).await, "attach"),
        "conflict"
    );
    let logs = bench
        .runtime
        .logs(&wrong, LogOptions::default())
        .await
        .map(|_| ());
    assert_eq!(bench.code(logs, "logs"), "conflict");
    spec.expect = Expect::Instance(InstanceId::new("somebody-else"));
    assert_eq!(
        bench.code(bench.runtime.deploy(&spec).await, "deploy"),
        "conflict"
    );
    assert_running(bench, &spec.name, &id).await;
    Ok(())
}

pub async fn an_identical_instance_is_reused(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().http, "HTTP servers")?;
    let mut spec = bench.spec(Server::Http)?;
    let first = bench.deploy(&spec).await;
    spec.expect = Expect::Instance(first.instance.id.clone());
    let again = bench.deploy(&spec).await;
    assert_eq!(again.outcome, DeployOutcome::AlreadyRunning);
    assert_eq!(again.instance.id, first.instance.id);
    assert_eq!(again.endpoint, first.endpoint);
    bench.stop(&spec, SHORT).await;
    let started = bench.deploy(&spec).await;
    assert!(matches!(
        started.outcome,
        DeployOutcome::Started | DeployOutcome::Replaced
    ));
    assert_eq!(
        started.outcome == DeployOutcome::Started,
        started.instance.id == first.instance.id
    );
    assert_running(bench, &spec.name, &started.instance.id).await;
    Ok(())
}

pub async fn a_different_instance_is_replaced(bench: &Bench<'_>) -> Outcome {
    let can = bench.runtime.capabilities();
    let mut spec = bench.spec(Server::Echo)?;
    let mut id = bench.deploy(&spec).await.instance.id;
    // Each thing comes, changes, and is taken away again.
    let changes: [(bool, &str, Ask); 10] = [
        (true, "a new variable", |spec| {
            spec.env.insert("CONTRACT_CHANGE".to_owned(), "1".to_owned());
        }),
        (true, "another value", |spec| {
            spec.env.insert("CONTRACT_CHANGE".to_owned(), "2".to_owned());
        }),
        (true, "no variable", |spec| spec.env.clear()),
        (true, "a new argument", |spec| {
            spec.command.push("contract".to_owned());
        }),
        (true, "no argument", |spec| drop(spec.command.pop())),
        (true, "a new label", |spec| {
            spec.labels.insert("contract".to_owned(), "changed".to_owned());
        }),
        (can.mounts, "a new mount", |spec| {
            spec.mounts.push(MountBind {
                source: "/tmp".into(),
                target: "/tmp/contract".to_owned(),
                read_only: true,
            });
        }),
        (can.mounts, "no mount", |spec| spec.mounts.clear()),
        (can.publish, "a new port", |spec| {
            spec.publish.push(PortBinding {
                container_port: 9,
                host_ip: Some(std::net::Ipv4Addr::LOCALHOST.into()),
                host_port: 0,
            });
        }),
        (can.publish, "no port", |spec| spec.publish.clear()),
    ];
    for (_, what, change) in changes.iter().filter(|(applies, ..)| *applies) {
        change(&mut spec);
        id = replaced(bench, &mut spec, id, what).await;
    }
    if let Some(image) = bench.fixture.another_image() {
        spec.image = image;
        id = replaced(bench, &mut spec, id, "another image").await;
    }
    assert_running(bench, &spec.name, &id).await;
    Ok(())
}

/// Deploys `spec`, in which `what` changed, over the instance `id`.
async fn replaced(bench: &Bench<'_>, spec: &mut crate::DeploySpec, id: InstanceId, what: &str) -> InstanceId {
    spec.expect = Expect::Instance(id.clone());
    let deployed = bench.deploy(spec).await;
    assert_eq!(deployed.outcome, DeployOutcome::Replaced, "{what}");
    assert_ne!(deployed.instance.id, id, "{what}");
    deployed.instance.id
}

pub async fn lines_go_round_through_an_attachment(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().attach, "attachments")?;
    let spec = bench.spec(Server::Echo)?;
    bench.deploy(&spec).await;
    let mut stdio = bench.ok(
        bench.runtime.attach(&InstanceRef::named(spec.name.clone())).await,
        "attach",
    );
    let mut lines = BufReader::new(stdio.stdout).lines();
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned(),
        "ä".repeat(100_000),
    ] {
        let write = async {
            stdio.stdin.write_all(format!("{line}\n").as_bytes()).await?;
            stdio.stdin.flush().await
        };
        // A long line does not fit into a pipe: it is read while it is written.
        let (written, read) = bench
            .soon("an answer", async { tokio::join!(write, lines.next_line()) })
            .await;
        bench.ok(written, "write");
        assert!(
            bench.ok(read, "read").as_deref() == Some(line.as_str()),
            "the line comes back as it was"
        );
    }
    Ok(())
}

pub async fn one_attachment_at_a_time(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().attach, "attachments")?;
    let spec = bench.spec(Server::Echo)?;
    bench.deploy(&spec).await;
    let which = InstanceRef::named(spec.name.clone());
    let first = bench.ok(bench.runtime.attach(&which).await, "attach");
    assert_eq!(
        bench.code(bench.runtime.attach(&which).await, "a second attach"),
        "already_attached"
    );
    drop(first);
    Ok(())
}

pub async fn a_dropped_attachment_ends_the_server(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().attach, "attachments")?;
    for server in [Server::Echo, Server::IgnoresTerm] {
        let Ok(spec) = bench.spec(server) else { continue };
        bench.deploy(&spec).await;
        let stdio = bench.ok(
            bench.runtime.attach(&InstanceRef::named(spec.name.clone())).await,
            "attach",
        );
        drop(stdio);
        ended(bench, &spec.name).await;
    }
    Ok(())
}

pub async fn attach_refuses_what_does_not_run(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().attach, "attachments")?;
    let spec = bench.spec(Server::Echo)?;
    bench.deploy(&spec).await;
    bench.stop(&spec, SHORT).await;
    let which = InstanceRef::named(spec.name.clone());
    assert_eq!(
        bench.code(bench.runtime.attach(&which).await, "attach"),
        "not_running"
    );
    Ok(())
}

pub async fn a_server_that_ignores_sigterm_is_stopped_in_time(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec(Server::IgnoresTerm)?;
    bench.deploy(&spec).await;
    // Held, so that only a kill can end it in case the runtime cannot close an attached stdin.
    let held = bench.runtime.attach(&InstanceRef::named(spec.name.clone())).await;
    let stopping = bench.stop(&spec, Duration::from_millis(300));
    bench.soon("the stop", stopping).await;
    assert_eq!(ended(bench, &spec.name).await.state, InstanceState::Stopped);
    drop(held);
    Ok(())
}

pub async fn standard_error_is_in_the_logs(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().logs, "logs")?;
    let spec = bench.spec(Server::Echo)?;
    bench.deploy(&spec).await;
    bench
        .until("the line in the logs", || async {
            log_lines(bench, &spec.name, None)
                .await
                .contains(&READY_LINE.to_owned())
                .then_some(())
        })
        .await;
    assert!(log_lines(bench, &spec.name, Some(0)).await.is_empty());
    assert_eq!(log_lines(bench, &spec.name, Some(1)).await.len(), 1);
    bench.stop(&spec, SHORT).await;
    assert!(
        log_lines(bench, &spec.name, None)
            .await
            .contains(&READY_LINE.to_owned()),
        "kept after stop"
    );
    Ok(())
}

pub async fn private_output_is_for_who_attaches_alone(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().private_output, "private output")?;
    let mut spec = bench.spec(Server::Echo)?;
    spec.private_output = true;
    spec.expect = Expect::Instance(bench.deploy(&spec).await.instance.id);
    let which = InstanceRef::named(spec.name.clone());
    // Also when the instance is started again.
    for outcome in [DeployOutcome::AlreadyRunning, DeployOutcome::Started] {
        let deployed = bench.ok(bench.runtime.deploy(&spec).await, "deploy again");
        assert_eq!(deployed.outcome, outcome);
        let mut stdio = bench.ok(bench.runtime.attach(&which).await, "attach");
        let errors = stdio.stderr.take().expect("nobody else has it");
        let mut errors = BufReader::new(errors).lines();
        let first = bench.soon("its first line", errors.next_line()).await;
        assert_eq!(first.expect("it can be read").as_deref(), Some(READY_LINE));
        bench
            .soon("a line", stdio.stdin.write_all(b"hello\n"))
            .await
            .expect("it can be written");
        stdio.stdin.flush().await.expect("it can be written");
        let mut lines = BufReader::new(stdio.stdout).lines();
        let line = bench.soon("the answer", lines.next_line()).await;
        assert_eq!(line.expect("it can be read").as_deref(), Some("hello"));
        let logs = bench.runtime.logs(&which, LogOptions::default()).await;
        assert_eq!(bench.code(logs.map(|_| ()), "logs"), "not_logged");
        bench.stop(&spec, SHORT).await;
        let last = bench.soon("the end", errors.next_line()).await;
        assert_eq!(last.expect("it can be read"), None);
    }
    let mut failing = bench.spec(Server::ExitsAtOnce)?;
    failing.private_output = true;
    let last_words = match bench.runtime.deploy(&failing).await {
        Err(crate::Error::StartFailed { last_lines, .. }) => last_lines,
        Err(other) => panic!("it started and ended, which is not {other:?}"),
        Ok(deployed) => {
            let which = InstanceRef::exact(failing.name.clone(), deployed.instance.id);
            ended(bench, &failing.name).await;
            let stdio = bench.ok(
                bench.runtime.attach(&which).await,
                "attach to what said something",
            );
            let mut words = String::new();
            let mut errors = stdio.stderr.expect("nobody else has it");
            let read = bench
                .soon("its last words", errors.read_to_string(&mut words))
                .await;
            read.expect("they can be read");
            words.lines().map(str::to_owned).collect()
        }
    };
    assert!(last_words.iter().any(|line| line == LAST_WORDS), "{last_words:?}");
    bench.remove(&failing).await;
    Ok(())
}

pub async fn logs_follow_until_removal(bench: &Bench<'_>) -> Outcome {
    bench.needs(bench.runtime.capabilities().logs, "logs")?;
    let spec = bench.spec(Server::Echo)?;
    bench.deploy(&spec).await;
    let opts = LogOptions {
        tail: None,
        follow: true,
        ..LogOptions::default()
    };
    let which = InstanceRef::named(spec.name.clone());
    let mut logs = bench.ok(bench.runtime.logs(&which, opts).await, "follow logs");
    let first = bench.soon("a line", logs.next()).await.expect("a line comes");
    assert_eq!(text(&bench.ok(first, "read logs")), READY_LINE);
    assert!(
        timeout(Duration::from_millis(50), logs.next()).await.is_err(),
        "it goes on"
    );
    bench.remove(&spec).await;
    bench
        .soon("the end of the logs", async {
            while logs.next().await.is_some() {}
        })
        .await;
    Ok(())
}

pub async fn a_server_that_exits_at_once_is_reported(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec(Server::ExitsAtOnce)?;
    match bench.runtime.deploy(&spec).await {
        Err(crate::Error::StartFailed { last_lines, .. }) => {
            assert!(
                last_lines.iter().any(|line| line == LAST_WORDS),
                "last lines: {last_lines:?}"
            );
            assert!(
                bench
                    .ok(bench.runtime.inspect(&spec.name).await, "inspect")
                    .is_none()
            );
        }
        Err(other) => panic!("it started and ended, which is not {other:?}"),
        Ok(_) => {
            let seen = ended(bench, &spec.name).await;
            assert_eq!(seen.exit_code, Some(EXIT_CODE));
            if bench.runtime.capabilities().logs {
                assert!(
                    log_lines(bench, &spec.name, None)
                        .await
                        .contains(&LAST_WORDS.to_owned())
                );
            }
        }
    }
    bench.remove(&spec).await;
    assert!(
        bench
            .ok(bench.runtime.inspect(&spec.name).await, "inspect")
            .is_none()
    );
    Ok(())
}

pub async fn a_missing_image_leaves_nothing(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec(Server::Missing)?;
    assert_eq!(
        bench.code(bench.runtime.deploy(&spec).await, "deploy"),
        "image_not_found"
    );
    assert!(
        bench
            .ok(bench.runtime.inspect(&spec.name).await, "inspect")
            .is_none()
    );
    Ok(())
}

pub async fn values_of_the_environment_are_in_no_view(bench: &Bench<'_>) -> Outcome {
    let mut spec = bench.spec(Server::Echo)?;
    let secret = "contract-secret-5f1d7c";
    spec.env.insert("CONTRACT_SECRET".to_owned(), secret.to_owned());
    let deployed = bench.deploy(&spec).await;
    let seen = bench.ok(bench.runtime.inspect(&spec.name).await, "inspect");
    for view in [
        format!("{spec:?}"),
        format!("{deployed:?}"),
        format!("{seen:?}"),
        format!("{:?}", bench.runtime),
    ] {
        assert!(!view.contains(secret), "the value is in {view}");
    }
    Ok(())
}

/// Asks for something in a deployment.
type Ask = fn(&mut crate::DeploySpec);

pub async fn what_cannot_be_enforced_is_refused(bench: &Bench<'_>) -> Outcome {
    let can = bench.runtime.capabilities();
    let asked: [(bool, Ask); 6] = [
        (can.network_isolation, |spec| spec.isolate_network = true),
        (can.memory_limit, |spec| spec.limits.memory = Some(64 << 20)),
        (can.cpu_limit, |spec| spec.limits.cpus = Some(0.5)),
        (can.pids_limit, |spec| spec.limits.pids = Some(10)),
        (can.mounts, |spec| {
            spec.mounts.push(MountBind {
                source: "/tmp".into(),
                target: "/tmp/contract".to_owned(),
                read_only: true,
            });
        }),
        (can.privileged, |spec| spec.privileged = true),
    ];
    for (_, ask) in asked.iter().filter(|(supported, _)| !supported) {
        let mut spec = bench.spec(Server::Echo)?;
        ask(&mut spec);
        assert_eq!(
            bench.code(bench.runtime.deploy(&spec).await, "deploy"),
            "unsupported"
        );
        assert!(
            bench
                .ok(bench.runtime.inspect(&spec.name).await, "inspect")
                .is_none()
        );
    }
    Ok(())
}

pub async fn a_refused_name_touches_nothing(bench: &Bench<'_>) -> Outcome {
    let Some(name) = bench.fixture.refused_name() else {
        return bench.needs(false, "refuse any name");
    };
    assert_eq!(
        bench.code(bench.runtime.check_name(&name), "check_name"),
        "invalid_name"
    );
    let Some(spec) = bench.fixture.spec(name, Server::Echo) else {
        return bench.needs(false, "echo servers");
    };
    assert_eq!(
        bench.code(bench.runtime.deploy(&spec).await, "deploy"),
        "invalid_name"
    );
    Ok(())
}

pub async fn a_second_value_sees_and_acts(bench: &Bench<'_>) -> Outcome {
    let Some(second) = bench.fixture.second() else {
        return bench.needs(false, "a second value over the same backing");
    };
    let spec = bench.spec(Server::Echo)?;
    let id = bench.deploy(&spec).await.instance.id;
    let which = InstanceRef::exact(spec.name.clone(), id.clone());
    let seen = bench
        .ok(second.inspect(&spec.name).await, "inspect")
        .expect("the second value sees it");
    assert_eq!((seen.id, seen.state), (id, InstanceState::Running));
    assert!(
        bench
            .ok(second.list().await, "list")
            .iter()
            .any(|i| i.workload == spec.name.as_str())
    );
    bench
        .until("the line in the logs of the second value", || async {
            let logs = bench.ok(second.logs(&which, LogOptions::default()).await, "read logs");
            logs.any(|line| async { line.is_ok_and(|line| text(&line) == READY_LINE) })
                .await
                .then_some(())
        })
        .await;
    assert_eq!(
        bench.code(second.deploy(&spec).await, "a deploy by the second value"),
        "conflict"
    );
    bench.ok(second.stop(&which, StopOptions { grace: SHORT }).await, "stop");
    ended(bench, &spec.name).await;
    bench.ok(second.remove(&which).await, "remove");
    assert!(
        bench
            .ok(bench.runtime.inspect(&spec.name).await, "inspect")
            .is_none()
    );
    Ok(())
}

pub(super) async fn assert_running(bench: &Bench<'_>, name: &thv_core::WorkloadName, id: &InstanceId) {
    let seen = bench
        .ok(bench.runtime.inspect(name).await, "inspect")
        .expect("it is there");
    assert_eq!(
        (&seen.id, seen.state),
        (id, InstanceState::Running),
        "{}",
        seen.status_text
    );
}

pub(super) async fn ended(bench: &Bench<'_>, name: &thv_core::WorkloadName) -> crate::Instance {
    bench
        .until("the end of the server", || async {
            let seen = bench.ok(bench.runtime.inspect(name).await, "inspect");
            seen.filter(|instance| instance.state == InstanceState::Stopped)
        })
        .await
}

async fn log_lines(bench: &Bench<'_>, name: &thv_core::WorkloadName, tail: Option<usize>) -> Vec<String> {
    let opts = LogOptions {
        tail,
        follow: false,
        ..LogOptions::default()
    };
    let logs = bench.ok(
        bench.runtime.logs(&InstanceRef::named(name.clone()), opts).await,
        "read logs",
    );
    bench
        .soon(
            "the end of the logs",
            logs.map(|line| text(&bench.ok(line, "read logs"))).collect(),
        )
        .await
}

fn text(line: &LogLine) -> String {
    String::from_utf8_lossy(&line.line).into_owned()
}
