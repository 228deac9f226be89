//! Which secrets changed since something began to use them. Counts, never a hash of a value.

use std::collections::{BTreeMap, BTreeSet};

/// Under this name [`Revisions::of`] tells which changes by other programs the store has seen. No secret has it.
const STORE: &str = "";

/// How often the secrets of a store have changed, as far as is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revisions {
    /// Another number after each change that somebody made who does not count: which secrets it was about, nobody knows.
    pub store: u64,
    /// A larger number after each change of a secret; none for one that nobody who counts has changed.
    pub secrets: BTreeMap<String, u64>,
}

/// What became of secrets since they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// Those that have another value by now, or none any more.
    pub changed: BTreeSet<String>,
    /// Whether any other one may have changed.
    pub perhaps: bool,
}

impl Revisions {
    /// What to keep beside something that uses `names`, to ask [`since`](Self::since) with it later.
    pub fn of<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, u64> {
        let count = |name: &str| self.secrets.get(name).copied().unwrap_or_default();
        let counts = names.into_iter().map(|name| (name.to_owned(), count(name)));
        counts.chain([(STORE.to_owned(), self.store)]).collect()
    }

    /// What changed since [`of`](Self::of) said `then`.
    pub fn since(&self, then: &BTreeMap<String, u64>) -> Stale {
        let now = |name: &str| self.secrets.get(name).copied().unwrap_or_default();
        let used = then.iter().filter(|(name, _)| *name != STORE);
        // Where counts were lost they begin anew, and a smaller one tells nothing.
        let changed: BTreeSet<_> = used
            .clone()
            .filter(|(name, then)| now(name) > **then)
            .map(|(name, _)| name.clone())
            .collect();
        let of_store = then.get(STORE) == Some(&self.store);
        Stale {
            perhaps: then.is_empty() || (!of_store && changed.len() < used.count()),
            changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revisions<const N: usize>(store: u64, secrets: [(&str, u64); N]) -> Revisions {
        Revisions {
            store,
            secrets: secrets.map(|(name, count)| (name.to_owned(), count)).into(),
        }
    }

    #[track_caller]
    fn check(then: &Revisions, now: &Revisions, changed: &[&str], perhaps: bool) {
        let stale = now.since(&then.of(["a", "b"]));
        let expected = Stale {
            changed: changed.iter().copied().map(String::from).collect(),
            perhaps,
        };
        assert_eq!(stale, expected);
    }

    #[test]
    fn what_is_used_is_compared_and_nothing_else() {
        let then = revisions(7, [("a", 1), ("c", 2)]);
        check(&then, &then, &[], false);
        check(&then, &revisions(7, [("a", 3), ("c", 2)]), &["a"], false);
        check(&then, &revisions(7, [("a", 1), ("c", 3)]), &[], false);
        check(
            &then,
            &revisions(7, [("a", 1), ("b", 3), ("c", 2)]),
            &["b"],
            false,
        );
    }

    #[test]
    fn a_change_by_somebody_who_does_not_count_may_be_of_any() {
        let then = revisions(7, [("a", 4)]);
        check(&then, &revisions(8, [("a", 4)]), &[], true);
        check(&then, &revisions(8, [("a", 5)]), &["a"], true);
        check(&then, &revisions(8, [("a", 1)]), &[], true);
        check(&then, &revisions(8, []), &[], true);
    }

    #[test]
    fn what_kept_nothing_may_have_anything() {
        assert!(revisions(0, []).since(&BTreeMap::new()).perhaps);
        assert!(!revisions(1, []).since(&revisions(0, []).of([])).perhaps);
    }
}
