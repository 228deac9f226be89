//! ToolHive's status file: five fixed keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thv_core::WorkloadStatus;
use thv_core::gojson::{self, GoTime, Json};

/// Larger files are no status files.
pub(crate) const MAX_SIZE: u64 = 1 << 20;

/// A status file. Written with an indent of two spaces and no newline at its end, as ToolHive does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusFile {
    /// The status.
    pub status: WorkloadStatus,
    /// Why; left out when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_context: String,
    /// When the workload was first seen.
    pub created_at: GoTime,
    /// When the file was last written.
    #[serde(default)]
    pub updated_at: GoTime,
    /// The proxy's process; 0 is none.
    #[serde(default)]
    pub process_id: i64,
}

/// Why bytes are no status file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StatusFileError(pub(crate) String);

impl StatusFile {
    /// A file of a workload that is first seen at `now`.
    pub fn new(status: WorkloadStatus, now: GoTime) -> Self {
        Self {
            status,
            status_context: String::new(),
            created_at: now,
            updated_at: now,
            process_id: 0,
        }
    }

    /// Parses `bytes`. Damaged ones are repaired in memory, in ToolHive's three ways and order; nothing is written.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatusFileError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(StatusFileError("it is empty".into()));
        }
        match Self::read(bytes) {
            // What is no JSON may be repaired; JSON that is no status file stays none.
            Err(_) if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() => {}
            Err(why) => return as_go_reads(bytes).ok_or(why),
            read => return read,
        }
        let text = String::from_utf8_lossy(bytes);
        let repaired = [balanced(&text), Some(cleaned(&text))];
        repaired
            .into_iter()
            .flatten()
            .find_map(|text| Self::read(text.as_bytes()).ok())
            .ok_or_else(|| StatusFileError("it is damaged and cannot be repaired".into()))
    }

    fn read(bytes: &[u8]) -> Result<Self, StatusFileError> {
        let file: Self = serde_json::from_slice(bytes).map_err(|e| StatusFileError(gojson::trouble(&e)))?;
        if file.created_at.is_zero() {
            return Err(StatusFileError("it has no created_at".into()));
        }
        Ok(file)
    }

    /// The bytes that are written.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Five fields without maps: there is nothing that could fail.
        gojson::to_string_pretty(self).unwrap_or_default().into_bytes()
    }
}

/// What people write and Go takes: keys in any case, repeated ones, and `null` for nothing.
fn as_go_reads(bytes: &[u8]) -> Option<StatusFile> {
    const KEYS: [&str; 5] = [
        "status",
        "status_context",
        "created_at",
        "updated_at",
        "process_id",
    ];
    let Ok(Json::Object(pairs)) = Json::parse(bytes) else {
        return None;
    };
    let key = |name: &str| KEYS.into_iter().find(|key| gojson::same_key(name, key));
    let mut known = BTreeMap::new();
    for (name, value) in pairs {
        if let Some(key) = key(name.as_str()).filter(|_| value != Json::Null) {
            known.insert(key, value);
        }
    }
    let text = gojson::to_string(&known).ok()?;
    StatusFile::read(text.as_bytes()).ok()
}

/// As many closing braces as opening ones.
fn balanced(text: &str) -> Option<String> {
    let count = |brace| text.matches(brace).count();
    let (open, close) = (count('{'), count('}'));
    match close.cmp(&open) {
        std::cmp::Ordering::Greater => {
            let body = text.trim_end_matches(|c: char| c == '}' || c.is_whitespace());
            Some(format!("{body}{}", "}".repeat(open)))
        }
        std::cmp::Ordering::Less => Some(format!("{text}{}", "}".repeat(open - close))),
        std::cmp::Ordering::Equal => None,
    }
}

/// Without white space around, and without control characters.
fn cleaned(text: &str) -> String {
    text.trim()
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "{\n  \"status\": \"running\",\n  \"created_at\": \"2026-08-21T10:12:13.123456789+02:00\",\n  \
                        \"updated_at\": \"2026-08-21T10:12:19.5+02:00\",\n  \"process_id\": 41235\n}";

    #[test]
    fn toolhives_bytes_go_through_unchanged() {
        assert_eq!(
            String::from_utf8(StatusFile::parse(FILE.as_bytes()).unwrap().to_bytes()).unwrap(),
            FILE
        );
    }

    #[test]
    fn a_context_is_escaped_as_go_does() {
        let mut file = StatusFile::parse(FILE.as_bytes()).unwrap();
        file.status_context = "a <b> & c".into();
        let text = String::from_utf8(file.to_bytes()).unwrap();
        assert!(
            text.contains(r#""status_context": "a \u003cb\u003e \u0026 c""#),
            "{text}"
        );
    }

    #[test]
    fn damaged_files_are_repaired() {
        let whole = StatusFile::parse(FILE.as_bytes()).unwrap();
        for damaged in [
            format!("{FILE}}}}}"),
            FILE[..FILE.len() - 1].to_owned(),
            format!("\0{FILE}\u{1}\n"),
        ] {
            assert_eq!(
                StatusFile::parse(damaged.as_bytes()).unwrap(),
                whole,
                "{damaged:?}"
            );
        }
    }

    #[test]
    fn what_go_reads_is_read() {
        let times = "\"created_at\": \"2026-08-21T10:12:13Z\", \"updated_at\": null";
        for text in [
            format!("{{\"Status\": \"stopped\", {times}, \"PROCESS_ID\": 7}}"),
            format!("{{\"\u{17f}tatus\": \"stopped\", {times}, \"process_id\": 7}}"),
            format!("{{\"status\": \"running\", \"status\": \"stopped\", {times}, \"process_id\": 7}}"),
            format!(
                "{{\"status\": \"stopped\", \"status_context\": null, {times}, \"process_id\": 7, \"more\": {{}}}}"
            ),
        ] {
            let file = StatusFile::parse(text.as_bytes()).unwrap();
            assert_eq!(
                (file.status, file.status_context.as_str(), file.process_id),
                (WorkloadStatus::Stopped, "", 7),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_repaired_is_an_error() {
        for bytes in [
            "",
            "  ",
            "{",
            "{}",
            "[]",
            "{\"status\":\"running\"}",
            "{\"status\":null,\"created_at\":\"2026-08-21T10:12:13Z\"}",
            "{\"status\":\"stopped\",\"created_at\":\"2026-08-21T10:12:13Z\",\"process_id\":1.5}",
            "{\"status\":\"odd\",\"created_at\":\"2026-08-21T10:12:13Z\"}",
        ] {
            assert!(StatusFile::parse(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }
}
