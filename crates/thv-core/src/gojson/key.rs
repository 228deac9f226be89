//! Keys of objects as Go's `encoding/json` reads them.

/// Whether Go's decoder takes `found` for `key`: equal but for case, where `ſ` counts as `s` and the Kelvin sign as `k`.
pub fn same_key(found: &str, key: &str) -> bool {
    let fold = |c: char| match c {
        'ſ' => 's',
        '\u{212A}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    found.len() >= key.len() && found.chars().map(fold).eq(key.chars().map(fold))
}
