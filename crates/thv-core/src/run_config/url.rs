//! Where clients find a workload.

use super::RunConfig;
use crate::ProxyMode;

impl RunConfig {
    /// The path that clients use, with the fragment that tells SSE workloads apart: `/mcp`, `/sse#<name>`, or the path
    /// of the remote URL. The query of a remote URL is added by the proxy.
    pub fn proxy_path(&self) -> String {
        let mode = self.effective_proxy_mode();
        let mut path = if self.is_remote() {
            remote_path(&self.remote_url)
        } else {
            match mode {
                ProxyMode::Sse => "/sse".to_owned(),
                ProxyMode::StreamableHttp => "/mcp".to_owned(),
            }
        };
        if mode == ProxyMode::Sse {
            if path.is_empty() {
                path.push_str("/sse");
            }
            let name = [&self.base_name, &self.name]
                .into_iter()
                .find(|name| !name.is_empty());
            path.push('#');
            path.push_str(&escape(name.map_or("", |name| name), "$&+:=@"));
        }
        path
    }

    /// The address that clients use when they reach the proxy at `host` (`127.0.0.1` in listings, `localhost` in client
    /// configurations); none as long as no port is set.
    pub fn client_url(&self, host: &str) -> Option<String> {
        (self.port != 0).then(|| {
            let host = if host.contains(':') && !host.starts_with('[') {
                format!("[{host}]")
            } else {
                host.to_owned()
            };
            format!("http://{host}:{}{}", self.port, self.proxy_path())
        })
    }
}

/// The escaped path of an absolute URL; of the root path nothing.
fn remote_path(url: &str) -> String {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = match after_scheme.find(['/', '?', '#']) {
        Some(at) if after_scheme[at..].starts_with('/') => &after_scheme[at..],
        _ => "",
    };
    let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    if path == "/" {
        String::new()
    } else {
        escape(path, "/%!$&'()*+,;=:@[]")
    }
}

/// Percent-encodes all but the unreserved characters and those of `kept`.
fn escape(text: &str, kept: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        let character = char::from(byte);
        if byte.is_ascii_alphanumeric()
            || "-_.~".contains(character)
            || (byte.is_ascii() && kept.contains(character))
        {
            escaped.push(character);
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    escaped
}
