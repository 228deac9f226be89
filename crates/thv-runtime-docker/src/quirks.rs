//! In what engines differ, in one place. Nothing else asks which engine it is.

use crate::{EngineInfo, Flavour};

/// Whether an engine refuses a second network of the same name. Docker does since API 1.44; before, it looks first
/// (`CheckDuplicate`), and of two that are asked for at once it makes both.
pub(crate) fn network_names_are_unique(engine: &EngineInfo) -> bool {
    engine.flavour == Flavour::Podman || engine.speaks(1, 44)
}

/// Whether the engine itself gives every container this variable. Podman shows its own among those that were asked for.
pub(crate) fn brings_variable(engine: &EngineInfo, variable: &str) -> bool {
    let name = variable.split('=').next().unwrap_or_default();
    engine.flavour == Flavour::Podman && matches!(name, "PATH" | "TERM" | "HOME" | "HOSTNAME" | "container")
}
