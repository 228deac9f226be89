//! Networks that others make and take away meanwhile.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use support::fake::{Fake, networks, usual};
use support::meddler::Do;
use support::raw::api;
use support::{TestEngine, unique_name};
use thv_runtime::{DeployOutcome, DeploySpec, Expect, InstanceRef, NetworkMode, Runtime, StopOptions};
use thv_runtime_docker::Flavour;

#[tokio::test]
async fn a_network_that_vanishes_under_a_deployment_is_made_again() {
    let (create, start) = ("POST /containers/create", "POST /containers/abc/start");
    for (vanishes_at, status, words) in [
        (create, 404, "network n0 not found"),
        (
            create,
            500,
            "unable to find network with name or ID n0: network not found",
        ),
        (start, 404, "network n0 not found"),
        (
            start,
            409,
            "network toolhive-external is ambiguous (2 matches found on name)",
        ),
    ] {
        let (made, tried) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let fake = Fake::new(move |call| match call {
            call if call.starts_with("GET /networks") => Do::Answer(200, json!([])),
            "POST /networks/create" => {
                let id = format!("n{}", made.fetch_add(1, Ordering::Relaxed));
                Do::Answer(201, json!({ "Id": id }))
            }
            call if call.starts_with(vanishes_at) && tried.fetch_add(1, Ordering::Relaxed) == 0 => {
                Do::Answer(status, json!({ "message": words }))
            }
            call => usual(call),
        });
        let spec = DeploySpec::new(unique_name(), "fetch");
        let deployed = fake.runtime.deploy(&spec).await.unwrap();
        assert_eq!(deployed.outcome, DeployOutcome::Created, "{vanishes_at}");
        assert_eq!(fake.count("POST /networks/create"), 2);
        let requests = fake.engine.requests();
        let mut creations = requests.iter().filter(|r| r.contains("/containers/create"));
        let last = creations.next_back().unwrap();
        assert!(last.contains(r#""NetworkMode":"n1""#), "{last}");
        // What was made on the network that is gone is not left.
        let undone = usize::from(vanishes_at.ends_with("start"));
        assert_eq!(fake.count("DELETE /containers/abc"), undone, "{vanishes_at}");
    }
}

#[tokio::test]
async fn a_network_that_vanishes_each_time_is_given_up() {
    let fake = Fake::new(|call| match call {
        call if call.starts_with("POST /containers/create") => {
            Do::Answer(404, json!({"message": "network n not found"}))
        }
        call => usual(call),
    });
    let spec = DeploySpec::new(unique_name(), "fetch");
    let error = fake.runtime.deploy(&spec).await.unwrap_err();
    assert!(format!("{error:?}").contains("network n not found"), "{error:?}");
    assert_eq!(fake.count("POST /containers/create"), 6);
    // A network of the user's own is not ours to make.
    let mut spec = DeploySpec::new(unique_name(), "fetch");
    spec.network = NetworkMode::Named("n".to_owned());
    fake.runtime.deploy(&spec).await.unwrap_err();
    assert_eq!(fake.count("POST /containers/create"), 7);
}

/// Engines have told this in either way.
#[tokio::test]
async fn a_network_that_another_process_made_meanwhile_is_used() {
    for (status, words) in [
        (409, "network with name toolhive-external exists, and so on"),
        (500, "network name toolhive-external already exists"),
    ] {
        let looked = AtomicUsize::new(0);
        let fake = Fake::new(move |call| match call {
            call if call.starts_with("GET /networks") && looked.fetch_add(1, Ordering::Relaxed) == 0 => {
                Do::Answer(200, json!([]))
            }
            "POST /networks/create" => Do::Answer(status, json!({ "message": words })),
            call => usual(call),
        });
        let spec = DeploySpec::new(unique_name(), "fetch");
        fake.runtime.deploy(&spec).await.unwrap();
        let requests = fake.engine.requests();
        let on_it = |request: &String| request.contains(r#""NetworkMode":"n""#);
        assert!(requests.iter().any(on_it), "{status}");
        assert_eq!(fake.count("POST /networks/create"), 1);
    }
}

#[tokio::test]
async fn an_old_engine_is_asked_not_to_make_a_second_network_of_the_name() {
    let fake = Fake::new(|call| match call {
        call if call.starts_with("GET /networks") => Do::Answer(200, json!([])),
        "POST /networks/create" => Do::Answer(404, json!({"message": "no"})),
        call => usual(call),
    });
    let spec = DeploySpec::new(unique_name(), "fetch");
    fake.runtime.deploy(&spec).await.unwrap_err();
    let requests = fake.engine.requests().into_iter();
    let made: Vec<_> = requests
        .filter(|request| request.contains("/networks/create"))
        .collect();
    assert_eq!(made.len(), 1);
    assert!(made[0].contains(r#""CheckDuplicate":true"#), "{}", made[0]);
}

#[tokio::test]
async fn of_two_networks_of_the_name_one_is_removed() {
    let removed = AtomicBool::new(false);
    let fake = Fake::new(move |call| match call {
        "GET /version" => Do::Answer(
            200,
            json!({"Version": "20.10", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}),
        ),
        "DELETE /networks/n2" => {
            removed.store(true, Ordering::Relaxed);
            Do::Answer(204, Value::Null)
        }
        call if call.starts_with("GET /networks") => {
            let all: &[_] = if removed.load(Ordering::Relaxed) {
                &["n1"]
            } else {
                &["n2", "n1"]
            };
            Do::Answer(200, networks(all))
        }
        call => usual(call),
    });
    assert_deploys_on_the_older(&fake).await;
}

async fn assert_deploys_on_the_older(fake: &Fake) {
    let spec = DeploySpec::new(unique_name(), "fetch");
    fake.runtime.deploy(&spec).await.unwrap();
    assert_eq!(fake.count("DELETE /networks/n2"), 1);
    let requests = fake.engine.requests();
    let on_it = |request: &String| request.contains(r#""NetworkMode":"n1""#);
    assert!(requests.iter().any(on_it));
}

/// Old engines make both.
#[tokio::test]
async fn of_two_networks_that_were_made_at_once_one_is_removed() {
    let (made, removed) = (AtomicBool::new(false), AtomicBool::new(false));
    let fake = Fake::new(move |call| match call {
        "GET /version" => Do::Answer(200, json!({"Version": "20.10", "ApiVersion": "1.41"})),
        "POST /networks/create" => {
            made.store(true, Ordering::Relaxed);
            Do::Answer(201, json!({"Id": "n2"}))
        }
        "DELETE /networks/n2" => {
            removed.store(true, Ordering::Relaxed);
            Do::Answer(204, Value::Null)
        }
        call if call.starts_with("GET /networks") => {
            let all: &[_] = match (made.load(Ordering::Relaxed), removed.load(Ordering::Relaxed)) {
                (false, _) => &[],
                (true, false) => &["n1", "n2"],
                (true, true) => &["n1"],
            };
            Do::Answer(200, networks(all))
        }
        call => usual(call),
    });
    assert_deploys_on_the_older(&fake).await;
}

#[tokio::test]
async fn the_shared_network_goes_with_the_last_workload_unless_it_is_in_use() {
    let refusals = [
        None,
        Some((403, "network toolhive-external has active endpoints")),
        Some((409, "network is being used")),
        Some((404, "network n not found")),
        Some((500, "error while removing network: has active endpoints")),
    ];
    for refusal in refusals {
        let fake = Fake::new(move |call| match (call, refusal) {
            ("DELETE /networks/n", Some((status, words))) => Do::Answer(status, json!({ "message": words })),
            _ => usual(call),
        });
        let which = InstanceRef::named(unique_name());
        fake.runtime.remove(&which).await.unwrap();
        assert_eq!(fake.count("DELETE /networks/n"), 1);
    }
    // It fails for any other reason.
    let fake = Fake::new(|call| match call {
        "DELETE /networks/n" => Do::Answer(500, json!({"message": "disk full"})),
        call => usual(call),
    });
    let which = InstanceRef::named(unique_name());
    fake.runtime.remove(&which).await.unwrap_err();

    // Another workload is there: it is not even asked.
    let fake = Fake::new(|call| match call {
        call if call.starts_with("GET /containers/json") && call.contains("limit=1") => Do::Answer(
            200,
            json!([{"Id": "b", "Names": ["/another"], "Labels": {"toolhive": "true"}}]),
        ),
        call => usual(call),
    });
    fake.runtime.remove(&which).await.unwrap();
    assert_eq!(fake.count("DELETE /networks/"), 0);
}

/// Podman takes a network away under those who are on it, where it is called by its id.
#[tokio::test]
async fn podman_is_told_which_network_goes_by_its_name() {
    let fake = Fake::new(|call| match call {
        "GET /version" => Do::Answer(
            200,
            json!({"Version": "4.3.1", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]}),
        ),
        "DELETE /networks/toolhive-external" => Do::Answer(
            500,
            json!({"message": "\"toolhive-external\" has associated containers with it. Use -f to forcibly delete \
                containers and pods: network is being used"}),
        ),
        call => usual(call),
    });
    let which = InstanceRef::named(unique_name());
    fake.runtime.remove(&which).await.unwrap();
    assert_eq!(fake.count("DELETE /networks/toolhive-external"), 1);
    assert_eq!(fake.count("DELETE /networks/"), 1);
}

/// Podman leaves what goes away meanwhile out of a list that it has cut before.
#[tokio::test]
async fn a_list_of_one_with_nobody_on_it_does_not_tell_that_nobody_is_left() {
    let fake = Fake::new(|call| match call {
        call if call.starts_with("GET /containers/json")
            && !call.contains("limit=1")
            && !call.contains("name") =>
        {
            let another = json!([{"Id": "b", "Names": ["/another"], "Labels": {"toolhive": "true"}}]);
            Do::Answer(200, another)
        }
        call => usual(call),
    });
    let which = InstanceRef::named(unique_name());
    fake.runtime.remove(&which).await.unwrap();
    assert_eq!(fake.count("DELETE /networks/"), 0);
}

/// On a real engine, whose words for it count.
#[tokio::test]
async fn a_container_whose_network_was_made_anew_is_made_anew() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    if engine.runtime.engine_info().await.unwrap().flavour == Flavour::Podman {
        eprintln!("skipped: Podman keeps a network that a stopped container is on");
        return;
    }
    let network = format!("{}-network", unique_name());
    let path = format!("/v1.41/networks/{network}");
    let make = async || {
        let body = json!({ "Name": network });
        let (status, answer) = api(engine.socket(), "POST", "/v1.41/networks/create", &body).await;
        assert_eq!(status, 201, "{answer}");
    };
    let unmake = async || {
        let (status, answer) = api(engine.socket(), "DELETE", &path, &Value::Null).await;
        assert_eq!(status, 204, "{answer}");
    };
    make().await;
    let mut spec = engine.spec(&["echo"]);
    spec.network = NetworkMode::Named(network.clone());
    let first = engine.runtime.deploy(&spec).await.unwrap();
    spec.expect = Expect::Instance(first.instance.id);
    let which = InstanceRef::named(spec.name.clone());
    engine.runtime.stop(&which, StopOptions::default()).await.unwrap();
    unmake().await;
    make().await;
    let again = engine.runtime.deploy(&spec).await.unwrap();
    assert_eq!(again.outcome, DeployOutcome::Replaced);
    engine.remove(&spec.name).await;
    unmake().await;
}
