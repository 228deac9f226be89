//! What a runtime says about itself.

/// Which engine of its kind a runtime speaks to: its instances are nowhere else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineIdentity {
    /// The same as long as it is the same engine, however it is reached; empty where there is only one of that kind.
    pub id: String,
    /// Where it is, for people.
    pub place: String,
}

/// What a runtime is, and where; empty where it has nothing to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// What it is, such as `Podman`.
    pub product: String,
    /// Its version.
    pub version: String,
    /// The version of the API that is spoken with it.
    pub api_version: String,
    /// Where it is: a socket.
    pub place: String,
    /// Why it is looked for there, such as the variable that names the place.
    pub chosen_by: String,
}
