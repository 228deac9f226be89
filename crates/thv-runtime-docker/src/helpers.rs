//! The helper containers around a workload: ours, and those that ToolHive puts there.

use std::collections::BTreeMap;

use thv_runtime::DeploySpec;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::lookup;
use crate::wire::Summary;

/// Whose network it is, on helpers of ours.
pub(crate) const HELPED: &str = "thv-helped-workload";

/// How many names are tried for a helper: a stranger may have the first ones.
const NAMES: u32 = 5;

/// What a helper is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// On the network that leads out.
    Outer,
    /// Whose network the workload shares.
    Inner,
}

impl Role {
    /// As ToolHive names them, so that it takes them along.
    fn word(self) -> &'static str {
        match self {
            Self::Outer => "egress",
            Self::Inner => "ingress",
        }
    }

    /// The names that the helper of this workload may have, the usual one first.
    pub(crate) fn names(self, spec: &DeploySpec) -> impl Iterator<Item = String> {
        let first = format!("{}-{}", spec.instance_name, self.word());
        let others = (2..=NAMES).map({
            let first = first.clone();
            move |number| format!("{first}-{number}")
        });
        std::iter::once(first).chain(others)
    }

    /// Whether the helper of this name, which is around that container, is for this.
    pub(crate) fn is_of(self, helper: &str, container: &str) -> bool {
        let role = helper.strip_prefix(container);
        let rest = role.and_then(|role| role.strip_prefix('-')?.strip_prefix(self.word()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// The workload that a helper with these labels is for.
pub(crate) fn helped(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(HELPED).map(String::as_str)
}

/// The label by which a container with these is taken for a helper: no list shows it, and no stop finds it.
pub(crate) fn mark(labels: &BTreeMap<String, String>) -> Option<&'static str> {
    let is_true = |key: &str| {
        labels
            .get(key)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    };
    let marks = [thv_labels::AUXILIARY_WORKLOAD, thv_labels::AUXILIARY];
    let mark = marks.into_iter().find(|key| is_true(key));
    mark.or_else(|| helped(labels).map(|_| HELPED))
}

/// The helpers around the container with this name. One call, which names them: there may be hundreds of others.
pub(crate) async fn around(engine: &Engine, container: &str) -> Result<Vec<Summary>, EngineError> {
    let mut rows = lookup::beside(engine, container, "-(egress|dns|ingress)(-[0-9]+)?").await?;
    rows.retain(|row| {
        let mark = row.labels.get(thv_labels::AUXILIARY_WORKLOAD);
        mark.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    });
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_stepped_over() {
        let spec = DeploySpec::new("fetch".parse().unwrap(), "fetch:1");
        let names: Vec<_> = Role::Outer.names(&spec).collect();
        assert_eq!(names[..2], ["fetch-egress", "fetch-egress-2"]);
        for name in &names {
            assert!(Role::Outer.is_of(name, "fetch"), "{name}");
            assert!(!Role::Inner.is_of(name, "fetch"), "{name}");
            assert!(!Role::Outer.is_of(name, "fet"), "{name}");
        }
    }
}
