//! Calls that are kept for their clients: under which states, how many, how long, and whose they are meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use thv_proxy::BridgeConfig;
use tokio::time::Instant;

use crate::client::{INVALID, Played, all, complete, retry, yes};
use crate::common::{self, Again};

#[tokio::test]
async fn a_state_is_good_for_its_own_call_and_once() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let (call, told) = bridge.kept(11).await;
    let good = retry(&told, &yes());
    let mut other_arguments = good.clone();
    other_arguments["arguments"] = json!({"a": 2});
    let mut more = good.clone();
    more["cursor"] = json!("c");
    let mut guessed = good.clone();
    guessed["requestState"] = json!("00000000000040008000000000000000");
    let mut written_otherwise = good.clone();
    let state = good["requestState"].as_str().unwrap();
    written_otherwise["requestState"] = json!(state.to_uppercase());
    let mut no_text = good.clone();
    no_text["requestState"] = json!(5);
    let mut no_object = good.clone();
    no_object["inputResponses"] = json!([yes()]);
    for (what, params) in [
        ("other arguments", &other_arguments),
        ("more parameters", &more),
        ("a guessed state", &guessed),
        ("a state that is written otherwise", &written_otherwise),
        ("a state that is no text", &no_text),
        ("answers that are no object", &no_object),
    ] {
        let refused = bridge.call(params).await.unwrap();
        assert_eq!(refused["error"]["code"], INVALID, "{what}: {refused}");
    }
    let twice = format!(r#""requestState":"x","requestState":"{state}""#);
    let refused = bridge
        .call_changed(&good, r#""requestState":"#, &format!("{twice},\"x\":"))
        .await;
    assert_eq!(refused["error"]["code"], INVALID, "two states");
    let mut of_another = good.clone();
    of_another["name"] = json!("u");
    of_another["arguments"] = json!({"a": 1});
    let refused = bridge.ask("tools/call", &of_another, &all()).await.unwrap();
    assert_eq!(refused["error"]["code"], INVALID, "another tool");
    of_another["name"] = json!("t");
    let refused = bridge.ask("prompts/get", &of_another, &all()).await.unwrap();
    assert_eq!(refused["error"]["code"], INVALID, "another method");

    let calling = bridge.call(&good);
    let answer = bridge.wire.next().await.unwrap();
    assert_eq!(answer["id"], 11, "nothing of all that reached the server");
    let refused = bridge.call(&good).await.unwrap();
    assert_eq!(refused["error"]["code"], INVALID, "used already");
    bridge.server_answers(&call, "done").await;
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_come_back_has_given_its_call_up() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let (call, told) = bridge.kept(11).await;
    let began = Instant::now();
    let said = [
        bridge.wire.next().await.unwrap(),
        bridge.wire.next().await.unwrap(),
    ];
    assert_eq!(began.elapsed().as_secs(), 300);
    assert_eq!(said[0]["method"], "notifications/cancelled");
    assert_eq!(said[0]["params"]["requestId"], call);
    assert_eq!(
        (&said[1]["id"], &said[1]["error"]["code"]),
        (&json!(11), &json!(-32000))
    );
    assert_eq!(bridge.bridge.stats().in_flight, 0);
    let refused = bridge.call(&retry(&told, &yes())).await.unwrap();
    assert_eq!(refused["error"]["code"], INVALID);

    // Until the server says so, it may still ask because of that call.
    bridge.server_answers(&call, "given up").await;
    // Each round has the time of a call; what the client takes between them does not count.
    let (call, told) = bridge.kept(12).await;
    tokio::time::sleep(Duration::from_secs(299)).await;
    let calling = bridge.call(&retry(&told, &yes()));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 12);
    tokio::time::sleep(Duration::from_secs(59)).await;
    bridge.server_answers(&call, "done").await;
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
}

#[tokio::test]
async fn a_server_that_ends_meanwhile_has_ended_the_call() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let (_, told) = bridge.kept(11).await;
    let Played {
        bridge: handle,
        service,
        wire,
    } = bridge;
    drop(wire);
    handle.closed().await;
    bridge = Played {
        bridge: handle,
        service,
        wire: common::wire().1,
    };
    let failed = bridge.call(&retry(&told, &yes())).await.unwrap();
    assert_eq!(failed["error"]["code"], -32000, "{failed}");
    bridge.bridge.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_server_that_is_gone_are_in_nobodys_way() {
    let (io, next) = common::wire();
    let backend = Arc::new(Again(Mutex::new(Some(io))));
    let config = BridgeConfig {
        max_in_flight: 4,
        ..BridgeConfig::default()
    };
    let mut bridge = Played::with_backend(backend, config).await;
    let mut told = Vec::new();
    for id in 0..2 {
        let (_, calling) = bridge.asked_by_name(id).await;
        told.push(calling.await.unwrap()["result"].clone());
    }
    // The server ends, and there is another.
    bridge.wire = next;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (ready, ()) = tokio::join!(bridge.bridge.initialize(), bridge.wire.handshake());
    ready.unwrap();
    assert_eq!(bridge.bridge.stats().in_flight, 0);
    let failed = bridge.call(&retry(&told[0], &yes())).await.unwrap();
    assert_eq!(failed["error"]["code"], -32000, "{failed}");
    let said = failed["error"]["message"].as_str().unwrap();
    assert!(said.contains("the server ended"), "{said}");
    for id in 2..4 {
        let (_, calling) = bridge.asked_by_name(id).await;
        let told = calling.await.unwrap();
        assert_eq!(told["result"]["resultType"], "input_required", "{told}");
    }
    bridge.arrived().await;
}

#[tokio::test]
async fn half_of_the_places_are_left_to_calls_that_wait_for_the_server() {
    let config = BridgeConfig {
        max_in_flight: 4,
        ..BridgeConfig::default()
    };
    let mut bridge = Played::new(config).await;
    for id in 0..2 {
        let (_, calling) = bridge.asked_by_name(id).await;
        let told = calling.await.unwrap();
        assert_eq!(told["result"]["resultType"], "input_required", "{told}");
    }
    for id in 2..4 {
        let (call, calling) = bridge.asked_by_name(id).await;
        let refused = bridge.wire.next().await.unwrap();
        assert_eq!(
            (&refused["id"], &refused["error"]["code"]),
            (&json!(id), &json!(-32000))
        );
        bridge.server_answers(&call, "done").await;
        assert_eq!(calling.await.unwrap()["result"], complete("done"));
    }
}

#[tokio::test]
async fn a_call_that_is_kept_holds_none_of_the_memory_for_messages() {
    let config = BridgeConfig {
        body_limit: 64 << 10,
        // As little as may be: room for one.
        body_budget: 0,
        ..BridgeConfig::default()
    };
    let mut bridge = Played::new(config).await;
    for id in 0..5 {
        let large = "x".repeat(40 << 10);
        let params = json!({"name": "t", "arguments": {"a": large}, "_meta": {"progressToken": id}});
        let calling = bridge.ask("tools/call", &params, &all());
        let call = bridge.wire.next().await.unwrap();
        let meta = json!({"progressToken": call["params"]["_meta"]["progressToken"]});
        let asked = json!({"jsonrpc": "2.0", "id": id, "method": "roots/list", "params": {"_meta": meta}});
        bridge.wire.write(&asked.to_string()).await;
        let told = calling.await.unwrap();
        assert_eq!(told["result"]["resultType"], "input_required", "{told}");
    }
}

#[tokio::test]
async fn questions_that_are_kept_are_bounded_in_bytes() {
    let config = BridgeConfig {
        line_limit: 128 << 10,
        // As little as may be: what one line may have.
        answer_budget: 0,
        ..BridgeConfig::default()
    };
    let mut bridge = Played::new(config).await;
    let mut kept = 0;
    for id in 0..20 {
        let (call, mut calling) = bridge.asked_at_length(id, 30 << 10).await;
        let refused = tokio::select! {
            told = &mut calling => {
                let told = told.unwrap();
                assert_eq!(told["result"]["resultType"], "input_required", "{told}");
                kept += 1;
                continue;
            }
            refused = bridge.wire.next() => refused.unwrap(),
        };
        assert_eq!(
            (&refused["id"], &refused["error"]["code"]),
            (&json!(id), &json!(-32000))
        );
        bridge.server_answers(&call, "done").await;
        assert_eq!(
            calling.await.unwrap()["result"],
            complete("done"),
            "its call goes on"
        );
    }
    assert!((1..=4).contains(&kept), "{kept}");
}

#[tokio::test]
async fn a_call_that_waits_for_its_client_still_counts_for_whose_a_question_is() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let (kept, told) = bridge.kept(11).await;
    let other = bridge.call(&json!({}));
    let call = bridge.wire.next().await.unwrap()["id"].clone();
    bridge.server_asks(12, "elicitation/create").await;
    let refused = bridge.wire.next().await.unwrap();
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(12), &json!(-32000)),
        "it may be of the call that is kept"
    );
    bridge.server_answers(&call, "other").await;
    assert_eq!(other.await.unwrap()["result"], complete("other"));

    // Nobody else's call is there now. Its client is asked when it comes back.
    bridge.server_asks(13, "roots/list").await;
    bridge.arrived().await;
    let calling = bridge.call(&retry(&told, &yes()));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 11);
    let told = calling.await.unwrap()["result"].clone();
    let calling = bridge.call(&retry(&told, &json!({"roots": []})));
    let answer = bridge.wire.next().await.unwrap();
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": 13, "result": {"roots": []}})
    );
    bridge.server_answers(&kept, "done").await;
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_say_a_state_at_one_time_one_goes_on() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let (call, told) = bridge.kept(11).await;
    let good = retry(&told, &yes());
    let calls: Vec<_> = (0..16).map(|_| bridge.call(&good)).collect();
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 11);
    bridge.server_answers(&call, "done").await;
    let mut went_on = 0;
    for calling in calls {
        let told = calling.await.unwrap();
        if told["error"]["code"] == INVALID {
            continue;
        }
        assert_eq!(told["result"], complete("done"));
        went_on += 1;
    }
    assert_eq!(went_on, 1);
    bridge.bridge.shutdown().await;
    assert_eq!(bridge.wire.next().await, None, "the server was answered once");
}

#[tokio::test]
async fn calls_that_are_kept_are_bounded_and_a_shutdown_ends_them() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    for number in 0..257 {
        let (call, calling) = bridge.asked_by_name(number).await;
        if number < 256 {
            assert_eq!(calling.await.unwrap()["result"]["resultType"], "input_required");
        } else {
            let refused = bridge.wire.next().await.unwrap();
            assert_eq!(
                (&refused["id"], &refused["error"]["code"]),
                (&json!(256), &json!(-32000))
            );
            bridge.server_answers(&call, "done").await;
            assert_eq!(
                calling.await.unwrap()["result"],
                complete("done"),
                "its call goes on"
            );
        }
    }
    assert_eq!(bridge.bridge.stats().in_flight, 256);
    bridge.bridge.shutdown().await;
    assert_eq!(bridge.bridge.stats().in_flight, 0);
}

#[tokio::test]
async fn a_server_that_takes_back_what_it_asks_does_not_ask_without_end() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let (call, told) = bridge.kept(11).await;
    for id in 100..164 {
        bridge.server_asks(id, "roots/list").await;
        let cancelled =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        bridge.wire.write(&cancelled.to_string()).await;
    }
    bridge.arrived().await;
    bridge.server_asks(200, "roots/list").await;
    let ping = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;
    bridge.wire.write(ping).await;
    let refused = bridge.wire.next().await.unwrap();
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(200), &json!(-32000))
    );
    assert_eq!(bridge.wire.next().await.unwrap()["id"], "p");

    // Its client hears of nothing that was taken back; then the server may ask again.
    let calling = bridge.call(&retry(&told, &yes()));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 11);
    bridge.arrived().await;
    bridge.server_asks(201, "roots/list").await;
    let told = calling.await.unwrap()["result"].clone();
    assert_eq!(told["inputRequests"].as_object().unwrap().len(), 1, "{told}");
    let calling = bridge.call(&retry(&told, &json!({"roots": []})));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 201);
    bridge.server_answers(&call, "done").await;
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
}
