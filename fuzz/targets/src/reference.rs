use thv_image::Reference;

/// An image reference: what is read is written so that it is read as the same, in both of its forms.
///
/// # Panics
/// When it is not.
pub fn image_reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(reference) = text.parse::<Reference>() else {
        return;
    };
    for written in [reference.to_string(), reference.familiar()] {
        match written.parse::<Reference>() {
            Ok(again) => assert_eq!(again, reference, "{text:?} is written as {written:?}"),
            Err(error) => panic!("{text:?} is written as {written:?}: {error}"),
        }
    }
    assert!(!reference.repository().contains(char::is_uppercase), "{text:?}");
    assert!(
        reference.tag().is_some() || reference.digest().is_some(),
        "{text:?}"
    );
}
