//! Names that are derived: from images, URLs, packages and registry entries.

use crate::WorkloadName;
use crate::name::MAX_LEN;

/// The name when nothing else is left of one.
const FALLBACK: &str = "workload";

/// `text` as ToolHive makes a name of it: cleaned as a path, `..` replaced by `--`, leading separators dropped, all
/// characters other than letters, digits, `.`, `_` and `-` replaced by `-`, cut at 100 bytes; `workload` if nothing is
/// left.
///
/// The result may still begin with `.` or `-`, which [`WorkloadName`] refuses; [`derive_name`] goes on from there.
pub fn sanitize_name(text: &str) -> String {
    let text = text.replace('\0', "");
    let cleaned = if text.is_empty() { text } else { clean_path(&text) };
    let replaced: String = cleaned
        .replace("..", "--")
        .trim_start_matches(['/', '\\'])
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(MAX_LEN)
        .collect();
    if replaced.is_empty() {
        FALLBACK.to_owned()
    } else {
        replaced
    }
}

/// A valid name that is as near to `text` as can be: [`sanitize_name`], then without leading `.` and `-`, and with `-`
/// before an ending that would be mistaken for a file's.
pub fn derive_name(text: &str) -> WorkloadName {
    let sanitized = sanitize_name(text);
    let mut name = sanitized.trim_start_matches(['.', '-']).to_owned();
    for ending in [".json", ".lock"] {
        if let Some(stem) = name.strip_suffix(ending) {
            name = format!("{stem}-{}", &ending[1..]);
        }
    }
    WorkloadName::new(name)
        .or_else(|_| WorkloadName::new(FALLBACK))
        .expect("the fallback is a valid name")
}

/// The base name of an image: `<namespace>-<repository>` without registry, tag and digest. The namespace is the part
/// before the repository, whatever it is; a port in it is dropped.
///
/// ```
/// assert_eq!(thv_core::image_base_name("ghcr.io/stackloklabs/gofetch/server:1.0.5"), "gofetch-server");
/// assert_eq!(thv_core::image_base_name("fetch"), "fetch");
/// ```
pub fn image_base_name(image: &str) -> String {
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    let (path, last) = image.rsplit_once('/').map_or(("", image), |parts| parts);
    let repository = last.split_once(':').map_or(last, |(repository, _)| repository);
    let namespace = path.rsplit('/').next().unwrap_or_default();
    let namespace = namespace.split_once(':').map_or(namespace, |(host, _)| host);
    let name = if namespace.is_empty() {
        repository.to_owned()
    } else {
        format!("{namespace}-{repository}")
    };
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '-'
            }
        })
        .collect()
}

/// The container name of an image that was given no name: its base name and the time in seconds since 1970.
pub fn image_container_name(image: &str, unix_seconds: i64) -> String {
    format!("{}-{unix_seconds}", image_base_name(image))
}

/// The default name of a remote workload: the second-last label of the host in its URL, or its only one. An address is
/// taken whole. None if `url` has no host.
///
/// ```
/// assert_eq!(thv_core::remote_base_name("https://mcp.example.com/v1/mcp").as_deref(), Some("example"));
/// ```
pub fn remote_base_name(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host_and_port = authority.rsplit('@').next()?;
    if let Some(bracketed) = host_and_port.strip_prefix('[') {
        let (address, _) = bracketed.split_once(']')?;
        return Some(format!("ipv6-{}", address.replace([':', '%', '.'], "-")));
    }
    let host = host_and_port.split(':').next().filter(|host| !host.is_empty())?;
    if host.parse::<std::net::Ipv4Addr>().is_ok() {
        return Some(host.replace('.', "-"));
    }
    let mut labels = host.trim_end_matches('.').rsplit('.');
    let last = labels.next()?;
    Some(labels.next().unwrap_or(last).to_ascii_lowercase())
}

/// The default name of a registry entry: its name with `.` and `/` replaced by `-`.
pub fn registry_base_name(entry: &str) -> String {
    entry.replace(['.', '/'], "-")
}

/// The default name of a program or package behind a protocol scheme (`uvx://mcp-server-time@1.2` gives
/// `mcp-server-time`, `npx://@scope/pkg` gives `scope-pkg`, `exec:///opt/bin/echo` gives `echo`). None if `text` has no
/// scheme, or nothing behind it.
pub fn package_base_name(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let package = if scheme == "exec" {
        rest.rsplit('/').next()?
    } else {
        let scoped = rest.strip_prefix('@').unwrap_or(rest);
        scoped.split_once('@').map_or(scoped, |(package, _)| package)
    };
    let name: String = package
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let name = name.trim_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

/// The shortest path that means the same, by its text alone, as Go's `filepath.Clean`.
pub(crate) fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sanitized_as_toolhive_does_it() {
        for (text, expected) in [
            ("fetch", "fetch"),
            ("My Server", "My-Server"),
            ("a$(rm)&b;c|d`e", "a--rm--b-c-d-e"),
            ("/etc/passwd", "etc-passwd"),
            ("../../x", "------x"),
            ("a\0b", "ab"),
            ("", "workload"),
            ("///", "workload"),
            ("é", "-"),
        ] {
            assert_eq!(sanitize_name(text), expected, "{text:?}");
        }
        assert_eq!(sanitize_name(&"x".repeat(300)).len(), 100);
    }

    #[test]
    fn a_derived_name_is_always_valid() {
        for (text, expected) in [
            ("../x", "x"),
            (".hidden", "hidden"),
            ("a.json", "a-json"),
            ("...", "workload"),
            ("-", "workload"),
            ("a.lock.json", "a.lock-json"),
        ] {
            assert_eq!(derive_name(text).as_str(), expected, "{text:?}");
        }
    }

    #[test]
    fn images_give_base_names() {
        for (image, expected) in [
            ("docker.io/mcp/everything:1.4.0", "mcp-everything"),
            ("localhost:5000/echo", "localhost-echo"),
            ("echo:dev", "echo"),
            ("a/b_c.d@sha256:0123", "a-b-c-d"),
            ("a/b:1@sha256:0123", "a-b"),
        ] {
            assert_eq!(image_base_name(image), expected);
        }
        assert_eq!(image_container_name("echo:dev", 1_700_000_000), "echo-1700000000");
    }

    #[test]
    fn urls_give_base_names() {
        for (url, expected) in [
            ("https://mcp.example.com/v1", Some("example")),
            ("https://example.com", Some("example")),
            ("http://localhost:8000/mcp", Some("localhost")),
            ("http://127.0.0.1:8000/mcp", Some("127-0-0-1")),
            ("http://[::1]:80/", Some("ipv6---1")),
            ("https://me:pw@a.b.c?x=1", Some("b")),
            ("https://", None),
            ("example.com", None),
        ] {
            assert_eq!(remote_base_name(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn packages_give_base_names() {
        for (text, expected) in [
            ("uvx://mcp-server-time@1.2", Some("mcp-server-time")),
            (
                "npx://@modelcontextprotocol/server-everything@latest",
                Some("modelcontextprotocol-server-everything"),
            ),
            ("go://github.com/me/tool@v1", Some("github-com-me-tool")),
            ("exec:///opt/bin/echo-server", Some("echo-server")),
            ("exec://", None),
            ("fetch", None),
        ] {
            assert_eq!(package_base_name(text).as_deref(), expected, "{text}");
        }
        assert_eq!(
            registry_base_name("io.github.stacklok/fetch"),
            "io-github-stacklok-fetch"
        );
    }
}
