//! Answers that stop, break off, or tell of what is over by now.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::json;
use thv_core::{Dirs, Env, WorkloadName};
use thv_runtime::{EventFilter, EventKind, InstanceRef, LogOptions, Runtime};
use thv_runtime_docker::{DockerConfig, DockerRuntime};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::fake::{Fake, usual};
use crate::support::meddler::{Do, Meddler, version};
use crate::support::soon;

const HEADERS_AND_A_BYTE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[";

#[tokio::test]
async fn an_answer_that_stops_after_its_headers_is_not_waited_for() {
    for stalled in ["/version", "/containers/json", "/_ping", "/images/x/json"] {
        let fake = Fake::impatient(move |call| match call {
            call if call.contains(stalled) => Do::Stall(HEADERS_AND_A_BYTE),
            "GET /version" => version(),
            _ => Do::Answer(404, json!({"message": "no"})),
        });
        let runtime = &fake.runtime;
        let images = runtime.images().unwrap();
        let error = match stalled {
            "/_ping" => soon("the ping", runtime.ping()).await.unwrap_err(),
            "/images/x/json" => soon("the image", images.present("x")).await.unwrap_err(),
            _ => soon("the list", runtime.list()).await.unwrap_err(),
        };
        assert!(error.is_retryable(), "{stalled}: {error:?}");
    }
}

/// As Podman is on a busy machine.
#[tokio::test]
async fn an_engine_that_answers_a_ping_is_given_its_time_to_say_what_it_is() {
    let found = ["GET /version", "GET /info"].map(async |slow| {
        let go_on = Arc::new(Notify::new());
        let at_last = Arc::clone(&go_on);
        let short = |config: &mut DockerConfig| config.connect_timeout = Duration::from_millis(100);
        let fake = Fake::with(short, move |call| {
            let podman = json!({"Name": "Podman Engine"});
            let answer = match call {
                "GET /_ping" => json!("OK"),
                "GET /version" => json!({"Version": "4.3.1", "ApiVersion": "1.41", "Components": [podman]}),
                "GET /info" => json!({}),
                _ => json!([]),
            };
            let answer = Do::Answer(200, answer);
            if call == slow {
                return Do::After(Arc::clone(&at_last), Box::new(answer));
            }
            answer
        });
        let mut listing = Box::pin(fake.runtime.list());
        let early = timeout(Duration::from_millis(300), &mut listing).await;
        assert!(early.is_err(), "{slow}: {early:?}");
        go_on.notify_one();
        let listed = soon("the list", listing).await;
        assert!(listed.is_ok(), "{slow}: {listed:?}");
    });
    join_all(found).await;
}

#[tokio::test]
async fn an_engine_that_says_in_a_ping_what_it_is_need_not_be_asked() {
    // Only its version says which is the oldest API that it speaks.
    for (server, api, asked) in [
        ("Docker/26.1.5", "1.45", 0),
        ("Docker/29.0.0", "1.99", 1),
        ("Docker/19.03.0", "1.39", 1),
        ("Docker/26.1.5", "none", 1),
        ("Libpod/4.3.1", "1.41", 1),
    ] {
        let ping = format!(
            "HTTP/1.1 200 OK\r\nServer: {server} (linux)\r\nApi-Version: {api}\r\nContent-Length: 0\r\n\r\n"
        );
        let ping: &'static str = ping.leak();
        let fake = Fake::new(move |call| match call {
            "GET /_ping" => Do::Send(ping),
            "GET /version" => version(),
            _ => Do::Answer(200, json!([])),
        });
        assert!(fake.runtime.list().await.is_ok(), "{server}");
        assert_eq!(fake.count("GET /version"), asked, "{server} {api}");
        let engine = fake.runtime.engine_info().await.unwrap();
        if asked == 0 {
            assert_eq!(
                (engine.version.as_str(), engine.api_version.as_str()),
                ("26.1.5", "1.45")
            );
        }
    }
}

#[tokio::test]
async fn who_waits_for_a_search_that_fails_does_not_search_again() {
    let fake = Fake::impatient(|_| Do::Stall(HEADERS_AND_A_BYTE));
    let lists = join_all((0..20).map(|_| fake.runtime.list()));
    let lists = soon("the lists", lists).await;
    assert!(lists.iter().all(Result::is_err));
    let calls = fake.engine.calls();
    assert!(calls.len() < 4, "{calls:?}");
}

#[tokio::test]
async fn an_event_stream_that_breaks_at_once_is_not_asked_for_in_a_loop() {
    for broken in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\noops!\n",
    ] {
        let fake = Fake::new(move |call| match call {
            "GET /version" => version(),
            _ => Do::Send(broken),
        });
        let mut events = fake.runtime.events(EventFilter::default()).await.unwrap();
        let listening = async { while events.next().await.is_some() {} };
        assert!(timeout(Duration::from_millis(700), listening).await.is_err());
        let asked = fake.engine.calls().len();
        assert!(asked < 30, "asked {asked} times for {broken:?}");
    }
}

/// An engine with a container that has a log.
fn with_log(call: &str, log: &'static str) -> Do {
    match call {
        call if call.starts_with("GET /containers/json") => Do::Answer(
            200,
            json!([{"Id": "abc", "Names": ["/fetch"], "State": "running"}]),
        ),
        call if call.contains("/logs?") => Do::Send(log),
        call if call.starts_with("GET /events") => Do::Stall("HTTP/1.1 200 OK\r\n\r\n"),
        call => usual(call),
    }
}

#[tokio::test]
async fn the_lines_before_a_log_breaks_off_are_told_before_that() {
    const LOG: &str = "HTTP/1.1 200 OK\r\n\r\n\x01\0\0\0\0\0\0\x06first\n\x01\0\0\0\0\0\0\x07second\n\x03\0\0\0\0\0\0\x04gone";
    let fake = Fake::new(|call| with_log(call, LOG));
    let which = InstanceRef::named("fetch".parse().unwrap());
    let logs = fake.runtime.logs(&which, LogOptions::default()).await.unwrap();
    let told: Vec<_> = soon("the log", logs.collect()).await;
    let [Ok(first), Ok(second), Err(error)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(
        (&first.line[..], &second.line[..]),
        (&b"first"[..], &b"second"[..])
    );
    assert!(format!("{error:?}").contains("gone"), "{error:?}");
}

/// The first time it is asked again at once. It would be asked thousands of times in a second otherwise.
#[tokio::test]
async fn an_engine_that_breaks_off_after_each_event_is_not_asked_without_a_pause() {
    const EVENT: &str = "HTTP/1.1 200 OK\r\n\r\n{\"Action\":\"start\",\"Actor\":{\"ID\":\"abc\",\
        \"Attributes\":{\"toolhive\":\"true\",\"toolhive-basename\":\"fetch\"}}}\n";
    let fake = Fake::new(|call| match call {
        call if call.starts_with("GET /events") => Do::Send(EVENT),
        call => usual(call),
    });
    let began = Instant::now();
    let events = fake.runtime.events(EventFilter::default()).await.unwrap();
    let told = events
        .map(|event| event.unwrap().kind)
        .take(9)
        .collect::<Vec<_>>();
    let told = soon("the events", told).await;
    let (synced, again) = told.split_first().unwrap();
    assert_eq!(*synced, EventKind::Synced);
    for pair in again.chunks(2) {
        assert!(pair == [EventKind::Started, EventKind::Gap], "{again:?}");
    }
    assert!(
        began.elapsed() >= Duration::from_millis(50 + 100 + 200),
        "{:?}",
        began.elapsed()
    );
}

/// Whoever follows a log leaves them unread until the container ends, and Docker waits for who does not read.
#[tokio::test]
async fn nobody_is_sent_the_events_of_health_checks() {
    let fake = Fake::new(|call| with_log(call, "HTTP/1.1 200 OK\r\n\r\n"));
    let name: WorkloadName = "fetch".parse().unwrap();
    let opts = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let which = InstanceRef::named(name.clone());
    let _logs = fake.runtime.logs(&which, opts).await.unwrap();
    let _events = fake.runtime.events(EventFilter::of(name)).await.unwrap();
    let calls = fake.engine.calls();
    let asked: Vec<_> = calls
        .iter()
        .filter(|call| call.starts_with("GET /events"))
        .collect();
    assert_eq!(asked.len(), 3, "{calls:?}");
    let cut = |call: &&&String| call.contains("%22event%22%3A%5B%22create%22%2C%22start%22");
    assert_eq!(asked.iter().filter(cut).count(), 3, "{asked:?}");
}

#[tokio::test]
async fn a_container_that_goes_away_while_an_engine_lists_it_is_nobodys_failure() {
    let failed = |words: &str| Do::Answer(500, json!({ "message": words }));
    let gone = move || failed("container 24be does not exist in database: no such container");
    let lists = AtomicUsize::new(0);
    let fake = Fake::new(move |call| match call {
        "GET /version" => version(),
        call if call.starts_with("GET /containers/json") => match lists.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => gone(),
            1 => failed("read /proc/27853/cgroup: no such process"),
            _ => Do::Answer(
                200,
                json!([{"Id": "24be", "Names": ["/fetch"], "Labels": {
                    "toolhive": "true", "toolhive-basename": "fetch",
                }}]),
            ),
        },
        _ => gone(),
    });
    assert_eq!(fake.runtime.list().await.unwrap().len(), 1);
    let inspected = fake.runtime.inspect(&"fetch".parse().unwrap()).await;
    assert!(inspected.unwrap().is_none());
}

/// As a copy that somebody made of it by hand is.
#[tokio::test]
async fn of_several_containers_of_a_workload_the_one_that_runs_is_meant() {
    for states in [
        ["exited", "running"],
        ["running", "exited"],
        ["exited", "created"],
    ] {
        let rows = states.map(|state| json!({"Id": state, "Names": [format!("/{state}")], "State": state}));
        let rows = json!(rows);
        let fake = Fake::new(move |call| match call {
            "GET /version" => version(),
            call if call.starts_with("GET /containers/json") => Do::Answer(200, rows.clone()),
            call => {
                let id = call
                    .trim_start_matches("GET /containers/")
                    .trim_end_matches("/json");
                let state = json!({"Status": id});
                Do::Answer(
                    200,
                    json!({"Id": id, "State": state, "Config": {}, "HostConfig": {}}),
                )
            }
        });
        let found = fake.runtime.inspect(&"fetch".parse().unwrap()).await.unwrap();
        let expected = if states.contains(&"running") {
            "running"
        } else {
            states[0]
        };
        assert_eq!(found.unwrap().id.as_str(), expected, "{states:?}");
    }
}

/// The engine's filter means parts of names, and knows nothing of helpers.
#[tokio::test]
async fn a_container_without_the_label_of_its_workload_is_found_by_its_exact_name() {
    let row = |id: &str, name: &str, helps: bool| {
        let labels = json!({"toolhive": "true", "toolhive-auxiliary-workload": helps.to_string()});
        json!({"Id": id, "Names": [format!("/{name}")], "State": "running", "Labels": labels})
    };
    for (rows, expected) in [
        (
            json!([row("a", "fetch-2", false), row("b", "fetch", false)]),
            Some("b"),
        ),
        (json!([row("a", "fetch-2", false)]), None),
        (json!([row("a", "fetch", true)]), None),
    ] {
        let fake = Fake::new(move |call| match call {
            "GET /version" => version(),
            // By its label.
            call if call.contains("toolhive%2Dbasename%3Dfetch") => Do::Answer(200, json!([])),
            call if call.starts_with("GET /containers/json") => Do::Answer(200, rows.clone()),
            _ => Do::Answer(
                200,
                json!({"Id": "b", "State": {"Status": "running"}, "Config": {}, "HostConfig": {}}),
            ),
        });
        let found = fake.runtime.inspect(&"fetch".parse().unwrap()).await.unwrap();
        assert_eq!(found.as_ref().map(|found| found.id.as_str()), expected);
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_whole() {
    let fake = Fake::new(|call| match call {
        "GET /version" => version(),
        _ => Do::Answer(200, "x".repeat(64 << 20).into()),
    });
    let images = fake.runtime.images().unwrap();
    let error = images.present("x").await.unwrap_err();
    // The next one would be as long.
    assert!(!error.is_retryable(), "{error:?}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("longer than 64 MiB"), "{source}");
}

/// A disk that is full, say: Docker tells it in an answer that began well, Podman at once.
#[tokio::test]
async fn an_image_that_an_engine_does_not_load_is_its_failure() {
    let words = "write /layer.tar: no space left on device";
    for (status, body) in [
        (200, json!({ "error": words })),
        (500, json!({ "message": words })),
    ] {
        let fake = Fake::new(move |call| match call {
            "GET /version" => version(),
            _ => Do::Answer(status, body.clone()),
        });
        let archive = stream::empty().boxed();
        let error = fake.runtime.images().unwrap().load(archive).await.unwrap_err();
        assert_eq!(error.code(), "failed", "{error:?}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(words), "{source}");
    }
}

/// An engine hears of an end and of its reason in two events.
#[tokio::test]
async fn that_memory_was_the_reason_may_be_told_after_the_end() {
    let looks = AtomicUsize::new(0);
    let fake = Fake::new(move |call| match call {
        "GET /version" => version(),
        call if call.starts_with("GET /containers/json") => Do::Answer(
            200,
            json!([{"Id": "abc", "Names": ["/fetch"], "Labels": {
                "toolhive": "true", "toolhive-basename": "fetch",
            }}]),
        ),
        "GET /containers/abc/json" => {
            let told = looks.fetch_add(1, Ordering::Relaxed) > 1;
            let state = json!({"Status": "exited", "ExitCode": 137, "OOMKilled": told,
                "FinishedAt": jiff::Timestamp::now().to_string()});
            Do::Answer(
                200,
                json!({"Id": "abc", "Name": "/fetch", "State": state, "Config": {},
                    "HostConfig": {"Memory": 64 << 20}}),
            )
        }
        _ => Do::Answer(404, json!({"message": "no"})),
    });
    let seen = fake.runtime.inspect(&"fetch".parse().unwrap()).await.unwrap();
    assert_eq!(seen.unwrap().status_text, "out of memory (limit 64 MiB)");
}

/// It would hold other workloads.
#[tokio::test]
async fn the_engine_that_answered_once_is_not_left_for_one_that_is_looked_for_earlier() {
    if Path::new("/var/run/podman/podman.sock").exists() {
        eprintln!("skipped: an engine is where the first one is looked for");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(folder.path());
    let later = dirs
        .home
        .join(".local/share/containers/podman/machine/podman.sock");
    let earlier = dirs.runtime.as_ref().unwrap().join("podman/podman.sock");
    for socket in [&later, &earlier] {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    }
    let open = |socket: &Path| {
        Meddler::open(socket, Path::new("/nowhere"), |_, call| match call {
            "GET /version" => version(),
            _ => Do::Answer(200, json!([])),
        })
    };
    let runtime = DockerRuntime::new(DockerConfig::discover(Env::default(), dirs).unwrap());
    let first = open(&later);
    runtime.list().await.unwrap();
    let second = open(&earlier);
    drop(first);
    let error = runtime.list().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains(later.to_str().unwrap()), "{error}");
    assert!(second.calls().is_empty(), "{:?}", second.calls());
}
