//! The password of encrypted secrets, as a caller gives it.

use std::io::Read as _;
use std::path::PathBuf;

use thv::secrets::SecretString;

use super::Failure;
use crate::cli::PasswordArgs;

/// The longest password, in bytes.
const MAX: u64 = 4096;

/// The password that was given by a file descriptor, without the newline at its end. Neither arguments nor the
/// environment carry one: others can read those.
pub(super) fn given(args: &PasswordArgs) -> Result<Option<SecretString>, Failure> {
    let Some(number) = args.secrets_password_fd else {
        return Ok(None);
    };
    let failed = |what: &dyn std::fmt::Display| {
        Failure::new(format!(
            "cannot read the password from file descriptor {number}: {what}"
        ))
    };
    let path = PathBuf::from(format!("/dev/fd/{number}"));
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX + 1).read_to_string(&mut text))
        .map_err(|error| failed(&error))?;
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(failed(&"it is empty"));
    }
    if text.len() as u64 > MAX {
        return Err(failed(&format!("it has more than {MAX} bytes")));
    }
    Ok(Some(SecretString::from(password)))
}
