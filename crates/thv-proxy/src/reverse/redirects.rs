//! Which redirects of a server are followed.

use http::header::LOCATION;
use http::{Response, StatusCode};
use url::Url;

use crate::body::Body;

/// Whether such an answer sends the request elsewhere.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 307 | 308)
}

/// Where an answer sends the request; none when it does not say.
pub(super) fn redirect(from: &Url, response: &Response<Body>) -> Option<Url> {
    from.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
}

/// Same host, and same scheme and port, or from plain text to TLS where both have their own port: what is sent there is
/// the client's.
pub(super) fn may_follow(from: &Url, to: &Url) -> bool {
    let same_port = from.port_or_known_default() == to.port_or_known_default();
    let upgrade = from.scheme() == "http" && to.scheme() == "https";
    from.host() == to.host()
        && ((from.scheme() == to.scheme() && same_port)
            || (upgrade && from.port().is_none() && to.port().is_none()))
}
