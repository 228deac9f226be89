//! What is fuzzed: functions that take any bytes, and panic when a promise is broken.
//!
//! ```
//! thv_fuzz_targets::envelope(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
//! thv_fuzz_targets::image_reference(b"localhost:5000/team/echo:1.2");
//! ```
//!
//! A coverage-guided fuzzer calls them from `fuzz/fuzz_targets`, the tests from a stored corpus with seeded changes.

mod bundle;
mod document;
mod envelope;
mod events;
mod lines;
mod reference;

pub use bundle::bundle;
pub use document::registry_document;
pub use envelope::envelope;
pub use events::events;
pub use lines::lines;
pub use reference::image_reference;
