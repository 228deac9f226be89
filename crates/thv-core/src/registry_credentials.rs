//! Who somebody is to a registry of images.

use std::fmt;

/// What a registry is shown of whoever reads from it. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum RegistryCredentials {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for others.
    Identity(String),
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryCredentials")
    }
}
