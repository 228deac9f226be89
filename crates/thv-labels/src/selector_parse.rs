//! The reader of selectors.

use std::collections::BTreeSet;

use crate::error::{LabelError, shown};
use crate::selector::Requirement;
use crate::syntax::{validate_key, validate_value};

/// Text of spaces means no requirement; an empty part between commas is an error.
pub(crate) fn parse(text: &str) -> Result<Vec<Requirement>, LabelError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    split_outside_parentheses(text)
        .into_iter()
        .map(requirement)
        .collect()
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(move |c: char| {
        match c {
            '(' => inside = true,
            ')' => inside = false,
            _ => {}
        }
        c == ',' && !inside
    })
    .collect()
}

fn requirement(part: &str) -> Result<Requirement, LabelError> {
    let part = part.trim();
    let invalid = |rule| LabelError::Selector {
        part: shown(part),
        rule,
    };
    if part.is_empty() {
        return Err(invalid("there is nothing between two commas"));
    }
    if let Some((left, values)) = part.split_once('(') {
        let values = values.trim_end().strip_suffix(')');
        let values = values.ok_or_else(|| invalid("a list ends with ')'"))?;
        let mut words = left.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => {
                let (key, values) = key_and_values(key, values)?;
                Ok(Requirement::In { key, values })
            }
            (Some(key), Some("notin"), None) => {
                let (key, values) = key_and_values(key, values)?;
                Ok(Requirement::NotIn { key, values })
            }
            _ => Err(invalid("use <key> in (<values>) or <key> notin (<values>)")),
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        let (key, value) = key_and_value(key, value)?;
        return Ok(Requirement::NotEqual { key, value });
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        let (key, value) = key_and_value(key, value)?;
        return Ok(Requirement::Equal { key, value });
    }
    let (key, negated) = match part.strip_prefix('!') {
        Some(key) => (key.trim_start(), true),
        None => (part, false),
    };
    if key.contains(char::is_whitespace) {
        return Err(invalid(
            "use =, ==, !=, in (…) or notin (…) between key and value",
        ));
    }
    validate_key(key)?;
    let key = key.to_owned();
    Ok(if negated {
        Requirement::NotExists { key }
    } else {
        Requirement::Exists { key }
    })
}

fn key_and_value(key: &str, value: &str) -> Result<(String, String), LabelError> {
    let (key, value) = (key.trim(), value.trim());
    validate_key(key)?;
    validate_value(key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// An empty list is the empty value, as in Kubernetes.
fn key_and_values(key: &str, values: &str) -> Result<(String, BTreeSet<String>), LabelError> {
    validate_key(key)?;
    let values = values
        .split(',')
        .map(|value| {
            let value = value.trim();
            validate_value(key, value).map(|()| value.to_owned())
        })
        .collect::<Result<_, _>>()?;
    Ok((key.to_owned(), values))
}
