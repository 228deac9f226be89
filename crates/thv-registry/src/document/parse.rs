//! From bytes to a catalogue.

use serde_json::value::RawValue;

use super::bounds::{MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_NAME, MAX_SERVERS, nests_deeper};
use super::convert;
use super::wire::{Document, Named, Server};
use crate::{Catalogue, Error, Result};

/// How much of a parser's message is passed on, in characters.
const MAX_DETAIL: usize = 200;

/// What entries of a document may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accept {
    /// Remote servers that are spoken to without TLS, anywhere.
    pub plain_http: bool,
}

/// Reads a registry document. `place` says in messages where it came from.
///
/// A server whose description is wrong, or asks for what no entry may ask for, becomes
/// [unusable](Catalogue::unusable); the others are read.
///
/// ```
/// let document = br#"{"data": {"servers": [{"name": "com.example/time",
///     "packages": [{"registryType": "oci", "identifier": "example/time:1.2.0"}]}]}}"#;
/// let catalogue = thv_registry::parse_document(document, "an example", thv_registry::Accept::default())?;
/// assert_eq!(catalogue.get("time")?.as_image().unwrap().image, "example/time:1.2.0");
/// # Ok::<(), thv_registry::Error>(())
/// ```
///
/// # Errors
/// [`TooLarge`](Error::TooLarge), [`Legacy`](Error::Legacy) or [`Invalid`](Error::Invalid).
pub fn parse_document(bytes: &[u8], place: &str, accept: Accept) -> Result<Catalogue> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        let size = bytes.len();
        let detail = format!("{size} bytes, and at most {MAX_DOCUMENT_BYTES} are read");
        return Err(Error::too_large(place, detail));
    }
    check_depth(bytes, place)?;
    parse_trusted(bytes, place, accept)
}

/// The same of bytes whose size and nesting are known to be within bounds.
pub(crate) fn parse_trusted(bytes: &[u8], place: &str, accept: Accept) -> Result<Catalogue> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let document: Document<'_> = serde_json::from_slice(bytes).map_err(|error| not_json(place, &error))?;
    let has_old_keys =
        document.servers.is_some() || document.remote_servers.is_some() || document.groups.is_some();
    if has_old_keys {
        return Err(Error::Legacy {
            place: place.to_owned(),
        });
    }
    let Some(data) = document.data else {
        return Err(Error::invalid(place, "it has no \"data\""));
    };
    let servers = data.servers.unwrap_or_default();
    if servers.len() > MAX_SERVERS {
        return Err(Error::too_large(place, limit_of_servers()));
    }
    let mut catalogue = Catalogue {
        version: document.version,
        last_updated: document.meta.last_updated,
        others: data.skills.map_or(0, |skills| skills.len())
            + data.plugins.map_or(0, |plugins| plugins.len()),
        ..Catalogue::default()
    };
    for server in servers {
        add_server(&mut catalogue, server, accept);
    }
    Ok(catalogue)
}

pub(crate) fn limit_of_servers() -> String {
    format!("exceeded maximum server limit ({MAX_SERVERS})")
}

/// Refuses what is nested too deep.
pub(crate) fn check_depth(bytes: &[u8], place: &str) -> Result<()> {
    if nests_deeper(bytes, MAX_DEPTH) {
        let detail = format!("nested deeper than {MAX_DEPTH} levels");
        return Err(Error::too_large(place, detail));
    }
    Ok(())
}

/// Adds what one `server.json` describes. One without a name that can be shown is left out.
pub(crate) fn add_server(catalogue: &mut Catalogue, text: &RawValue, accept: Accept) {
    let (name, entry) = match serde_json::from_str::<Server>(text.get()) {
        Ok(server) => (server.name.clone(), convert::entry(server, accept)),
        Err(error) => {
            let detail: String = error.to_string().chars().take(MAX_DETAIL).collect();
            (
                server_name(text),
                Err(format!("its description cannot be read: {detail}")),
            )
        }
    };
    if !is_name(&name) {
        tracing::warn!(
            name = convert::quoted(&name),
            "a registry entry has a name that none may have"
        );
        return;
    }
    match entry {
        Ok(entry) => catalogue.insert(entry),
        Err(why) => {
            tracing::debug!(name, why, "a registry entry cannot be used");
            catalogue.insert_unusable(name, why);
        }
    }
}

/// Parts of letters, digits, `.`, `_` and `-`, with `/` between them: nothing that a path, a shell, a terminal or an
/// argument reads as something else.
fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
    };
    text.len() <= MAX_NAME && text.split('/').all(part)
}

/// The name in a description that may be wrong otherwise.
pub(crate) fn server_name(text: &RawValue) -> String {
    serde_json::from_str::<Named>(text.get()).unwrap_or_default().name
}

fn not_json(place: &str, error: &serde_json::Error) -> Error {
    let detail: String = error.to_string().chars().take(MAX_DETAIL).collect();
    Error::invalid(place, detail)
}
