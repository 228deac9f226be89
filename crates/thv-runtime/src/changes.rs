//! Being told of what changes in a folder.

use std::io;

use notify::RecommendedWatcher;

/// A watcher that calls `tell` when something changes in the folders that it is given. Who only looks changes nothing: he would be
/// told of himself, and look again.
pub(crate) fn watcher(tell: impl Fn() + Send + 'static) -> io::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may hide a change.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            tell();
        }
    })
    .map_err(io::Error::other)
}
