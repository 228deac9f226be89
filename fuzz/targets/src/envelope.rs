use serde_json::Value;
use thv_proxy::jsonrpc::{self, Kind};

/// A JSON-RPC message: what is taken for one is one for another parser too, with the same members, and an id that stands in it
/// is found at either end of it.
///
/// # Panics
/// When the two disagree.
pub fn envelope(bytes: &[u8]) {
    // Whatever they are given.
    let _ = (jsonrpc::ids_at_start(bytes), jsonrpc::ids_at_end(bytes));
    let _ = (jsonrpc::is_batch(bytes), jsonrpc::member(bytes, "method"));
    let Ok(found) = jsonrpc::scan(bytes) else {
        return;
    };
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        // Numbers and nesting beyond what that parser takes.
        return;
    };
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let id = found.id.map(|span| read(span.of(bytes)));
    assert_eq!(id.flatten().as_ref(), value.get("id"), "id");
    let params = found.params.map(|span| read(span.of(bytes)));
    assert_eq!(params.flatten().as_ref(), value.get("params"), "params");
    let method = found.method.map(|span| read(span.of(bytes)));
    assert_eq!(method.flatten().as_ref(), value.get("method"), "method");
    let is_call = value.get("method").is_some();
    assert_eq!(found.kind() != Kind::Response, is_call, "kind");
    let id = found.id.map(|span| span.of(bytes)).filter(|id| *id != b"null");
    if let Some(id) = id {
        let there = jsonrpc::ids_at_start(bytes);
        assert!(
            there.contains(&id),
            "{:?} is not among {there:?}",
            id.escape_ascii()
        );
    }
}
