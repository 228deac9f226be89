//! What the tools do.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::join;
use tokio::time::sleep;

use crate::catalogue::{PNG, WAV};
use crate::session::{Peer, RpcError, invalid_params};

/// Between two signs of a tool that runs.
const STEP: Duration = Duration::from_millis(50);

fn text(text: impl Into<String>) -> Value {
    json!({ "type": "text", "text": text.into() })
}

fn image() -> Value {
    json!({ "type": "image", "data": PNG, "mimeType": "image/png" })
}

fn resource(uri: &str, kind: &str, content: &str) -> Value {
    json!({ "type": "resource", "resource": { "uri": uri, "mimeType": kind, "text": content } })
}

pub(crate) async fn call(peer: &Peer, params: &Value) -> Result<Value, RpcError> {
    let argument = |name: &str| params["arguments"][name].as_str().unwrap_or_default().to_owned();
    let content = match params["name"].as_str().unwrap_or_default() {
        "test_simple_text" => vec![text("This is a simple text response for testing.")],
        "test_image_content" => vec![image()],
        "test_audio_content" => vec![json!({ "type": "audio", "data": WAV, "mimeType": "audio/wav" })],
        "test_embedded_resource" => vec![resource(
            "test://embedded-resource",
            "text/plain",
            "This is an embedded resource content.",
        )],
        "test_multiple_content_types" => vec![
            text("Multiple content types test:"),
            image(),
            resource(
                "test://mixed-content-resource",
                "application/json",
                r#"{"test":"data","value":123}"#,
            ),
        ],
        "test_tool_with_logging" | "test_logging_tool" => {
            for line in [
                "Tool execution started",
                "Tool processing data",
                "Tool execution completed",
            ] {
                peer.log("info", line);
                sleep(STEP).await;
            }
            vec![text("It has logged")]
        }
        "test_tool_with_progress" => {
            for progress in [0, 50, 100] {
                let token = &params["_meta"]["progressToken"];
                if !token.is_null() {
                    peer.notify(
                        "notifications/progress",
                        json!({ "progressToken": token, "progress": progress, "total": 100 }),
                    );
                }
                sleep(STEP).await;
            }
            vec![text("It has told its progress")]
        }
        "test_error_handling" => return Ok(failed("This tool intentionally returns an error for testing")),
        "test_sampling" => return Ok(sample(peer, &argument("prompt")).await),
        "test_elicitation" => {
            let schema = json!({
                "type": "object",
                "properties": {
                    "username": { "type": "string", "description": "User's response" },
                    "email": { "type": "string", "description": "User's email address" },
                },
                "required": ["username", "email"],
            });
            return Ok(elicit(peer, &argument("message"), schema, "User response").await);
        }
        "test_elicitation_sep1034_defaults" => {
            return Ok(elicit(peer, "Defaults", defaults(), "Elicitation completed").await);
        }
        "test_elicitation_sep1330_enums" => {
            return Ok(elicit(peer, "Choices", choices(), "Elicitation completed").await);
        }
        "test_reconnection" => {
            sleep(STEP).await;
            vec![text("Reconnected")]
        }
        "test_touch_resource" => {
            let uri = "test://watched-resource";
            if peer.listens_to(uri) {
                peer.notify("notifications/resources/updated", json!({ "uri": uri }));
            }
            vec![text("Touched")]
        }
        "test_add_tool" | "test_trigger_tool_change" => {
            peer.notify("notifications/tools/list_changed", json!({}));
            vec![text("Added")]
        }
        "test_trigger_prompt_change" => {
            peer.notify("notifications/prompts/list_changed", json!({}));
            vec![text("Added")]
        }
        "test_custom_header" => vec![text(argument("region"))],
        "test_missing_capability" | "test_input_required_result_sampling" => {
            return Ok(sample(peer, "What is the capital of France?").await);
        }
        "test_streaming_elicitation"
        | "test_input_required_result_elicitation"
        | "test_input_required_result_request_state"
        | "test_input_required_result_tampered_state" => {
            return Ok(told(peer.ask_user("What is your name?", "name").await));
        }
        "test_input_required_result_list_roots" => return Ok(told(roots(peer).await)),
        "test_input_required_result_capabilities" => {
            let (user, model) = join!(
                peer.ask_user("What is your name?", "name"),
                sample(peer, "Generate a greeting")
            );
            return Ok(told(user.or(Ok(model))));
        }
        "test_input_required_result_multiple_inputs" => {
            let (user, model, roots) = join!(
                peer.ask_user("What is your name?", "name"),
                sample(peer, "Generate a greeting"),
                roots(peer)
            );
            let all = user.and_then(|user| Ok(json!([user, model, roots?])));
            return Ok(told(all));
        }
        "test_input_required_result_multi_round" => {
            let name = peer.ask_user("Step 1: What is your name?", "name").await;
            let color = peer
                .ask_user("Step 2: What is your favorite color?", "color")
                .await;
            return Ok(told(name.and_then(|name| Ok(json!([name, color?])))));
        }
        "json_schema_2020_12_tool" => vec![text(params["arguments"].to_string())],
        name => return Err(invalid_params(&format!("no tool {name}"))),
    };
    Ok(json!({ "content": content }))
}

fn failed(why: &str) -> Value {
    json!({ "isError": true, "content": [text(why)] })
}

/// What was answered, or why nothing was.
fn told(answer: Result<Value, String>) -> Value {
    match answer {
        Ok(answer) => json!({ "content": [text(answer.to_string())] }),
        Err(error) => failed(&error),
    }
}

async fn sample(peer: &Peer, prompt: &str) -> Value {
    let asked = json!({ "messages": [{ "role": "user", "content": text(prompt) }], "maxTokens": 100 });
    match peer.ask("sampling", "sampling/createMessage", asked).await {
        Ok(answer) => {
            let content = format!("LLM response: {}", answer["content"]["text"]);
            json!({ "content": [text(content)] })
        }
        Err(error) => failed(&error),
    }
}

async fn roots(peer: &Peer) -> Result<Value, String> {
    peer.ask("roots", "roots/list", json!({})).await
}

async fn elicit(peer: &Peer, message: &str, schema: Value, done: &str) -> Value {
    let asked = json!({ "message": message, "requestedSchema": schema });
    match peer.ask("elicitation", "elicitation/create", asked).await {
        Ok(answer) => {
            let (action, content) = (&answer["action"], &answer["content"]);
            json!({ "content": [text(format!("{done}: action={action}, content={content}"))] })
        }
        Err(error) => failed(&error),
    }
}

fn defaults() -> Value {
    json!({ "type": "object", "required": [], "properties": {
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true },
    } })
}

fn choices() -> Value {
    let titled = |title: &str| {
        let titles = ["First", "Second", "Third"].iter().enumerate();
        titles
            .map(|(at, ordinal)| json!({ "const": format!("value{}", at + 1), "title": format!("{ordinal} {title}") }))
            .collect::<Vec<_>>()
    };
    let plain = ["option1", "option2", "option3"];
    json!({ "type": "object", "required": [], "properties": {
        "untitledSingle": { "type": "string", "enum": plain },
        "titledSingle": { "type": "string", "oneOf": titled("Option") },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": plain } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
    } })
}
