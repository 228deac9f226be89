//! A change of one top-level key of a YAML text, which leaves every other line as it is.

use thv_core::Json;

/// A value that a key gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Switch(bool),
}

impl Value {
    /// As YAML that no parser takes for anything else: texts in the quoted form that is JSON's too.
    fn yaml(&self) -> String {
        match self {
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Self::Switch(value) => value.to_string(),
        }
    }

    pub(crate) fn json(&self) -> Json {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Switch(value) => (*value).into(),
        }
    }

    pub(crate) fn is_default(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Switch(value) => !value,
        }
    }
}

/// The text with `key` set to `value`: in its place if it is there, else at the end.
///
/// This looks at lines only; the caller reads the result and compares it with what it should mean.
pub(crate) fn set(text: &str, key: &str, value: &Value) -> String {
    let line = format!("{key}: {}\n", value.yaml());
    let mut edited = String::with_capacity(text.len() + line.len());
    let mut lines = text.split_inclusive('\n').peekable();
    let mut done = false;
    while let Some(found) = lines.next() {
        if done || !is_of(found, key) {
            edited.push_str(found);
            continue;
        }
        done = true;
        edited.push_str(&line);
        // What is indented below belongs to the value that goes.
        while lines.next_if(|next| continues(next)).is_some() {}
    }
    if !done {
        if !edited.is_empty() && !edited.ends_with('\n') {
            edited.push('\n');
        }
        edited.push_str(&line);
    }
    edited
}

/// Whether a line begins the value of a top-level key.
fn is_of(line: &str, key: &str) -> bool {
    let plain = |name: &str| {
        let rest = line.strip_prefix(name)?.trim_start_matches([' ', '\t']);
        let rest = rest.strip_prefix(':')?;
        (rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r'])).then_some(())
    };
    [key.to_owned(), format!("\"{key}\""), format!("'{key}'")]
        .iter()
        .any(|name| plain(name).is_some())
}

fn continues(line: &str) -> bool {
    line.starts_with([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    #[test]
    fn only_the_lines_of_the_key_change() {
        let before = "# mine\nsecrets:\n    provider_type: none\n    a: {registry_url: x}\nregistry_url: >-\n    https://\n    old\n# kept\nregistry_url_2: y\nz: 1\n";
        assert_eq!(
            set(before, "registry_url", &text("https://a.example/#x")),
            "# mine\nsecrets:\n    provider_type: none\n    a: {registry_url: x}\nregistry_url: \"https://a.example/#x\"\n# kept\nregistry_url_2: y\nz: 1\n"
        );
    }

    #[test]
    fn an_absent_key_is_added_at_the_end() {
        assert_eq!(set("", "a", &text("b\n\"")), "a: \"b\\n\\\"\"\n");
        assert_eq!(set("x: 1", "a", &Value::Switch(true)), "x: 1\na: true\n");
    }

    #[test]
    fn quoted_keys_are_known() {
        assert_eq!(set("\"a\" : 1\n'b': 2\n", "b", &text("")), "\"a\" : 1\nb: \"\"\n");
        assert_eq!(set("\"a\" : 1\n", "a", &text("")), "a: \"\"\n");
    }
}
