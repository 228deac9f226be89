//! Durations on the command line, in Go's form.

use std::time::Duration;

use thv::core::gojson::GoDuration;

/// Reads `3s`, `5m`, `1h30m`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let duration: GoDuration = text.parse().map_err(|error| format!("{error}"))?;
    duration
        .to_std()
        .ok_or_else(|| "a duration is not negative".to_owned())
}
