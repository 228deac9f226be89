//! The headers of MCP over HTTP, which need not be read as text at each look.

use http::HeaderName;

pub(crate) static SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) static PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(crate) static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
