use thv_image::Reference;
use thv_registry::{Accept, parse_document};

/// A registry document: it is read within bounds, and what comes of it never names a program of the host.
///
/// # Panics
/// When an entry's image is no image reference, or an entry is not found under its own name.
pub fn registry_document(bytes: &[u8]) {
    let Ok(catalogue) = parse_document(bytes, "fuzz", Accept::default()) else {
        return;
    };
    for entry in catalogue.entries() {
        if let Some(image) = entry.as_image() {
            let parsed: Result<Reference, _> = image.image.parse();
            assert!(parsed.is_ok(), "{:?} is no image reference", image.image);
        }
        let name = entry.name();
        let found = catalogue.get(name);
        assert!(found.is_ok(), "{name:?} is listed and not found");
    }
}
