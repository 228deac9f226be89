//! Which of two images is the newer one, by their references alone.

use std::cmp::Ordering;

use thv_image::Reference;

use crate::semver::Version;

/// Orders two image references of one repository by their tags: `Less` means that `candidate` is the newer one.
///
/// # Errors
/// Why they have no order, in words for the user.
pub(crate) fn compare(current: &str, candidate: &str) -> Result<Ordering, String> {
    let current = Tagged::parse("current", current)?;
    let candidate = Tagged::parse("candidate", candidate)?;
    if !current.reference.same_repository(&candidate.reference) {
        return Err(format!(
            "repository differs: current \"{}\" vs candidate \"{}\"",
            current.reference.index_name(),
            candidate.reference.index_name()
        ));
    }
    let (old, new) = (current.tag.as_str(), candidate.tag.as_str());
    if old == "latest" || new == "latest" {
        return Err(
            "image uses the \"latest\" tag, which defers to the registry and cannot be ordered".into(),
        );
    }
    match (Version::parse(old), Version::parse(new)) {
        (Some(old), Some(new)) => Ok(old.cmp(&new)),
        _ if old == new => Ok(Ordering::Equal),
        _ => Err(format!(
            "tags are not comparable: current \"{old}\" vs candidate \"{new}\""
        )),
    }
}

struct Tagged {
    reference: Reference,
    tag: String,
}

impl Tagged {
    fn parse(which: &str, text: &str) -> Result<Self, String> {
        let refuse = |why: String| format!("cannot parse {which} image \"{text}\": {why}");
        let reference: Reference = text.parse().map_err(|error: thv_image::Error| {
            refuse(match error {
                thv_image::Error::InvalidReference { detail, .. }
                | thv_image::Error::InvalidDigest { detail, .. } => detail.to_owned(),
                other => other.to_string(),
            })
        })?;
        match (reference.digest(), reference.tag()) {
            (None, Some(tag)) => Ok(Self {
                tag: tag.to_owned(),
                reference,
            }),
            _ => Err(refuse(format!("reference \"{text}\" is not a tag"))),
        }
    }
}
