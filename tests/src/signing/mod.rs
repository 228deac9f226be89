//! A signing authority of the tests: certificates as Fulcio makes them, a transparency log, a log of certificates, and
//! signatures in each of the forms in which images are signed.

mod authority;
mod certificate;
mod log;
mod signature;

pub use authority::Authority;
pub use signature::{Form, Signature, Workflow};
