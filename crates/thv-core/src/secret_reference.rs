//! References to secrets: which secret, and where its value goes.

use std::fmt;
use std::str::FromStr;

/// `<name>,target=<target>`: the secret `name`, whose value goes to `target` (of a workload's `secrets` the name of an
/// environment variable).
///
/// ```
/// let reference = thv_core::SecretReference::parse("everything-key,target=API_KEY")?;
/// assert_eq!((reference.name(), reference.target()), ("everything-key", "API_KEY"));
/// # Ok::<(), thv_core::InvalidSecretReference>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretReference {
    name: String,
    target: String,
}

/// A text that is not a reference. The text is not shown: it may be a secret itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid secret reference: use <name>,target=<TARGET>")]
pub struct InvalidSecretReference;

impl SecretReference {
    /// Reads a reference; neither part may be empty, and the name has no comma.
    pub fn parse(text: &str) -> Result<Self, InvalidSecretReference> {
        let (name, rest) = text.split_once(',').ok_or(InvalidSecretReference)?;
        let target = rest.strip_prefix("target=").ok_or(InvalidSecretReference)?;
        if name.is_empty() || target.is_empty() || target.contains('\n') {
            return Err(InvalidSecretReference);
        }
        Ok(Self {
            name: name.to_owned(),
            target: target.to_owned(),
        })
    }

    /// Name of the secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its value goes.
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl FromStr for SecretReference {
    type Err = InvalidSecretReference;
    fn from_str(text: &str) -> Result<Self, InvalidSecretReference> {
        Self::parse(text)
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},target={}", self.name, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_name_and_a_target() {
        for (text, name, target) in [
            ("a,target=B", "a", "B"),
            (
                "op://vault/item/field,target=TOKEN",
                "op://vault/item/field",
                "TOKEN",
            ),
            ("a,target=b,target=c", "a", "b,target=c"),
            ("a b ,target= ", "a b ", " "),
        ] {
            let reference = SecretReference::parse(text).unwrap();
            assert_eq!((reference.name(), reference.target()), (name, target));
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_without_being_shown() {
        for text in [
            "",
            "s3cret",
            ",target=B",
            "a,target=",
            "a,B",
            "a,Target=B",
            "a,target=x\ny",
            "a, target=B",
        ] {
            let error = SecretReference::parse(text).unwrap_err();
            assert!(!error.to_string().contains("s3cret"));
        }
    }
}
