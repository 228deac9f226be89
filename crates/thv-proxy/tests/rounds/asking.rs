//! What is asked, of whom, and how it is answered.

use http_body_util::BodyExt;
use serde_json::json;
use thv_proxy::BridgeConfig;

use crate::client::{Played, all, complete, message, request, retry, yes};

#[tokio::test]
async fn a_call_goes_on_with_what_the_client_answers_as_often_as_the_server_asks() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let (call, told) = bridge.kept(11).await;
    let asked: Vec<_> = told["inputRequests"].as_object().unwrap().values().collect();
    let question = json!({"method": "elicitation/create", "params": {"of": 11}});
    assert_eq!(asked, [&question], "nothing of JSON-RPC is in it");
    let state = told["requestState"].as_str().unwrap();
    assert!(!state.is_empty());
    assert!(!format!("{:?}", bridge.bridge).contains(state), "it is a secret");
    assert_eq!(bridge.bridge.stats().in_flight, 1, "the call is kept");

    let calling = bridge.call(&retry(&told, &yes()));
    let answer = bridge.wire.next().await.unwrap();
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 11, "result": yes()}));
    bridge.server_asks(12, "sampling/createMessage").await;
    let told = calling.await.unwrap()["result"].clone();
    assert_ne!(told["requestState"], state);
    let calling = bridge.call(&retry(&told, &json!({"role": "assistant"})));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 12);
    bridge.server_answers(&call, "done").await;
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
    assert_eq!(bridge.bridge.stats().in_flight, 0);
}

#[tokio::test]
async fn what_is_asked_at_one_time_is_answered_at_one_time_or_asked_again() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let calling = bridge.call(&json!({}));
    let call = bridge.wire.next().await.unwrap()["id"].clone();
    let lines = [
        json!({"jsonrpc": "2.0", "id": "a", "method": "elicitation/create", "params": {}}),
        json!({"jsonrpc": "2.0", "id": "b", "method": "roots/list"}),
    ];
    bridge.wire.write(&format!("{}\n{}", lines[0], lines[1])).await;
    let told = calling.await.unwrap()["result"].clone();
    let asked = told["inputRequests"].as_object().unwrap();
    assert_eq!(asked.len(), 2, "{told}");
    let (roots, other): (Vec<_>, Vec<_>) = asked
        .iter()
        .partition(|(_, asked)| asked["method"] == "roots/list");
    assert_eq!(roots[0].1, &json!({"method": "roots/list"}));

    // One answer is there, one is none, and one was not asked for.
    let answers = json!({roots[0].0: {"roots": []}, other[0].0: "yes", "q999": {}});
    let again = json!({"requestState": told["requestState"], "inputResponses": answers});
    let told = bridge.call(&again).await.unwrap()["result"].clone();
    let answer = bridge.wire.next().await.unwrap();
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": "b", "result": {"roots": []}})
    );
    let left: Vec<_> = told["inputRequests"].as_object().unwrap().keys().collect();
    assert_eq!(left, [other[0].0]);

    // The server takes its question back: there is nothing more to ask.
    let cancelled =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "a"}});
    bridge.wire.write(&cancelled.to_string()).await;
    bridge.server_answers(&call, "done").await;
    bridge.arrived().await;
    let calling = bridge.call(&json!({"requestState": told["requestState"]}));
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
    bridge.bridge.shutdown().await;
    assert_eq!(bridge.wire.next().await, None, "nothing was said about it");
}

#[tokio::test]
async fn an_answer_may_be_written_over_several_lines() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let (call, told) = bridge.kept(11).await;
    let again = retry(&told, &yes());
    let calling = bridge.call_changed(&again, r#"{"action""#, "{\r\n\t\"action\"");
    let server = async {
        let answer = bridge.wire.next().await.unwrap();
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 11, "result": yes()}));
        let done = json!({"jsonrpc": "2.0", "id": call, "result": {}});
        bridge.wire.write(&done.to_string()).await;
    };
    let (told, ()) = tokio::join!(calling, server);
    assert_eq!(told["result"], json!({"resultType": "complete"}));
}

#[tokio::test]
async fn nobody_is_asked_for_what_it_has_not_declared_or_where_it_cannot_answer() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let tool = json!({"name": "t"});
    for (method, params, able, asked) in [
        ("tools/call", &tool, json!({"sampling": {}}), "elicitation/create"),
        ("tools/call", &tool, json!({}), "roots/list"),
        (
            "tools/call",
            &tool,
            json!({"elicitation": {"url": {}}}),
            "elicitation/create",
        ),
        ("tools/call", &tool, json!({"tasks": {}}), "tasks/list"),
        ("completion/complete", &json!({}), all(), "roots/list"),
    ] {
        let calling = bridge.ask(method, params, &able);
        let call = bridge.wire.next().await.unwrap()["id"].clone();
        bridge.server_asks(3, asked).await;
        let refused = bridge.wire.next().await.unwrap();
        assert_eq!(
            (&refused["id"], &refused["error"]["code"]),
            (&json!(3), &json!(-32601))
        );
        bridge.server_answers(&call, "done").await;
        assert_eq!(calling.await.unwrap()["result"], complete("done"), "{method}");
    }
    // What a client can be asked for, it says anew each time.
    let (call, told) = bridge.kept(11).await;
    let mut again = retry(&told, &yes());
    again["name"] = json!("t");
    again["arguments"] = json!({"a": 1});
    let calling = bridge.ask("tools/call", &again, &json!({}));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 11);
    bridge.server_asks(12, "elicitation/create").await;
    assert_eq!(bridge.wire.next().await.unwrap()["error"]["code"], -32601);
    bridge.server_answers(&call, "done").await;
    assert_eq!(calling.await.unwrap()["result"], complete("done"));
}

#[tokio::test]
async fn whose_call_it_was_must_be_known() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let mine = bridge.call(&json!({"_meta": {"progressToken": "mine"}}));
    let first = bridge.wire.next().await.unwrap();
    let other = bridge.call(&json!({}));
    let second = bridge.wire.next().await.unwrap();
    bridge.server_asks(3, "elicitation/create").await;
    let refused = bridge.wire.next().await.unwrap();
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(3), &json!(-32000))
    );
    let token = first["params"]["_meta"]["progressToken"].clone();
    let asked = json!({"jsonrpc": "2.0", "id": 4, "method": "roots/list", "params": {"_meta": {"progressToken": token}}});
    bridge.wire.write(&asked.to_string()).await;
    let told = mine.await.unwrap()["result"].clone();
    assert_eq!(told["resultType"], "input_required");
    bridge.server_answers(&second["id"], "other").await;
    assert_eq!(other.await.unwrap()["result"], complete("other"));
}

#[tokio::test]
async fn progress_goes_to_the_round_that_is_under_way() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let params = json!({"name": "t", "_meta": {"progressToken": "one"}});
    let first = request(
        "tools/call",
        &params,
        &all(),
        "application/json, text/event-stream",
    );
    let calling = tokio::spawn(bridge.service.ask(first));
    let call = bridge.wire.next().await.unwrap();
    bridge.server_asks(3, "roots/list").await;
    let told = message(calling.await.unwrap()).await["result"].clone();
    let token = &call["params"]["_meta"]["progressToken"];
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
    // Nobody listens now.
    bridge.wire.write(&progress.to_string()).await;
    bridge.arrived().await;
    let mut again = retry(&told, &json!({"roots": []}));
    again["name"] = json!("t");
    again["_meta"] = json!({"progressToken": "two"});
    let second = request(
        "tools/call",
        &again,
        &all(),
        "application/json, text/event-stream",
    );
    let calling = tokio::spawn(bridge.service.ask(second));
    assert_eq!(bridge.wire.next().await.unwrap()["id"], 3);
    bridge.wire.write(&progress.to_string()).await;
    bridge.server_answers(&call["id"], "done").await;
    let bytes = calling
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let text = std::str::from_utf8(&bytes).unwrap();
    assert_eq!(text.matches("notifications/progress").count(), 1, "{text}");
    assert!(
        text.contains(r#""progressToken":"two""#) && text.contains("done"),
        "{text}"
    );
}
