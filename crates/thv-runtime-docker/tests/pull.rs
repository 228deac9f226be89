//! Pulls that are whole, and pulls that break in the middle.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it is skipped"
)]

mod support;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::fake::Fake;
use support::meddler::{Do, Meddler, version};
use support::raw::api;
use support::registry::{Registry, Trouble};
use support::{TestEngine, soon};
use thv_core::RegistryCredentials;
use thv_runtime::{Error, PullProgress, Result, Runtime};
use thv_runtime_docker::{DockerConfig, DockerRuntime, Flavour};
use tokio::time::timeout;

async fn pulled(runtime: &DockerRuntime, reference: &str) -> (Vec<PullProgress>, Result<()>) {
    let images = runtime.images().unwrap();
    let mut progress = match images.pull(reference, None).await {
        Ok(progress) => progress,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut steps = Vec::new();
    while let Some(step) = progress.next().await {
        match step {
            Ok(step) => steps.push(step),
            Err(error) => {
                assert!(progress.next().await.is_none(), "nothing comes after a failure");
                return (steps, Err(error));
            }
        }
    }
    (steps, Ok(()))
}

/// An engine that needs no TLS with a registry on loopback. Podman does, unless its own files name the registry.
async fn pulling_from_loopback() -> Option<TestEngine> {
    let engine = TestEngine::get().await?;
    if engine.runtime.engine_info().await.unwrap().flavour == Flavour::Podman {
        eprintln!("skipped: Podman asks a registry on loopback for TLS");
        return None;
    }
    Some(engine)
}

#[tokio::test]
async fn a_pull_whose_answer_breaks_off_is_a_failure_that_may_be_tried_again() {
    for answer in [
        // Broken in the middle of a chunk, between two, and where only the end of the connection tells the end.
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30\r\n{\"status\":\"Pulling\"}\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n{\"status\":\"Pulling\"}\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"Pulling\"}\n",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let _engine = Meddler::open(&socket, Path::new("/nowhere"), move |_, call| match call {
            "GET /version" => version(),
            call if call.starts_with("POST /images/create") => Do::Send(answer),
            _ => Do::Answer(404, json!({"message": "No such image"})),
        });
        let runtime = DockerRuntime::new(DockerConfig::at(&socket));
        let (_, end) = soon("the end", pulled(&runtime, "example.test/fetch:1")).await;
        let error = end.unwrap_err();
        assert!(error.is_retryable(), "{answer:?}: {error:?}");
    }
}

/// As Docker does when it is shut down; the image that is there may be the one before.
#[tokio::test]
async fn a_pull_whose_answer_ends_before_it_came_to_anything_is_none() {
    const CUT: &str = "{\"status\":\"Downloading\",\"id\":\"a1\"}\n";
    const WHOLE: &str =
        "{\"status\":\"Downloading\",\"id\":\"a1\"}\n{\"status\":\"Status: Image is up to date\"}\n";
    let podman = json!({"Version": "4.3.1", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]});
    let docker = json!({"Version": "26.1", "ApiVersion": "1.45"});
    for (version, said, is_there, expected) in [
        (&docker, CUT, true, false),
        (&docker, WHOLE, true, true),
        // Says no such thing.
        (&podman, CUT, true, true),
        (&podman, CUT, false, false),
    ] {
        let answer: &'static str =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()).leak();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let told = version.clone();
        let _engine = Meddler::open(&socket, Path::new("/nowhere"), move |_, call| match call {
            "GET /version" => Do::Answer(200, told.clone()),
            "GET /info" => Do::Answer(200, json!({})),
            call if call.starts_with("POST /images/create") => Do::Send(answer),
            _ if is_there => Do::Answer(200, json!({"Id": "sha256:0000"})),
            _ => Do::Answer(404, json!({"message": "no such image"})),
        });
        let runtime = DockerRuntime::new(DockerConfig::at(&socket));
        let (_, end) = soon("the end", pulled(&runtime, "example.test/fetch:1")).await;
        assert_eq!(end.is_ok(), expected, "{version} {said}: {end:?}");
        assert!(end.err().is_none_or(|error| error.is_retryable()));
    }
}

#[tokio::test]
async fn a_pull_shows_its_progress_and_goes_on_after_the_registry_broke_off() {
    let Some(engine) = pulling_from_loopback().await else {
        return;
    };
    let registry = Registry::start(Trouble::Breaks(1)).await;
    let pull = pulled(&engine.runtime, &registry.reference);
    let (steps, end) = timeout(Duration::from_mins(5), pull).await.unwrap();
    end.unwrap();
    assert!(
        registry.asked.load(Ordering::Relaxed) > 1,
        "the layer did not break off"
    );
    assert!(
        steps
            .iter()
            .any(|step| step.layer.is_some() && step.current.is_some() && step.total > step.current),
        "{steps:?}"
    );
    let images = engine.runtime.images().unwrap();
    assert!(images.present(&registry.reference).await.unwrap());

    // A pull that is given up, and one whose registry is away, leave what is there.
    drop(images.pull(&registry.reference, None).await.unwrap());
    let reference = registry.reference.clone();
    drop(registry);
    let (_, end) = timeout(Duration::from_mins(5), pulled(&engine.runtime, &reference))
        .await
        .unwrap();
    assert!(matches!(end, Err(Error::PullFailed { .. })), "{end:?}");
    assert!(images.present(&reference).await.unwrap());
    let path = format!("/v1.41/images/{reference}");
    assert_eq!(api(engine.socket(), "DELETE", &path, &Value::Null).await.0, 200);
}

#[tokio::test]
async fn a_pull_that_is_cut_in_the_middle_leaves_the_old_image_under_its_tag() {
    let Some(engine) = pulling_from_loopback().await else {
        return;
    };
    let registry = Registry::start(Trouble::Breaks(0)).await;
    let reference = registry.reference.as_str();
    let images = engine.runtime.images().unwrap();
    let there = async || {
        images
            .resolve_local(reference)
            .await
            .unwrap()
            .map(|image| image.id)
    };
    let (_, end) = timeout(Duration::from_mins(5), pulled(&engine.runtime, reference))
        .await
        .unwrap();
    end.unwrap();
    let old = there().await;
    assert!(old.is_some());

    // The next version stops in the middle, and then the connection to the engine breaks.
    registry.offer("2", Trouble::Stalls);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let front = Meddler::open(&socket, engine.socket(), |_, _| Do::Forward);
    let through = DockerRuntime::new(DockerConfig::at(&socket));
    let asked = registry.asked.load(Ordering::Relaxed);
    let mut pull = through.images().unwrap().pull(reference, None).await.unwrap();
    soon("the middle", async {
        while registry.asked.load(Ordering::Relaxed) == asked {
            pull.next().await.unwrap().unwrap();
        }
    })
    .await;
    drop(front);
    let broken = soon("the end", async {
        loop {
            match pull.next().await.unwrap() {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(broken.is_retryable(), "{broken:?}");
    assert_eq!(there().await, old);

    // Another attempt brings it.
    registry.offer("2", Trouble::Breaks(0));
    let (_, end) = timeout(Duration::from_mins(5), pulled(&engine.runtime, reference))
        .await
        .unwrap();
    end.unwrap();
    let new = there().await;
    assert!(new.is_some() && new != old);
    for image in [reference, old.as_deref().unwrap()] {
        let path = format!("/v1.41/images/{image}");
        assert_eq!(
            api(engine.socket(), "DELETE", &path, &Value::Null).await.0,
            200,
            "{image}"
        );
    }
}

/// What the registry says of the time to wait, an engine keeps to itself.
#[tokio::test]
async fn a_registry_that_was_asked_too_often_is_told_apart_by_its_name() {
    let Some(engine) = pulling_from_loopback().await else {
        return;
    };
    let registry = Registry::start(Trouble::Limited).await;
    let pull = pulled(&engine.runtime, &registry.reference);
    let (_, end) = timeout(Duration::from_mins(5), pull).await.unwrap();
    let error = end.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let Error::RateLimited {
        registry: of, source, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert!(registry.reference.starts_with(&format!("{of}/")), "{of}");
    assert!(
        source
            .to_string()
            .contains("You have reached your pull rate limit"),
        "{source}"
    );
}

/// Engines have their own words for it, at once or in the middle of a pull. Those of registries may speak of access as well.
#[tokio::test]
async fn a_rate_limit_is_known_by_the_words_of_each_engine() {
    for words in [
        "toomanyrequests: You have reached your unauthenticated pull rate limit",
        "toomanyrequests: retry-after: 123.4\u{b5}s, allowed: 44000/minute: denied for now",
        "failed to resolve reference \"docker.io/their/tool:1\": unexpected status from HEAD request to \
         https://registry-1.docker.io/v2/their/tool/manifests/1: 429 Too Many Requests",
        "reading manifest 1 in docker.io/their/tool: too many requests to registry",
        "initializing source docker://their/tool:1: reading manifest 1 in docker.io/their/tool: StatusCode: 429, slow down",
    ] {
        for error in failed_with(words).await {
            assert_eq!(error.code(), "rate_limited", "{words}: {error:?}");
            assert!(error.is_retryable() && error.to_string().contains("docker.io"));
        }
    }
}

#[tokio::test]
async fn a_registry_that_fails_itself_is_asked_again_later() {
    for words in [
        "received unexpected HTTP status: 503 Service Unavailable",
        "failed to resolve reference \"docker.io/their/tool:1\": unexpected status from HEAD request to \
         https://registry-1.docker.io/v2/their/tool/manifests/1: 502 Bad Gateway",
        "initializing source docker://their/tool:1: reading manifest 1 in docker.io/their/tool: received unexpected HTTP \
         status: 500 Internal Server Error",
    ] {
        for error in failed_with(words).await {
            assert_eq!(error.code(), "pull_failed", "{words}: {error:?}");
            assert!(error.is_retryable(), "{error:?}");
        }
    }
}

/// What comes of pulls for which an engine has these words, at once and in the middle.
async fn failed_with(words: &'static str) -> [Error; 2] {
    let told = json!({"errorDetail": {"message": words}, "error": words}).to_string();
    let stream: &'static str = format!("HTTP/1.1 200 OK\r\n\r\n{told}\n").leak();
    let pull = async |at_once| {
        let fake = Fake::new(move |call| match call {
            "GET /version" => version(),
            call if call.starts_with("POST /images/create") && at_once => {
                Do::Answer(500, json!({ "message": words }))
            }
            call if call.starts_with("POST /images/create") => Do::Send(stream),
            _ => Do::Answer(404, json!({"message": "No such image"})),
        });
        let (_, end) = soon("the end", pulled(&fake.runtime, "their/tool:1")).await;
        end.unwrap_err()
    };
    [pull(true).await, pull(false).await]
}

#[tokio::test]
async fn the_platform_that_is_wanted_is_what_the_engine_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let engine = Meddler::open(&socket, Path::new("/nowhere"), |_, call| match call {
        "GET /version" => version(),
        call if call.starts_with("POST /images/create") => Do::Send(
            "HTTP/1.1 200 OK\r\n\r\n{\"errorDetail\":{\"message\":\"no matching manifest\"},\
             \"error\":\"no matching manifest for it in it\"}\n",
        ),
        _ => Do::Answer(404, json!({"message": "No such image"})),
    });
    let runtime = DockerRuntime::new(DockerConfig::at(&socket));
    let images = runtime.images().unwrap();
    for platform in [None, Some("linux/arm64/v8")] {
        let mut pull = images.pull("example.test/fetch:1", platform).await.unwrap();
        let error = soon("the end", pull.next()).await.unwrap().unwrap_err();
        // An image that is not made for it is not there, and no other one is taken for it.
        assert!(matches!(error, Error::ImageNotFound { .. }), "{error:?}");
    }
    let asked: Vec<_> = engine
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("POST"))
        .collect();
    assert!(!asked[0].contains("platform"), "{asked:?}");
    assert!(asked[1].ends_with("&platform=linux%2Farm64%2Fv8"), "{asked:?}");
}

#[tokio::test]
async fn credentials_are_told_for_the_registry_of_the_image_and_with_nothing_else() {
    let fake = Fake::new(|call| match call {
        "GET /version" => version(),
        call if call.starts_with("POST /images/create") => {
            Do::Answer(200, json!({"status": "Status: Downloaded newer image"}))
        }
        _ => Do::Answer(200, json!({"Id": "sha256:0000"})),
    });
    let images = fake.runtime.images().unwrap();
    let (user, password) = ("me".to_owned(), "hunter2".to_owned());
    let password = RegistryCredentials::Password { user, password };
    let identity = RegistryCredentials::Identity("a token".to_owned());
    let mut expected = Vec::new();
    for (reference, server) in [
        ("registry.test:5000/a/fetch:1", "registry.test:5000"),
        ("localhost/fetch:1", "localhost"),
        ("me/fetch:1", "https://index.docker.io/v1/"),
        ("fetch", "https://index.docker.io/v1/"),
    ] {
        for (credentials, mut said) in [
            (Some(&password), json!({"username": "me", "password": "hunter2"})),
            (Some(&identity), json!({"identitytoken": "a token"})),
            (None, Value::Null),
        ] {
            let pull = match credentials {
                Some(credentials) => images.pull_as(reference, None, credentials).await,
                None => images.pull(reference, None).await,
            };
            let steps: Vec<_> = pull.unwrap().collect().await;
            assert!(steps.iter().all(Result::is_ok), "{steps:?}");
            if let Some(said) = said.as_object_mut() {
                said.insert("serveraddress".to_owned(), server.into());
            }
            expected.push(said);
        }
    }
    let requests = fake.engine.requests();
    let (pulls, others): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.starts_with("POST "));
    let told: Vec<_> = pulls.into_iter().map(|request| auth_of(request)).collect();
    assert_eq!(told, expected);
    assert!(others.iter().all(|request| auth_of(request).is_null()));
}

/// What a request says about who asks.
fn auth_of(request: &str) -> Value {
    let mut lines = request.lines();
    let auth = lines.find_map(|line| line.strip_prefix("x-registry-auth: "));
    auth.map_or(Value::Null, |auth| {
        serde_json::from_slice(&URL_SAFE.decode(auth).unwrap()).unwrap()
    })
}
