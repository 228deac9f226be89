//! Headers that the proxy adds towards a remote server.

use std::collections::BTreeMap;

use thv_core::HeaderForwardConfig;

use super::{RequestField, RunRequest, refused, refused_value};
use crate::Result;

/// Headers that belong to the connection, or that say who is speaking.
const RESTRICTED: &[&str] = &[
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "transfer-encoding",
    "content-length",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Reads the `Name=Value` texts of a request; names get their canonical form.
pub(super) fn parse(request: &RunRequest) -> Result<Option<HeaderForwardConfig>> {
    const FIELD: RequestField = RequestField::ForwardHeaders;
    let mut headers = BTreeMap::new();
    for text in &request.forward_headers {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            refused(
                FIELD,
                "use Name=Value (the text is not shown: it may be a secret)",
            )
        })?;
        let name = name.trim();
        let bad = |detail: &str| refused_value(FIELD, name, detail);
        if !is_token(name) {
            return Err(bad("this is not the name of a header"));
        }
        if RESTRICTED.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(bad("the proxy sets this header itself"));
        }
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(bad("the value has control characters"));
        }
        headers.insert(canonical(name), value.to_owned());
    }
    Ok((!headers.is_empty()).then(|| HeaderForwardConfig {
        add_plaintext_headers: headers,
        ..HeaderForwardConfig::default()
    }))
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c))
}

/// `x-api-key` is `X-Api-Key`.
fn canonical(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|c| {
            let c = if start {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            };
            start = c == '-';
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Option<HeaderForwardConfig>> {
        parse(&RunRequest {
            forward_headers: vec![text.to_owned()],
            ..RunRequest::default()
        })
    }

    #[test]
    fn names_are_canonical_and_values_are_kept() {
        let headers = check("x-api-KEY=a=b ").unwrap().unwrap().add_plaintext_headers;
        assert_eq!(headers["X-Api-Key"], "a=b ");
        assert_eq!(parse(&RunRequest::default()).unwrap(), None);
    }

    #[test]
    fn headers_of_the_connection_are_refused() {
        for text in [
            "Host=x",
            "x-forwarded-for=1",
            "Content-Length=1",
            "a b=c",
            "=c",
            "s3cret",
            "X=a\r\nY: b",
        ] {
            let error = check(text).unwrap_err();
            assert!(
                error.code() == "invalid" && !error.to_string().contains("s3cret"),
                "{text}"
            );
        }
    }
}
