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
fn sets(member: &Member) -> Vec<&'static str> {
    let mut sets = vec![""];
    if member.has_default_features {
        sets.push("--no-default-features");
    }
    if member.has_features {
        sets.push("--all-features");
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
            has_features: true,
            ..Member::default()
        };
        assert_eq!(sets(&both), ["", "--no-default-features", "--all-features"]);
    }
}
