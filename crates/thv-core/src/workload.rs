//! The view of a workload that `list` and the HTTP API show.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::gojson::GoTime;
use crate::{ImageRecord, ProxyMode, TransportType, WorkloadStatus};

/// A workload as listings show it, in the order of ToolHive's JSON. Times that are not known are Go's zero time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Workload {
    /// The workload's name: text, because a listing also shows what old files call it.
    pub name: String,
    /// The image; `remote` for remote workloads.
    #[serde(default)]
    pub package: String,
    /// Where clients find it; empty when there is no port.
    #[serde(default)]
    pub url: String,
    /// Port of the proxy, or 0.
    #[serde(default)]
    pub port: u16,
    /// How the server is spoken to; none is written as an empty text.
    #[serde(default, serialize_with = "text_or_empty", deserialize_with = "empty_is_none")]
    pub transport_type: Option<TransportType>,
    /// How the proxy speaks to clients.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "empty_is_none"
    )]
    pub proxy_mode: Option<ProxyMode>,
    /// The state it is in.
    pub status: WorkloadStatus,
    /// Why it is in that state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_context: String,
    /// When it was created.
    #[serde(default)]
    pub created_at: GoTime,
    /// Labels that the user set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The group that it belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Tools that clients see, if they are filtered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// Whether the server runs elsewhere.
    #[serde(default, skip_serializing_if = "is_false")]
    pub remote: bool,
    /// When its server was started.
    #[serde(default)]
    pub started_at: GoTime,
    /// What ToolHive does not tell; left out when there is nothing.
    #[serde(default, skip_serializing_if = "WorkloadDetails::is_empty")]
    pub thv: WorkloadDetails,
}

/// What is known about a workload beyond ToolHive's view.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WorkloadDetails {
    /// Kind of the runtime that it belongs to, `docker` for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Whether its network is isolated in effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolated: Option<bool>,
    /// The application that runs its proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launcher: Option<String>,
    /// Its image, where it was settled which one that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRecord>,
    /// The secrets that have another value by now, or none, than its server was started with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub old_secrets: Vec<String>,
    /// Whether others of its secrets may have another value: somebody changed them who does not say which.
    #[serde(skip_serializing_if = "is_false")]
    pub secrets_may_be_old: bool,
}

impl Workload {
    /// A workload of which only name and state are known.
    pub fn new(name: impl Into<String>, status: WorkloadStatus) -> Self {
        Self {
            name: name.into(),
            package: String::new(),
            url: String::new(),
            port: 0,
            transport_type: None,
            proxy_mode: None,
            status,
            status_context: String::new(),
            created_at: GoTime::default(),
            labels: BTreeMap::new(),
            group: String::new(),
            tools: Vec::new(),
            remote: false,
            started_at: GoTime::default(),
            thv: WorkloadDetails::default(),
        }
    }
}

impl WorkloadDetails {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference to the field"
)]
fn text_or_empty<S: Serializer>(value: &Option<TransportType>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.map_or("", TransportType::as_str))
}

fn empty_is_none<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gojson;

    #[test]
    fn the_least_that_is_known_has_toolhives_keys() {
        let workload = Workload::new("fetch", WorkloadStatus::Stopped);
        let text = gojson::to_string(&workload).unwrap();
        assert_eq!(
            text,
            r#"{"name":"fetch","package":"","url":"","port":0,"transport_type":"","status":"stopped","#
                .to_owned()
                + r#""created_at":"0001-01-01T00:00:00Z","started_at":"0001-01-01T00:00:00Z"}"#
        );
        assert_eq!(serde_json::from_str::<Workload>(&text).unwrap(), workload);
    }

    #[test]
    fn everything_that_is_known_is_in_toolhives_order() {
        let workload = Workload {
            package: "mcp/fetch:1".into(),
            url: "http://127.0.0.1:28733/sse#fetch".into(),
            port: 28733,
            transport_type: Some(TransportType::Stdio),
            proxy_mode: Some(ProxyMode::Sse),
            status_context: "a & b".into(),
            created_at: "2026-08-21T10:12:13.5+02:00".parse().unwrap(),
            labels: [("env".to_owned(), "dev".to_owned())].into(),
            group: "default".into(),
            tools: vec!["fetch".into()],
            remote: true,
            thv: WorkloadDetails {
                runtime: Some("docker".into()),
                isolated: Some(false),
                old_secrets: vec!["token".into()],
                secrets_may_be_old: true,
                launcher: None,
                image: None,
            },
            ..Workload::new("fetch", WorkloadStatus::AuthRetrying)
        };
        let text = gojson::to_string(&workload).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"name":"fetch","package":"mcp/fetch:1","url":"http://127.0.0.1:28733/sse#fetch","port":28733,"#,
                r#""transport_type":"stdio","proxy_mode":"sse","status":"auth_retrying","status_context":"a \u0026 b","#,
                r#""created_at":"2026-08-21T10:12:13.5+02:00","labels":{"env":"dev"},"group":"default","#,
                r#""tools":["fetch"],"remote":true,"started_at":"0001-01-01T00:00:00Z","#,
                r#""thv":{"runtime":"docker","isolated":false,"old_secrets":["token"],"secrets_may_be_old":true}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Workload>(&text).unwrap(), workload);
    }
}
