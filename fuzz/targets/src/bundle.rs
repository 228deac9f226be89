use std::sync::LazyLock;

use thv_image::{Digest, ExpectedIdentity, TrustRoots};
use tokio::runtime::{Builder, Runtime};

/// A bundle of a signature: whatever it is, it is not the signature of a manifest that nobody signed.
///
/// # Panics
/// When it is taken for one.
pub fn bundle(bytes: &[u8]) {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().build().expect("an async runtime"));
    static ROOTS: LazyLock<TrustRoots> = LazyLock::new(TrustRoots::embedded);
    let mut expected = ExpectedIdentity::default();
    "https://token.actions.githubusercontent.com".clone_into(&mut expected.issuer);
    let digest = Digest::of(b"nobody signed this");
    let verified = RUNTIME.block_on(ROOTS.verify_bundle(bytes, &digest, &expected));
    assert!(verified.is_err(), "{verified:?}");
}
