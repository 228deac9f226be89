//! Whether a text can be nothing but an image reference.

/// The longest reference, in bytes.
const MAX_REFERENCE: usize = 512;

/// Why `text` is not an image reference, if it is none.
///
/// Stricter than what runs an image: a text that could mean a program (`exec:///bin/sh`), a package (`uvx://x`), a URL or
/// a path never gets through.
pub(super) fn refused(text: &str) -> Option<&'static str> {
    if text.contains("://") {
        return Some("its image is a URL, a program or a package: an entry names an image");
    }
    if text.is_empty() || text.len() > MAX_REFERENCE || !is_reference(text) {
        return Some("its image is not an image reference");
    }
    None
}

fn is_reference(text: &str) -> bool {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return false;
    }
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return false;
    }
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            is_host(host) && path.split('/').all(is_component)
        }
        _ => name.split('/').all(is_component),
    }
}

fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64
        && hex
            .bytes()
            .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

fn is_tag(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|c| word(c) || c == b'.' || c == b'-')
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    host.split('.').all(label)
        && port.is_none_or(|port| port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

fn is_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.iter().all(|c| plain(c) || b"._-".contains(c))
        && !text.contains("..")
        && !text.contains("___")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_accepted() {
        for text in [
            "mcp/time",
            "time",
            "ghcr.io/stacklok/dockyard/uvx/adb-mysql-mcp-server:2.0.0",
            "localhost:5000/a/b:v1_2.3-x",
            "docker.io/a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "Registry.Example.com/a__b/c-d.e:Latest",
        ] {
            assert_eq!(refused(text), None, "{text}");
        }
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        for text in [
            "",
            "exec:///bin/sh",
            "EXEC:///bin/sh",
            "uvx://package",
            "npx://-y",
            "go://example.com/x",
            "https://example.com/mcp",
            "/bin/sh",
            "./program",
            "../x",
            "-v/:/host",
            "--privileged",
            "a b",
            "a\nb",
            "a\0",
            "exec:/bin/sh",
            "a//b",
            "A/b",
            "a/../b",
            "a@sha256:12",
            "a@md5:00000000000000000000000000000000",
            "a:",
            "a:-x",
            "example.com:99999/a",
            "https:",
            "a\u{2044}b",
        ] {
            assert!(refused(text).is_some(), "{text:?}");
        }
    }
}
