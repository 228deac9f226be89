//! Labels of an instance: the standard ones, and the user's.

use std::collections::BTreeMap;

use thv_core::{TransportType, WorkloadName};
use thv_labels::{Facts, parse_user_label};

use super::{RunRequest, invalid, shown};
use crate::Result;

/// The standard labels, and what the user gave in valid syntax.
pub(super) fn all(
    request: &RunRequest,
    name: &WorkloadName,
    transport: TransportType,
) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for text in &request.labels {
        let (key, value) = parse_user_label(text).map_err(|error| invalid("--label", error.to_string()))?;
        if key == thv_labels::TOOLHIVE || key.starts_with("toolhive-") {
            let detail = "keys that begin with \"toolhive\" are the workload manager's own";
            return Err(invalid(format!("--label \"{}\"", shown(text)), detail));
        }
        labels.insert(key, value);
    }
    let facts = Facts {
        container_name: name.as_str(),
        base_name: name.as_str(),
        transport,
        port: 0,
    };
    labels.extend(facts.standard_labels());
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<BTreeMap<String, String>> {
        let request = RunRequest {
            labels: vec![text.to_owned()],
            ..RunRequest::default()
        };
        all(
            &request,
            &WorkloadName::new("time").unwrap(),
            TransportType::Stdio,
        )
    }

    #[test]
    fn valid_labels_join_the_standard_ones() {
        for text in ["env=dev", "example.com/team=a_b", "a=", "A.b-c=1.0"] {
            assert_eq!(check(text).unwrap().len(), 6, "{text}");
        }
        assert_eq!(check("a=b").unwrap()["toolhive-basename"], "time");
    }

    #[test]
    fn invalid_labels_and_reserved_keys_are_refused() {
        let long = format!("{}=x", "a".repeat(64));
        for text in [
            "a",
            "=b",
            "-a=b",
            "a=b/c",
            "A.com/x=y",
            "a=-",
            "toolhive=false",
            "toolhive-owner=x",
            &long,
        ] {
            assert_eq!(check(text).unwrap_err().code(), "invalid", "{text}");
        }
    }
}
