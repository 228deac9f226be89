//! Each crate alone, with each of its feature sets: a crate that only builds in company is found here.

use std::path::Path;

use crate::cargo::{Member, cargo, members};

/// Checks them all in the one target folder and names every set that failed.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let mut failed = Vec::new();
    for member in members(root)?.iter().filter(|member| member.published) {
        for set in sets(member) {
            crate::warn(&format!("features: {} {set}", member.name));
            let mut command = cargo(root);
            command
                .args(["check", "--quiet", "--package", &member.name])
                .args(set.split_whitespace());
            if let Err(error) = crate::cargo::run(&mut command) {
                failed.push(error);
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n"))
    }
}

/// The sets that differ: a crate without features has one.
fn sets(member: &Member) -> Vec<String> {
    let mut sets = vec![String::new()];
    if member.has_default_features {
        sets.push("--no-default-features".to_owned());
    }
    if !member.features.is_empty() {
        sets.push("--all-features".to_owned());
    }
    // Of one feature alone that is all of them, or the default.
    if member.features.len() > 1 {
        let alone = |name| format!("--no-default-features --features {name}");
        sets.extend(member.features.iter().map(alone));
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sets_that_differ_are_checked() {
        let plain = Member::default();
        assert_eq!(sets(&plain), [""]);
        let both = Member {
            has_default_features: true,
            features: vec!["one".to_owned()],
            ..Member::default()
        };
        assert_eq!(sets(&both), ["", "--no-default-features", "--all-features"]);
        let several = Member {
            features: vec!["one".to_owned(), "two".to_owned()],
            ..Member::default()
        };
        assert_eq!(
            sets(&several),
            [
                "",
                "--all-features",
                "--no-default-features --features one",
                "--no-default-features --features two"
            ]
        );
    }
}
