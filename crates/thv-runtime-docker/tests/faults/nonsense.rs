//! Whatever an engine answers in place of one of its answers, the call ends, and nothing panics.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use thv_core::WorkloadName;
use thv_runtime::{DeploySpec, EventFilter, InstanceRef, LogOptions, Result, Runtime};
use thv_runtime_docker::DockerRuntime;
use tokio::io::AsyncReadExt;

use crate::SHORT;
use crate::support::fake::{Fake, usual};
use crate::support::meddler::Do;
use crate::support::soon;

/// How many engines are there at a time.
const AT_ONCE: usize = 48;

const CALLS: [&str; 14] = [
    "about", "identity", "list", "inspect", "deploy", "stop", "remove", "attach", "logs", "follow", "events",
    "present", "pull", "load",
];

const NONSENSE: [&str; 24] = [
    "",
    "SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nnull",
    "HTTP/1.1 200 OK\r\n\r\n[]",
    "HTTP/1.1 200 OK\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\n\r\n[null]",
    "HTTP/1.1 200 OK\r\n\r\n[{}]",
    "HTTP/1.1 200 OK\r\n\r\n{\"Id\":null,\"Names\":null,\"State\":null,\"Config\":null,\"HostConfig\":null}",
    "HTTP/1.1 200 OK\r\n\r\n[{\"Id\":\"../x y\\u0000\\r\\n\",\"Names\":[\"\"],\"State\":7}]",
    "HTTP/1.1 200 OK\r\n\r\n{\"Id\":\"../x y\\u0000\\r\\n\"}",
    "HTTP/1.1 200 OK\r\n\r\n\"x\"",
    "HTTP/1.1 200 OK\r\n\r\n1e999\n-1\n{\"Action\":\"die\",\"Actor\":null}\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n[",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n[",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nno frame of a stream",
    "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n\x01\0\0\0\x7f\x7f\x7f\x7fcut",
    "HTTP/1.1 204 X\r\n\r\n",
    "HTTP/1.1 301 X\r\nLocation: /elsewhere\r\n\r\n",
    "HTTP/1.1 304 X\r\n\r\n",
    "HTTP/1.1 500 X\r\n\r\n<html>",
    "HTTP/1.1 999 X\r\n\r\n{\"message\":{}}",
];

/// An engine with one container, which runs; its answers are right.
fn right(call: &str) -> Do {
    let row = json!({"Id": "abc", "Names": ["/fetch"], "State": "running", "Labels": {"toolhive": "true", "toolhive-basename": "fetch"}});
    match call {
        call if call.starts_with("GET /containers/json") && call.contains("fetch") => {
            Do::Answer(200, json!([row]))
        }
        "GET /containers/abc/json" => Do::Answer(
            200,
            json!({
                "Id": "abc", "Name": "/fetch", "State": {"Status": "running"},
                "Config": {"OpenStdin": true}, "HostConfig": {"LogConfig": {"Type": "json-file"}},
            }),
        ),
        call if call.starts_with("GET /images/") => Do::Answer(200, json!({"Id": "sha256:1"})),
        call if call.starts_with("POST /images/create") => {
            Do::Answer(200, json!({"status": "Status: Downloaded newer image"}))
        }
        call if call.starts_with("POST /images/load") => {
            Do::Answer(200, json!({"stream": "Loaded image: x:1"}))
        }
        call if call.contains("/attach?") => Do::Send(
            "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n\x01\0\0\0\0\0\0\x02hi",
        ),
        call if call.contains("/logs?") => Do::Answer(200, Value::Null),
        call if call.starts_with("GET /events") => {
            Do::Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        }
        call if call.starts_with("POST /containers/abc/") => Do::Answer(204, Value::Null),
        call => usual(call),
    }
}

async fn make(call: &str, runtime: &DockerRuntime) -> Result<()> {
    let name: WorkloadName = "fetch".parse().unwrap();
    let which = InstanceRef::named(name.clone());
    let images = runtime.images().unwrap();
    match call {
        "about" => runtime.about().await.map(drop),
        "identity" => runtime.identity().await.map(drop),
        "list" => runtime.list().await.map(drop),
        "inspect" => runtime.inspect(&name).await.map(drop),
        "deploy" => {
            let spec = DeploySpec::new("new-one".parse().unwrap(), "fetch");
            runtime.deploy(&spec).await.map(drop)
        }
        "stop" => runtime.stop(&which, SHORT).await,
        "remove" => runtime.remove(&which).await,
        "attach" => {
            let mut streams = runtime.attach(&which).await?;
            let _ = streams.stdout.read_to_end(&mut Vec::new()).await;
            Ok(())
        }
        "logs" | "follow" => {
            let options = LogOptions {
                follow: call == "follow",
                tail: Some(3),
                ..LogOptions::default()
            };
            runtime
                .logs(&which, options)
                .await?
                .try_collect::<Vec<_>>()
                .await
                .map(drop)
        }
        "events" => {
            let events = runtime.events(EventFilter::of(name)).await?;
            events.take(3).try_collect::<Vec<_>>().await.map(drop)
        }
        "present" => images.present("fetch").await.map(drop),
        "pull" => images
            .pull("fetch", None)
            .await?
            .try_collect::<Vec<_>>()
            .await
            .map(drop),
        "load" => images.load(stream::empty().boxed()).await.map(drop),
        other => unreachable!("{other}"),
    }
}

#[tokio::test]
async fn nonsense_in_place_of_any_answer_ends_the_call() {
    let mut cases = Vec::new();
    for call in CALLS {
        let fake = Fake::impatient(right);
        // Of an engine whose streams end these are not the whole story, but each answer was asked for.
        let _ = soon(call, make(call, &fake.runtime)).await;
        let mut asked = fake.engine.calls();
        asked.sort();
        asked.dedup();
        assert!(asked.len() > 1, "{call}: {asked:?}");
        cases.extend(
            asked
                .into_iter()
                .flat_map(|at| NONSENSE.map(|answer| (call, at.clone(), answer))),
        );
    }
    let tried = stream::iter(cases).map(|(call, at, answer)| async move {
        let place = at.clone();
        let fake = Fake::impatient(move |asked| {
            if asked == place {
                Do::Send(answer)
            } else {
                right(asked)
            }
        });
        let what = format!("{call}, at {at}: {answer:?}");
        let made = std::panic::AssertUnwindSafe(soon(&what, make(call, &fake.runtime)));
        let made = made.catch_unwind().await;
        let said = match made {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => format!("{error} {:?}", std::error::Error::source(&error)),
            Err(_) => "panicked".to_owned(),
        };
        said.contains("panicked").then(|| format!("{what}: {said}"))
    });
    let broken: Vec<_> = tried
        .buffer_unordered(AT_ONCE)
        .filter_map(|broken| async { broken })
        .collect()
        .await;
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Whoever makes an image says how long the labels of its containers are.
#[tokio::test]
async fn a_container_of_which_too_much_is_told_is_named_and_hides_no_other() {
    let labels = json!({"toolhive": "true", "x": "y".repeat(2 << 20)});
    let rows = json!([
        {"Id": "long", "Names": ["/long"], "Labels": labels},
        {"Id": "c", "Names": ["/another"], "State": "running", "Labels": {"toolhive": "true"}},
    ]);
    let fake = Fake::new(move |call| match call {
        call if call.starts_with("GET /containers/json") => Do::Answer(200, rows.clone()),
        call => usual(call),
    });
    let listed = fake.runtime.list().await.unwrap();
    let names: Vec<_> = listed.iter().map(|found| found.instance_name.as_str()).collect();
    assert_eq!(names, ["another"]);
    let which = InstanceRef::named("long".parse().unwrap());
    let error = fake.runtime.remove(&which).await.unwrap_err();
    assert!(format!("{error:?}").contains("TooLong(\"long\")"), "{error:?}");
    assert_eq!(fake.count("DELETE /"), 0);
}
