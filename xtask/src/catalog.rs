//! The catalogue that `thv-registry` carries: a registry document without its white space, compressed.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

/// Writes it into the crate and gives its path. The same document gives the same bytes.
pub(crate) fn make(root: &Path, document: &Path) -> Result<PathBuf, String> {
    let text = std::fs::read(document).map_err(|error| format!("{}: {error}", document.display()))?;
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", document.display()))?;
    if json["data"]["servers"].as_array().is_none_or(Vec::is_empty) {
        return Err(format!("{} has no servers", document.display()));
    }
    let path = root.join("crates/thv-registry/data/catalogue.json.gz");
    let written = compressed(&without_white_space(&text)).and_then(|bytes| std::fs::write(&path, bytes));
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn compressed(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(text)?;
    encoder.finish()
}

/// JSON without what stands between its tokens; the order of keys stays.
fn without_white_space(text: &[u8]) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let mut kept = Vec::with_capacity(text.len());
    for byte in text {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = *byte == b'"';
        }
        kept.push(*byte);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_tokens_goes() {
        let text = br#"{ "a b" : [ 1 , "c \" d\\" , " " ],
            "e": { } }"#;
        assert_eq!(without_white_space(text), br#"{"a b":[1,"c \" d\\"," "],"e":{}}"#);
    }
}
