//! A signing authority of the tests: certificates as Fulcio makes them, a transparency log, a log of certificates, and
//! signatures in each of the forms in which images are signed.

mod attached;
mod authority;
mod certificate;
mod log;
mod signature;
mod tls;

pub(crate) use attached::Attached;
pub(crate) use attached::{INDEX, MANIFEST};
pub use authority::Authority;
pub use signature::{Form, Signature, Workflow};
pub(crate) use tls::tls;
