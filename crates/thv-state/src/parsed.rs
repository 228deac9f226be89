//! What texts were parsed to, as long as they stay the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many bytes of texts are kept. What has no room is parsed each time.
const MOST: usize = 16 << 20;

/// What texts were parsed to, by name. A text is compared, never its time or size: what is kept is what parsing the text
/// that is there now would give.
#[derive(Debug)]
pub struct Parsed<T> {
    kept: Mutex<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    entries: HashMap<String, Arc<Entry<T>>>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    text: Arc<[u8]>,
    value: Arc<T>,
}

impl<T> Default for Parsed<T> {
    fn default() -> Self {
        Self {
            kept: Mutex::new(Kept {
                entries: HashMap::new(),
                bytes: 0,
            }),
        }
    }
}

impl<T> Parsed<T> {
    /// What `parse` makes of `text`, or made of the same text of the same name before. Failures are not kept.
    ///
    /// # Errors
    /// Those of `parse`.
    pub fn get<E>(
        &self,
        name: &str,
        text: &Arc<[u8]>,
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let found = self.kept().entries.get(name).map(Arc::clone);
        if let Some(entry) = found.filter(|entry| is_same(&entry.text, text)) {
            return Ok(Arc::clone(&entry.value));
        }
        let value = Arc::new(parse(text)?);
        self.kept().put(name, text, Arc::clone(&value));
        Ok(value)
    }

    /// Forgets what is not among `names`, which are in order.
    pub fn retain<N: AsRef<str>>(&self, names: &[N]) {
        let kept = &mut *self.kept();
        let Kept { entries, bytes } = kept;
        entries.retain(|name, entry| {
            let stays = names.binary_search_by(|it| it.as_ref().cmp(name)).is_ok();
            if !stays {
                *bytes -= entry.text.len();
            }
            stays
        });
    }

    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        // Each change is whole before anything could panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was not read again need not be compared.
fn is_same(one: &Arc<[u8]>, other: &Arc<[u8]>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

impl<T> Kept<T> {
    fn put(&mut self, name: &str, text: &Arc<[u8]>, value: Arc<T>) {
        if let Some(old) = self.entries.remove(name) {
            self.bytes -= old.text.len();
        }
        if self.bytes + text.len() <= MOST {
            self.bytes += text.len();
            let text = Arc::clone(text);
            self.entries
                .insert(name.to_owned(), Arc::new(Entry { text, value }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_text_is_parsed_again_when_it_is_another_and_only_then() {
        let parsed = Parsed::default();
        let count = Cell::new(0);
        let get = |name: &str, text: &str| {
            let value = parsed.get(name, &text.as_bytes().into(), |text| {
                count.set(count.get() + 1);
                std::str::from_utf8(text).unwrap().parse::<u32>()
            });
            (value.map(|value| *value).ok(), count.get())
        };
        assert_eq!(get("a", "1"), (Some(1), 1));
        assert_eq!(get("a", "1"), (Some(1), 1));
        assert_eq!(get("b", "1"), (Some(1), 2));
        // Of the same length, and back again.
        assert_eq!(get("a", "2"), (Some(2), 3));
        assert_eq!(get("a", "1"), (Some(1), 4));
        assert_eq!(get("a", "x"), (None, 5));
        assert_eq!(get("a", "x"), (None, 6));
        assert_eq!(get("a", "1"), (Some(1), 6));
    }

    #[test]
    fn what_is_not_named_any_more_is_forgotten_and_its_room_is_free() {
        let parsed = Parsed::default();
        let text = vec![b'1'; MOST / 2].into();
        let get = |name: &str| {
            let mut again = false;
            let parse = |_: &[u8]| {
                again = true;
                Ok::<_, ()>(())
            };
            parsed.get(name, &text, parse).unwrap();
            again
        };
        assert!(get("a") && get("b") && get("c"));
        assert!(!get("a") && !get("b") && get("c"), "there is room for two");
        parsed.retain(&["b", "c"]);
        assert!(!get("b") && get("c") && !get("c"));
        assert!(get("a"));
    }
}
