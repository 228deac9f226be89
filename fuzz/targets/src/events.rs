use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use serde_json::Value;
use thv_proxy::{Body, Layer, ProxyService, ToolPolicy};
use tokio::runtime::{Builder, Runtime};

/// A stream of server-sent events behind a tool filter, cut into pieces in different ways: whoever reads what comes out by the
/// book never sees a tool that is filtered, and sees the same however it was cut.
///
/// # Panics
/// When a tool gets through.
pub fn events(bytes: &[u8]) {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().build().expect("an async runtime"));
    let whole = messages(&RUNTIME.block_on(filtered(bytes, bytes.len().max(1))));
    for size in [1, 7] {
        let pieces = messages(&RUNTIME.block_on(filtered(bytes, size)));
        assert_eq!(pieces, whole, "in pieces of {size}");
    }
    for data in whole {
        let Ok(message) = serde_json::from_slice::<Value>(&data) else {
            continue;
        };
        let tools = message["result"]["tools"].as_array();
        for tool in tools.into_iter().flatten() {
            assert_ne!(tool["name"], "hidden", "{message}");
        }
    }
}

async fn filtered(bytes: &[u8], size: usize) -> Vec<u8> {
    let pieces: Vec<_> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
    let policy = ToolPolicy::new(&["seen".to_owned()], &BTreeMap::new()).expect("a filter");
    let server = ProxyService::new(move |_: Request<Body>| {
        let body = Body::stream(stream::iter(pieces.clone().into_iter().map(Ok)));
        let answer = Response::builder()
            .header("content-type", "text/event-stream")
            .body(body);
        async move { answer.expect("a response") }
    });
    let service = Layer::tool_lists(policy).around(server);
    let request = Request::new(Body::empty());
    let answer = service.ask(request).await;
    let body = answer.into_body().collect().await;
    body.expect("the stream ends in order").to_bytes().to_vec()
}

/// The data of each event, as the standard reads a stream: lines end with a carriage return, a line feed, or both, and an event
/// at a blank line.
fn messages(stream: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(stream)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut all = Vec::new();
    let mut data: Option<Vec<u8>> = None;
    for line in text.split('\n') {
        if line.is_empty() {
            all.extend(data.take());
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value.as_bytes());
                }
                None => data = Some(value.as_bytes().to_vec()),
            }
        }
    }
    all
}
