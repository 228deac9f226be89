//! The catalogue in this program.

use std::io::Read as _;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use flate2::read::GzDecoder;

use crate::document::parse_trusted;
use crate::{Accept, Catalogue, Error, Registry, Result, Source};

/// ToolHive's public catalogue, as `NOTICE` names it; gzip.
static COMPRESSED: &[u8] = include_bytes!("../data/catalogue.json.gz");

/// The catalogue that is part of the program. It is read once per process, when it is first asked.
///
/// ```
/// use thv_registry::{EmbeddedRegistry, Registry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> thv_registry::Result<()> {
/// let registry = EmbeddedRegistry::new();
/// assert_eq!(registry.get("fetch").await?.name(), "io.github.stacklok/fetch");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct EmbeddedRegistry(());

impl EmbeddedRegistry {
    /// The catalogue of this version.
    pub fn new() -> Self {
        Self(())
    }
}

#[async_trait]
impl Registry for EmbeddedRegistry {
    fn source(&self) -> &Source {
        &Source::Embedded
    }

    async fn catalogue(&self) -> Result<Arc<Catalogue>> {
        static CATALOGUE: OnceLock<Arc<Catalogue>> = OnceLock::new();
        if let Some(catalogue) = CATALOGUE.get() {
            return Ok(catalogue.clone());
        }
        let catalogue = Arc::new(load()?);
        Ok(CATALOGUE.get_or_init(|| catalogue).clone())
    }
}

/// Decompresses and reads it.
fn load() -> Result<Catalogue> {
    let place = Source::Embedded.to_string();
    // The last four bytes say how long the text is.
    let size = COMPRESSED
        .last_chunk()
        .map_or(0, |size| u32::from_le_bytes(*size));
    let mut text = Vec::with_capacity(size as usize);
    GzDecoder::new(COMPRESSED)
        .read_to_end(&mut text)
        .map_err(|error| Error::invalid(&place, error.to_string()))?;
    parse_trusted(&text, &place, Accept::default())
}
