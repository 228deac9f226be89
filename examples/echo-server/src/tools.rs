//! The tools.

use std::time::Duration;

use serde_json::{Value, json};

use crate::log;
use crate::protocol::{Notify, Server};

/// What `big` gives at most, so that a slip in a test does not take the machine's memory.
const BIG_LIMIT: u64 = 256 * 1024 * 1024;

/// Why a call gave no text.
#[derive(Debug)]
pub(crate) enum CallError {
    UnknownTool,
    /// An argument is missing or of the wrong type.
    Argument(String),
    /// The tool ran and failed: a result with `isError`.
    Failed(String),
}

/// The answer of `tools/list`.
pub(crate) fn list() -> Value {
    let tool = |name: &str, description: &str, arguments: &[(&str, &str)]| {
        let properties: serde_json::Map<_, _> = arguments
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), json!({ "type": kind })))
            .collect();
        let required: Vec<_> = arguments.iter().map(|(name, _)| *name).collect();
        json!({
            "name": name, "description": description,
            "inputSchema": { "type": "object", "properties": properties, "required": required },
        })
    };
    json!([
        tool("echo", "Gives the text back", &[("text", "string")]),
        tool("add", "Adds two numbers", &[("a", "number"), ("b", "number")]),
        tool(
            "slow",
            "Answers after ms milliseconds; other calls are not delayed",
            &[("ms", "integer")]
        ),
        tool(
            "progress",
            "Sends `steps` progress notifications, ms apart",
            &[("steps", "integer"), ("ms", "integer")]
        ),
        tool(
            "env",
            "The value of an environment variable",
            &[("name", "string")]
        ),
        tool(
            "whoami",
            "JSON: pid, version, and a token that is new for each process",
            &[]
        ),
        tool("version", "ECHO_VERSION, else the package's version", &[]),
        tool("read", "The content of a file", &[("path", "string")]),
        tool("stderr", "Writes a line to stderr", &[("text", "string")]),
        tool("big", "A text of so many bytes", &[("bytes", "integer")]),
        tool("fail", "Fails with the text (isError)", &[("text", "string")]),
        tool(
            "exit",
            "Ends the process with the code, without an answer",
            &[("code", "integer")]
        ),
    ])
}

/// Runs a tool; `params` are those of `tools/call`.
pub(crate) fn call(
    server: &Server,
    name: &str,
    params: &Value,
    notify: Notify<'_>,
) -> Result<String, CallError> {
    let text = |name: &str| {
        params["arguments"][name]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| CallError::Argument(format!("argument {name:?} must be a string")))
    };
    let number = |name: &str| {
        params["arguments"][name]
            .as_u64()
            .ok_or_else(|| CallError::Argument(format!("argument {name:?} must be a whole number")))
    };
    match name {
        "echo" => text("text"),
        "add" => add(&params["arguments"]),
        "slow" => {
            let ms = number("ms")?;
            std::thread::sleep(Duration::from_millis(ms));
            Ok(format!("slept {ms} ms"))
        }
        "progress" => Ok(progress(
            number("steps")?,
            number("ms")?,
            &params["_meta"]["progressToken"],
            notify,
        )),
        "env" => {
            let name = text("name")?;
            std::env::var(&name).map_err(|_| CallError::Failed(format!("{name} is not set")))
        }
        "whoami" => Ok(json!({
            "pid": std::process::id(), "version": server.version, "instance": server.instance,
        })
        .to_string()),
        "version" => Ok(server.version.clone()),
        "read" => {
            std::fs::read_to_string(text("path")?).map_err(|error| CallError::Failed(error.to_string()))
        }
        "stderr" => {
            log(&text("text")?);
            Ok("written".to_owned())
        }
        "big" => match number("bytes")? {
            bytes if bytes <= BIG_LIMIT => Ok("x".repeat(usize::try_from(bytes).unwrap_or_default())),
            _ => Err(CallError::Argument(format!("at most {BIG_LIMIT} bytes"))),
        },
        "fail" => Err(CallError::Failed(text("text")?)),
        "exit" => std::process::exit(i32::try_from(number("code")?).unwrap_or(1)),
        _ => Err(CallError::UnknownTool),
    }
}

fn add(arguments: &Value) -> Result<String, CallError> {
    let (a, b) = (&arguments["a"], &arguments["b"]);
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64())
        && let Some(sum) = a.checked_add(b)
    {
        return Ok(sum.to_string());
    }
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => Ok((a + b).to_string()),
        _ => Err(CallError::Argument(
            "arguments \"a\" and \"b\" must be numbers".to_owned(),
        )),
    }
}

fn progress(steps: u64, ms: u64, token: &Value, notify: Notify<'_>) -> String {
    for step in 1..=steps {
        std::thread::sleep(Duration::from_millis(ms));
        if !token.is_null() {
            notify(
                json!({
                    "jsonrpc": "2.0", "method": "notifications/progress",
                    "params": { "progressToken": token, "progress": step, "total": steps },
                })
                .to_string(),
            );
        }
    }
    format!("{steps} steps")
}
