//! Bytes that may be in memory at one time, over everybody who shares the budget (and one body more).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is not larger is not counted: the bounds on calls and connections bound it.
pub(crate) const SMALL: usize = 16 * 1024;
/// How long whoever wants more waits for others to give back.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of one permit.
const UNIT: usize = 1024;

/// A bound that is shared by all clones.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    /// For one whose beginning is here, but not its rest, when all is taken: so there is always one that gets on.
    reserve: Arc<Semaphore>,
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Share {
    taken: Option<OwnedSemaphorePermit>,
    /// With it, anything is covered.
    reserve: Option<OwnedSemaphorePermit>,
}

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Starved;

/// Bytes that give their share back when the last handle to them is dropped.
struct Charged {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let units = bytes.div_ceil(UNIT).clamp(1, u32::MAX as usize);
        Self {
            free: Arc::new(Semaphore::new(units)),
            reserve: Arc::new(Semaphore::new(1)),
        }
    }

    /// Makes `share` cover `bytes`. It waits a moment when others have it all.
    pub(crate) async fn cover(&self, share: &mut Share, bytes: usize) -> Result<(), Starved> {
        if bytes <= SMALL || share.reserve.is_some() {
            return Ok(());
        }
        let covered = share.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = units(bytes).saturating_sub(u32::try_from(covered).unwrap_or(u32::MAX));
        if missing == 0 {
            return Ok(());
        }
        let more = match Arc::clone(&self.free).try_acquire_many_owned(missing) {
            Ok(more) => Some(more),
            Err(_) => self.wait_for(missing, share).await?,
        };
        let Some(more) = more else { return Ok(()) };
        match &mut share.taken {
            Some(share) => share.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    /// More permits, or else the reserve, which goes into `share`.
    async fn wait_for(
        &self,
        missing: u32,
        share: &mut Share,
    ) -> Result<Option<OwnedSemaphorePermit>, Starved> {
        let waiting = async {
            tokio::select! {
                biased;
                more = Arc::clone(&self.free).acquire_many_owned(missing) => more.map(Some),
                reserve = Arc::clone(&self.reserve).acquire_owned() => {
                    share.reserve = Some(reserve?);
                    Ok(None)
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(more)) => Ok(more),
            Ok(Err(_)) | Err(_) => Err(Starved),
        }
    }

    /// `bytes` counted for as long as any part of them is referred to; none when there is no room for them. Never
    /// waits.
    pub(crate) fn charge(&self, bytes: Bytes) -> Option<Bytes> {
        if bytes.len() <= SMALL {
            return Some(bytes);
        }
        let share = Arc::clone(&self.free)
            .try_acquire_many_owned(units(bytes.len()))
            .ok()?;
        Some(Bytes::from_owner(Charged { bytes, _share: share }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_covered_is_given_back_and_what_is_not_there_is_refused_soon() {
        let budget = Budget::new(100 * UNIT);
        let (mut first, mut second) = (Share::default(), Share::default());
        assert_eq!(budget.cover(&mut first, SMALL).await, Ok(()));
        assert_eq!(
            budget.free.available_permits(),
            100,
            "small bodies are not counted"
        );
        assert_eq!(budget.cover(&mut first, 60 * UNIT).await, Ok(()));
        assert_eq!(budget.cover(&mut first, 60 * UNIT).await, Ok(()));
        assert_eq!(budget.free.available_permits(), 40);
        assert_eq!(
            budget.cover(&mut second, 41 * UNIT).await,
            Ok(()),
            "one gets on in any case"
        );
        let mut third = Share::default();
        assert_eq!(budget.cover(&mut third, 41 * UNIT).await, Err(Starved));
        drop(first);
        assert_eq!(budget.cover(&mut third, 41 * UNIT).await, Ok(()));
        drop((second, third));
        assert_eq!(budget.free.available_permits(), 100);
        assert_eq!(budget.reserve.available_permits(), 1);
    }

    #[test]
    fn charged_bytes_are_counted_until_their_last_part_is_gone() {
        let budget = Budget::new(100 * UNIT);
        let whole = budget.charge(vec![7; 60 * UNIT].into()).unwrap();
        assert!(budget.charge(vec![0; 60 * UNIT].into()).is_none());
        let part = whole.slice(10..20);
        drop(whole);
        assert_eq!(budget.free.available_permits(), 40);
        assert_eq!(&part[..], [7; 10]);
        drop(part);
        assert_eq!(budget.free.available_permits(), 100);
    }
}
