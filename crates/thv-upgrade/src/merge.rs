//! The configuration of the newer version: the old one, but for what an upgrade is about.

use std::collections::{BTreeMap, HashSet};

use thv_core::{EnvVarSpec, RunConfig, SecretReference};
use thv_registry::{ImageEntry, Source};

use crate::drift;

/// What the user gives to an upgrade.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Additions {
    /// Variables of the server's environment; they win over those that are there.
    pub env: BTreeMap<String, String>,
    /// References to secrets, as `name,target=VARIABLE`; those that are there win.
    pub secrets: Vec<String>,
}

impl std::fmt::Debug for Additions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Additions")
            .field("env", &self.env.keys())
            .field("secrets", &self.secrets.len())
            .finish()
    }
}

/// The old configuration with another image, what the user adds, and the registry that the image is from. Everything else
/// is a clone, so that nothing can be forgotten. Also: what the user should be told.
pub(crate) fn merge(
    old: &RunConfig,
    entry: &ImageEntry,
    source: &Source,
    additions: &Additions,
) -> (RunConfig, Vec<String>) {
    let mut new = old.clone();
    let mut warnings = Vec::new();
    new.image.clone_from(&entry.image);
    source.registry_url().clone_into(&mut new.registry_url);
    source.registry_api_url().clone_into(&mut new.registry_api_url);
    new.env_vars.extend(additions.env.clone());
    let targets = |texts: &[String]| -> HashSet<String> {
        let references = texts.iter().filter_map(|text| SecretReference::parse(text).ok());
        references
            .map(|reference| reference.target().to_owned())
            .collect()
    };
    let mut taken = targets(&old.secrets);
    for (at, text) in additions.secrets.iter().enumerate() {
        match SecretReference::parse(text) {
            Ok(reference) if taken.insert(reference.target().to_owned()) => new.secrets.push(text.clone()),
            Ok(reference) => warnings.push(format!(
                "the secret for {} is left as it is: the workload has one",
                reference.target()
            )),
            // What it says may be the secret itself.
            Err(error) => warnings.push(format!("secret {} is left out: {error}", at + 1)),
        }
    }
    // As a first run of that version would have it; else it would lack what it declares that it needs.
    for spec in needed(&new, entry) {
        if !spec.default.is_empty() {
            new.env_vars.insert(spec.name.clone(), spec.default.clone());
            warnings.push(format!("{} gets the default of the newer version", spec.name));
        }
    }
    (new, warnings)
}

/// The variables that the newer version needs, has no default for, and nobody gives.
pub(crate) fn missing<'a>(new: &RunConfig, entry: &'a ImageEntry) -> Vec<&'a EnvVarSpec> {
    let mut missing = needed(new, entry);
    missing.retain(|spec| spec.default.is_empty());
    missing
}

fn needed<'a>(config: &RunConfig, entry: &'a ImageEntry) -> Vec<&'a EnvVarSpec> {
    let mut needed = drift::undeclared(config, &entry.env_vars);
    needed.retain(|spec| spec.required);
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old() -> RunConfig {
        RunConfig {
            image: "a:1".into(),
            secrets: vec!["one,target=ONE".into(), "odd".into()],
            env_vars: [("A".to_owned(), "old".to_owned())].into(),
            ..RunConfig::default()
        }
    }

    #[test]
    fn old_secrets_and_new_variables_win() {
        let additions = Additions {
            env: [
                ("A".to_owned(), "new".to_owned()),
                ("B".to_owned(), "b".to_owned()),
            ]
            .into(),
            secrets: vec![
                "other,target=ONE".into(),
                "two,target=TWO".into(),
                "again,target=TWO".into(),
                "s3cret".into(),
            ],
        };
        let (new, warnings) = merge(&old(), &ImageEntry::default(), &Source::Memory, &additions);
        assert_eq!(new.secrets, ["one,target=ONE", "odd", "two,target=TWO"]);
        assert_eq!(
            (new.env_vars["A"].as_str(), new.env_vars["B"].as_str()),
            ("new", "b")
        );
        assert_eq!(warnings.len(), 3);
        assert!(!format!("{warnings:?}{additions:?}").contains("s3cret"));
    }
}
