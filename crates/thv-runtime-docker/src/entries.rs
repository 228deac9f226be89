//! A list of the engine, entry by entry as it comes. Whoever makes a container, or its image, says how long its labels are: one
//! that is too long is named, and keeps nobody from the others.

use serde::de::DeserializeOwned;

use crate::error::EngineError;

/// So much may be told of one thing.
const LONGEST: usize = 1 << 20;
/// Of what is longer so much is kept, to name it.
const HEAD: usize = 1 << 10;
/// So much may be told of all that are short enough.
const ALL: usize = 64 << 20;

/// What a list has.
#[derive(Debug)]
pub(crate) struct Entries<T> {
    /// What could be read.
    pub(crate) whole: Vec<T>,
    /// The names of the others.
    pub(crate) too_long: Vec<String>,
}

/// The JSON of a list, while it comes.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    entries: Entries<T>,
    /// The entry that is under way, or its head.
    entry: Vec<u8>,
    is_too_long: bool,
    taken: usize,
    /// How many brackets are open, that of the list included.
    depth: usize,
    in_text: bool,
    escaped: bool,
    has_ended: bool,
}

impl<T> Default for Reader<T> {
    fn default() -> Self {
        Self {
            entries: Entries {
                whole: Vec::new(),
                too_long: Vec::new(),
            },
            entry: Vec::new(),
            is_too_long: false,
            taken: 0,
            depth: 0,
            in_text: false,
            escaped: false,
            has_ended: false,
        }
    }
}

impl<T: DeserializeOwned> Reader<T> {
    /// Takes what the engine sent.
    pub(crate) fn take(&mut self, chunk: &[u8]) -> Result<(), EngineError> {
        chunk.iter().try_for_each(|&byte| self.byte(byte))
    }

    fn byte(&mut self, byte: u8) -> Result<(), EngineError> {
        match (self.depth, byte) {
            (_, b' ' | b'\n' | b'\r' | b'\t') if !self.in_text => return Ok(()),
            (0, b'[') if !self.has_ended => {
                self.depth = 1;
                return Ok(());
            }
            (1, b']') => {
                (self.depth, self.has_ended) = (0, true);
                return Ok(());
            }
            (1, b',') => return Ok(()),
            (1, b'{') | (2.., _) => self.keep(byte),
            _ => return Err(EngineError::Nonsense("it is no list of things".to_owned())),
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_text => self.escaped = true,
            b'"' => self.in_text = !self.in_text,
            b'{' | b'[' if !self.in_text => self.depth += 1,
            b'}' | b']' if !self.in_text => {
                self.depth -= 1;
                if self.depth == 1 {
                    return self.finish();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn keep(&mut self, byte: u8) {
        if self.is_too_long {
            return;
        }
        self.entry.push(byte);
        if self.entry.len() > LONGEST {
            self.is_too_long = true;
            self.entry.truncate(HEAD);
        }
    }

    fn finish(&mut self) -> Result<(), EngineError> {
        let nonsense = |what: String| Err(EngineError::Nonsense(what));
        self.taken += self.entry.len();
        if self.taken > ALL {
            return nonsense(format!("it is longer than {} MiB", ALL >> 20));
        }
        if std::mem::take(&mut self.is_too_long) {
            self.entries.too_long.push(name_in(&self.entry));
        } else {
            match serde_json::from_slice(&self.entry) {
                Ok(entry) => self.entries.whole.push(entry),
                Err(error) => return nonsense(error.to_string()),
            }
        }
        self.entry.clear();
        Ok(())
    }

    /// All of it, where it has come to its end.
    pub(crate) fn end(self) -> Result<Entries<T>, EngineError> {
        if self.has_ended {
            Ok(self.entries)
        } else {
            Err(EngineError::Nonsense("it ends in its middle".to_owned()))
        }
    }
}

/// What the head of a container calls it: its name, or its id where that does not come at once.
fn name_in(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let behind = |key: &str| {
        let (_, value) = head.split_once(key)?;
        let is_of_name = |c: &char| c.is_ascii_alphanumeric() || "_.-".contains(*c);
        let name: String = value
            .trim_start_matches('/')
            .chars()
            .take_while(is_of_name)
            .collect();
        (!name.is_empty()).then_some(name)
    };
    behind("\"Names\":[\"")
        .or_else(|| behind("\"Id\":\""))
        .unwrap_or_else(|| "without a name".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Each way to cut it in two.
    fn read(text: &str) -> Vec<Result<Entries<Value>, EngineError>> {
        let cuts = 0..=text.len().min(64);
        let read = |cut: usize| {
            let mut reader = Reader::default();
            reader.take(&text.as_bytes()[..cut])?;
            reader.take(&text.as_bytes()[cut..])?;
            reader.end()
        };
        cuts.map(read).collect()
    }

    #[test]
    fn entries_are_told_apart_wherever_a_list_is_cut() {
        let list = json!([{"a": "}],{\"\\"}, {}, {"b": [[{"c": "\\"}]], "d": null}]);
        for text in [list.to_string(), format!("\n {list:#} \r\n")] {
            for entries in read(&text) {
                let entries = entries.unwrap();
                assert_eq!(Value::Array(entries.whole), list);
                assert!(entries.too_long.is_empty());
            }
        }
    }

    #[test]
    fn what_is_too_long_is_named_and_the_others_are_there() {
        let long = "x".repeat(LONGEST);
        let text = format!(
            r#"[{{"Id":"a"}},{{"Id":"b","Names":["/long"],"Labels":{{"l":"{long}"}}}},{{"Id":"c","L":"{long}"}},{{"L":"{long}"}},{{"Id":"d"}}]"#
        );
        let mut reader = Reader::<Value>::default();
        reader.take(text.as_bytes()).unwrap();
        assert!(reader.entry.capacity() <= 2 * LONGEST);
        let entries = reader.end().unwrap();
        assert_eq!(entries.whole, [json!({"Id": "a"}), json!({"Id": "d"})]);
        assert_eq!(entries.too_long, ["long", "c", "without a name"]);
    }

    #[test]
    fn what_is_no_whole_list_is_an_error() {
        for bad in [
            "",
            "null",
            "{}",
            "[1]",
            "[\"a\"]",
            "[{}",
            "[{\"a\":1]",
            "[]]",
            "[][]",
            "[{a}]",
            "]",
        ] {
            for entries in read(bad) {
                assert!(
                    matches!(entries, Err(EngineError::Nonsense(_))),
                    "{bad}: {entries:?}"
                );
            }
        }
    }
}
