//! Being told of what changes in a folder.

use std::ffi::OsStr;
use std::io;

use notify::RecommendedWatcher;

/// A watcher that calls `tell` when something changes in the folders that it is given, or one of them itself. What has another
/// name than `concerns` says is passed over, and so is who only looks: he would be told of himself, and look again.
pub(crate) fn watcher(
    concerns: impl Fn(&OsStr) -> bool + Send + 'static,
    tell: impl Fn() + Send + 'static,
) -> io::Result<RecommendedWatcher> {
    let is_change = move |event: notify::Event| {
        let mut names = event.paths.iter().map(|path| path.file_name());
        let concerns = event.paths.is_empty() || names.any(|name| name.is_none_or(&concerns));
        concerns && !event.kind.is_access()
    };
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may hide a change.
        if event.map_or(true, &is_change) {
            tell();
        }
    })
    .map_err(io::Error::other)
}
