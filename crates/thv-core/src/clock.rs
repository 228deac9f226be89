//! Wall-clock time as a value.

use std::fmt::Debug;

use jiff::ZonedDateTime;

/// Where wall-clock time comes from, so that a test can say what time it is.
///
/// Only timestamps that people read come from here; waiting is done with the async runtime's timer.
///
/// ```
/// use thv_core::Clock;
/// use thv_core::jiff::{Timestamp, ZonedDateTime, tz::TimeZone};
///
/// /// The time that a test says.
/// #[derive(Debug)]
/// struct At(Timestamp);
///
/// impl Clock for At {
///     fn now(&self) -> ZonedDateTime {
///         self.0.to_zoned_datetime(TimeZone::UTC)
///     }
/// }
/// assert_eq!(At(Timestamp::UNIX_EPOCH).now().to_string(), "1970-01-01T00:00:00+00:00[UTC]");
/// ```
pub trait Clock: Debug + Send + Sync + 'static {
    /// The current instant in the zone that status files are written in.
    fn now(&self) -> ZonedDateTime;
}

/// The machine's clock in the machine's time zone.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> ZonedDateTime {
        ZonedDateTime::now()
    }
}
