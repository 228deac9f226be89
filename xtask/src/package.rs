//! Each published crate as the archive that a registry would get.

use std::path::Path;

use crate::cargo::{cargo, members};

/// Packs all of them in one go, so that cargo lets them find each other before any is published. Nothing is built: the
/// tests have done that; here a missing field, a path that is not packed, or a dependency without a version is found.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let mut command = cargo(root);
    command.args(["package", "--no-verify", "--allow-dirty", "--quiet"]);
    for member in members(root)?.iter().filter(|member| member.published) {
        command.args(["--package", &member.name]);
    }
    crate::cargo::run(&mut command)
}
