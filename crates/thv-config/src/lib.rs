//! The application's `config.yaml`, which this project and ToolHive share.
//!
//! Reading gives typed [`Settings`]. A change touches only the lines of the keys that change: what this version does not
//! know, the order of keys and comments stay as they are. The file is replaced whole, under ToolHive's lock, and is
//! readable by its owner only.
//!
//! ```
//! use thv_config::{ConfigFile, RegistrySetting};
//! use thv_core::Dirs;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let file = ConfigFile::new(&Dirs::under(folder.path()));
//! assert_eq!(file.read()?.registry(), RegistrySetting::BuiltIn);
//!
//! file.set_registry(&RegistrySetting::Url("https://registry.example.com/registry.json".into()), false)?;
//! assert_eq!(file.read()?.registry_url, "https://registry.example.com/registry.json");
//! # Ok(())
//! # }
//! ```

mod settings;

mod edit;
mod file;

mod error;

pub use error::{Error, Result};
pub use file::{ConfigFile, MAX_CONFIG_BYTES};
pub use settings::{ClientSettings, RegistrySetting, SecretSettings, Settings};
