//! Work on many files, shared among a few threads.

use std::num::NonZeroUsize;

/// So many threads at most.
const THREADS: usize = 4;
/// A thread costs as much as some of these.
const LEAST: usize = 64;

/// What `work` makes of shares of `items`, in their order: on as many threads as there are processors, four at most, the
/// first of which is the caller's. Few items are one share.
///
/// # Errors
/// When `work` panics on another thread.
pub fn in_shares<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&[T]) -> R + Sync,
) -> std::thread::Result<Vec<R>> {
    let threads = std::thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(THREADS);
    let share = items.len().div_ceil(threads).max(LEAST);
    let work = &work;
    std::thread::scope(|scope| {
        let mut shares = items.chunks(share);
        let own = shares.next();
        let others: Vec<_> = shares.map(|share| scope.spawn(move || work(share))).collect();
        let own = own.map(work);
        own.map(Ok)
            .into_iter()
            .chain(others.into_iter().map(std::thread::ScopedJoinHandle::join))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_in_one_share_and_in_its_place() {
        for count in [0, 1, LEAST, LEAST + 1, 10 * LEAST + 7] {
            let items: Vec<_> = (0..count).collect();
            let shares = in_shares(&items, <[usize]>::to_vec).unwrap();
            assert_eq!(shares.concat(), items);
            assert!(shares.len() <= THREADS);
        }
    }
}
