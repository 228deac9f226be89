//! What the server offers: lists, resources and prompts.

use serde_json::{Value, json};

use crate::session::{Peer, RpcError, invalid_params};

/// One red pixel.
pub(crate) const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// One silent sample.
pub(crate) const WAV: &str = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA==";

const SIMPLE_TOOLS: [(&str, &str); 26] = [
    ("test_simple_text", "Returns text"),
    ("test_image_content", "Returns an image"),
    ("test_audio_content", "Returns a sound"),
    ("test_embedded_resource", "Returns a resource"),
    (
        "test_multiple_content_types",
        "Returns text, an image and a resource",
    ),
    ("test_tool_with_logging", "Logs while it runs"),
    ("test_tool_with_progress", "Reports progress while it runs"),
    ("test_error_handling", "Always fails"),
    (
        "test_elicitation_sep1034_defaults",
        "Asks for input with default values",
    ),
    (
        "test_elicitation_sep1330_enums",
        "Asks for input with all forms of choice",
    ),
    ("test_reconnection", "Closes its event stream before it answers"),
    (
        "test_touch_resource",
        "Tells those who listen that the watched resource has changed",
    ),
    (
        "test_add_tool",
        "Tells everybody that the list of tools has changed",
    ),
    (
        "test_trigger_tool_change",
        "Tells everybody that the list of tools has changed",
    ),
    (
        "test_trigger_prompt_change",
        "Tells everybody that the list of prompts has changed",
    ),
    ("test_logging_tool", "Logs while it runs"),
    ("test_missing_capability", "Asks the client's model"),
    ("test_streaming_elicitation", "Asks the user"),
    ("test_input_required_result_elicitation", "Asks the user"),
    ("test_input_required_result_sampling", "Asks the client's model"),
    ("test_input_required_result_list_roots", "Asks for the roots"),
    ("test_input_required_result_request_state", "Asks the user"),
    ("test_input_required_result_tampered_state", "Asks the user"),
    (
        "test_input_required_result_capabilities",
        "Asks the user and the client's model, as far as it has them",
    ),
    (
        "test_input_required_result_multiple_inputs",
        "Asks the user, the client's model and for the roots at once",
    ),
    (
        "test_input_required_result_multi_round",
        "Asks the user two times",
    ),
];

pub(crate) fn tools() -> Value {
    let nothing = json!({ "type": "object", "properties": {} });
    let text = |name: &str| json!({ "type": "object", "properties": { name: { "type": "string" } }, "required": [name] });
    let tool = |name: &str, description: &str, schema: Value| json!({ "name": name, "description": description, "inputSchema": schema });
    let mut tools: Vec<Value> = SIMPLE_TOOLS
        .iter()
        .map(|(name, description)| tool(name, description, nothing.clone()))
        .collect();
    tools.push(tool("test_sampling", "Asks the client's model", text("prompt")));
    tools.push(tool("test_elicitation", "Asks the user", text("message")));
    tools.push(tool(
        "json_schema_2020_12_tool",
        "Has a schema of draft 2020-12",
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": { "address": { "$anchor": "address", "type": "object", "properties": {
                "street": { "type": "string" }, "city": { "type": "string" },
            } } },
            "properties": { "name": { "type": "string" }, "address": { "$ref": "#/$defs/address" } },
            "allOf": [{ "anyOf": [{ "required": ["name"] }, { "required": ["address"] }] }],
            "if": { "required": ["address"] }, "then": { "required": ["name"] }, "else": {},
            "additionalProperties": false,
        }),
    ));
    tools.push(tool(
        "test_custom_header",
        "Has an argument that a header repeats",
        json!({
            "type": "object",
            "properties": { "region": { "type": "string", "x-mcp-header": "Region" } },
            "required": ["region"],
        }),
    ));
    json!({ "tools": tools })
}

pub(crate) fn resources() -> Value {
    let resource =
        |uri: &str, kind: &str| json!({ "uri": uri, "name": uri, "description": uri, "mimeType": kind });
    json!({ "resources": [
        resource("test://static-text", "text/plain"),
        resource("test://static-binary", "image/png"),
        resource("test://watched-resource", "text/plain"),
    ] })
}

pub(crate) fn templates() -> Value {
    json!({ "resourceTemplates": [{
        "uriTemplate": "test://template/{id}/data", "name": "template",
        "description": "Data of an id", "mimeType": "application/json",
    }] })
}

pub(crate) fn read(params: &Value) -> Result<Value, RpcError> {
    let uri = params["uri"].as_str().unwrap_or_default();
    let (kind, key, content) = match uri {
        "test://static-text" | "test://watched-resource" => (
            "text/plain",
            "text",
            "This is the content of the static text resource.".to_owned(),
        ),
        "test://static-binary" => ("image/png", "blob", PNG.to_owned()),
        _ => {
            let id = uri
                .strip_prefix("test://template/")
                .and_then(|rest| rest.strip_suffix("/data"));
            let Some(id) = id else {
                return Err((-32002, format!("no resource {uri}")));
            };
            let text = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            ("application/json", "text", text.to_string())
        }
    };
    Ok(json!({ "contents": [{ "uri": uri, "mimeType": kind, key: content }] }))
}

pub(crate) fn prompts() -> Value {
    let prompt = |name: &str, arguments: &[&str]| {
        let arguments: Vec<Value> = arguments
            .iter()
            .map(|name| json!({ "name": name, "description": name, "required": true }))
            .collect();
        json!({ "name": name, "description": name, "arguments": arguments })
    };
    json!({ "prompts": [
        prompt("test_simple_prompt", &[]),
        prompt("test_prompt_with_arguments", &["arg1", "arg2"]),
        prompt("test_prompt_with_embedded_resource", &["resourceUri"]),
        prompt("test_prompt_with_image", &[]),
        prompt("test_input_required_result_prompt", &[]),
    ] })
}

pub(crate) async fn prompt(peer: &Peer, params: &Value) -> Result<Value, RpcError> {
    let argument = |name: &str| params["arguments"][name].as_str().unwrap_or_default().to_owned();
    let text = |text: String| json!({ "role": "user", "content": { "type": "text", "text": text } });
    let messages = match params["name"].as_str().unwrap_or_default() {
        "test_simple_prompt" => json!([text("This is a simple prompt for testing.".into())]),
        "test_prompt_with_arguments" => json!([text(format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1"),
            argument("arg2")
        ))]),
        "test_prompt_with_embedded_resource" => json!([
            { "role": "user", "content": { "type": "resource", "resource": {
                "uri": argument("resourceUri"), "mimeType": "text/plain",
                "text": "Embedded resource content for testing.",
            } } },
            text("Please process the embedded resource above.".into()),
        ]),
        "test_prompt_with_image" => json!([
            { "role": "user", "content": { "type": "image", "data": PNG, "mimeType": "image/png" } },
            text("Please analyze the image above.".into()),
        ]),
        "test_input_required_result_prompt" => {
            let asked = peer
                .ask_user("What context should the prompt use?", "context")
                .await;
            let context = asked.map_err(|error| invalid_params(&error))?;
            json!([text(format!("Prompt with {context}"))])
        }
        name => return Err(invalid_params(&format!("no prompt {name}"))),
    };
    Ok(json!({ "messages": messages }))
}
