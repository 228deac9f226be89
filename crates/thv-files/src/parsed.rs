//! What texts were parsed to, as long as they stay the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kept::Kept;

/// What texts were parsed to, by name. A text is compared, never its time or size: what is kept is what parsing the text
/// that is there now would give.
#[derive(Debug)]
pub struct Parsed<T> {
    kept: Mutex<Kept<Arc<Entry<T>>>>,
}

#[derive(Debug)]
struct Entry<T> {
    text: Arc<[u8]>,
    value: Arc<T>,
}

impl<T> Default for Parsed<T> {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
        }
    }
}

impl<T> Parsed<T> {
    /// What `parse` makes of `text`, or made of the same text of the same name before, after the first
    /// [`retain`](Self::retain). Failures are not kept.
    ///
    /// # Errors
    /// Those of `parse`.
    pub fn get<E>(
        &self,
        name: &str,
        text: &Arc<[u8]>,
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let found = self.kept().get(name).map(Arc::clone);
        if let Some(entry) = found.filter(|entry| is_same(&entry.text, text)) {
            return Ok(Arc::clone(&entry.value));
        }
        let value = Arc::new(parse(text)?);
        let entry = Entry {
            text: Arc::clone(text),
            value: Arc::clone(&value),
        };
        self.kept().put(name, Arc::new(entry), text.len());
        Ok(value)
    }

    /// Forgets what is not among `names`, which are in order, where its room is wanted.
    pub fn retain<N: AsRef<str>>(&self, names: &[N]) {
        self.kept().retain(names, "");
    }

    fn kept(&self) -> MutexGuard<'_, Kept<Arc<Entry<T>>>> {
        // Each change is whole before anything could panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was not read again need not be compared.
fn is_same(one: &Arc<[u8]>, other: &Arc<[u8]>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_text_is_parsed_again_when_it_is_another_and_only_then() {
        let parsed = Parsed::default();
        parsed.retain::<&str>(&[]);
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
}
