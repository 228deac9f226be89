//! Which extension is an entry's.

use std::collections::BTreeMap;

use super::wire::Extension;

/// The extension of `key` (an image or a URL). A single one is taken whatever its key says, as ToolHive does; of several
/// the one of the key counts.
pub(super) fn of(extensions: BTreeMap<String, Extension>, key: &str) -> Result<Extension, String> {
    let several = extensions.len() > 1;
    let mut first = None;
    for (name, extension) in extensions {
        if name == key {
            return Ok(extension);
        }
        first.get_or_insert(extension);
    }
    if several {
        return Err("it has several extensions, and none for what it runs".to_owned());
    }
    Ok(first.unwrap_or_default())
}
