//! Labels of an instance: the standard ones, and the user's.

use std::collections::BTreeMap;

use thv_core::{TransportType, WorkloadName};
use thv_labels::{Facts, parse_user_label};

use super::{RequestField, RunRequest, refused_value};
use crate::Result;

/// The standard labels, and what the user gave in valid syntax: what is invalid is left out, and said.
pub(super) fn all(
    request: &RunRequest,
    name: &WorkloadName,
    transport: TransportType,
    notices: &mut Vec<String>,
) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for text in &request.labels {
        let (key, value) = match parse_user_label(text) {
            Ok(label) => label,
            Err(error) => {
                notices.push(format!("a label is left out: {error}"));
                continue;
            }
        };
        if key == thv_labels::TOOLHIVE || key.starts_with("toolhive-") {
            let detail = "keys that begin with \"toolhive\" are the workload manager's own";
            return Err(refused_value(RequestField::Labels, text, detail));
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

    fn check_with_notices(text: &str) -> (Result<BTreeMap<String, String>>, Vec<String>) {
        let mut notices = Vec::new();
        let request = RunRequest {
            labels: vec![text.to_owned()],
            ..RunRequest::default()
        };
        let labels = all(
            &request,
            &WorkloadName::new("time").unwrap(),
            TransportType::Stdio,
            &mut notices,
        );
        (labels, notices)
    }

    fn check(text: &str) -> Result<BTreeMap<String, String>> {
        check_with_notices(text).0
    }

    #[test]
    fn valid_labels_join_the_standard_ones() {
        for text in ["env=dev", "example.com/team=a_b", "a=", "A.b-c=1.0"] {
            assert_eq!(check(text).unwrap().len(), 6, "{text}");
        }
        assert_eq!(check("a=b").unwrap()["toolhive-basename"], "time");
    }

    #[test]
    fn invalid_labels_are_left_out_and_said() {
        let long = format!("{}=x", "a".repeat(64));
        for text in ["a", "=b", "-a=b", "a=b/c", "A.com/x=y", "a=-", "\u{1b}=x", &long] {
            let (labels, notices) = check_with_notices(text);
            assert_eq!((labels.unwrap().len(), notices.len()), (5, 1), "{text}");
            assert!(!notices[0].contains('\u{1b}'), "{notices:?}");
        }
    }

    #[test]
    fn reserved_keys_are_refused() {
        for text in ["toolhive=false", "toolhive-owner=x"] {
            assert_eq!(check(text).unwrap_err().code(), "invalid", "{text}");
        }
    }
}
