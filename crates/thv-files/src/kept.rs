//! What is kept by name, as long as there is room, by who comes again.

use std::collections::HashMap;

/// How many bytes are kept. What has no room is made each time.
pub(crate) const MOST: usize = 16 << 20;

/// Values by name, each with the bytes that count for it.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    entries: HashMap<String, (T, usize)>,
    bytes: usize,
    /// Something had no room since the last time that names were forgotten.
    is_full: bool,
    /// All names were gone through before: most programs do that once, and have no use for what is kept.
    comes_again: bool,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            bytes: 0,
            is_full: false,
            comes_again: false,
        }
    }
}

impl<T> Kept<T> {
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.entries.get(name).map(|(value, _)| value)
    }

    /// Whether anything is kept at all.
    pub(crate) fn is_used(&self) -> bool {
        self.comes_again
    }

    /// Keeps a value in place of the one before, if there is room.
    pub(crate) fn put(&mut self, name: &str, value: T, bytes: usize) {
        if !self.comes_again {
            return;
        }
        if let Some((_, before)) = self.entries.remove(name) {
            self.bytes -= before;
        }
        if self.bytes + bytes <= MOST {
            self.bytes += bytes;
            self.entries.insert(name.to_owned(), (value, bytes));
        } else {
            self.is_full = true;
        }
    }

    /// Forgets what has none of `names`, which are in order, where that frees room that is wanted: there is more than they
    /// are, or something had no room. `suffix` is what a kept name has behind them. From the first time on values are kept.
    pub(crate) fn retain<N: AsRef<str>>(&mut self, names: &[N], suffix: &str) {
        self.comes_again = true;
        if self.entries.len() <= names.len() && !self.is_full {
            return;
        }
        self.is_full = false;
        self.entries.retain(|name, (_, bytes)| {
            let name = name.strip_suffix(suffix).unwrap_or(name);
            let stays = names.binary_search_by(|it| it.as_ref().cmp(name)).is_ok();
            if !stays {
                self.bytes -= *bytes;
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of who was there before.
    fn again<T>() -> Kept<T> {
        let mut kept = Kept::default();
        kept.retain::<&str>(&[], "");
        kept
    }

    #[test]
    fn nothing_is_kept_for_who_comes_once() {
        let mut kept = Kept::default();
        kept.put("a", 1, 1);
        assert_eq!(kept.get("a"), None);
        kept.retain(&["a"], "");
        kept.put("a", 2, 1);
        assert_eq!(kept.get("a"), Some(&2));
    }

    #[test]
    fn what_is_not_named_any_more_is_forgotten_when_its_room_is_wanted() {
        let mut kept = again();
        for name in ["a.json", "b.json", "c.json"] {
            kept.put(name, (), MOST / 2);
        }
        let has = |kept: &Kept<()>| ["a.json", "b.json", "c.json"].map(|name| kept.get(name).is_some());
        assert_eq!(has(&kept), [true, true, false], "there is room for two");
        kept.retain(&["b", "c"], ".json");
        kept.put("c.json", (), MOST / 2);
        assert_eq!(has(&kept), [false, true, true]);
        // Nobody asked for room.
        kept.retain(&["b", "d"], ".json");
        assert_eq!(has(&kept), [false, true, true]);
        // There would be more and more of them.
        kept.retain(&["b"], ".json");
        assert_eq!(has(&kept), [false, true, false]);
    }

    #[test]
    fn a_value_has_the_room_of_the_one_before() {
        let mut kept = again();
        for number in 0..3 {
            kept.put("a", number, MOST);
            assert_eq!(kept.get("a"), Some(&number));
        }
        kept.put("a", 3, MOST + 1);
        assert_eq!(kept.get("a"), None, "the one before is not what is there now");
    }
}
