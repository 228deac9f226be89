//! Waiting with a timer of the kernel.

use std::io;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::watched::Watched;

/// Waits this long, with one wake-up. Cancel-safe.
pub(super) async fn sleep(time: Duration) {
    let Ok(timer) = timer(time) else {
        // There are no descriptors, or the time is longer than the kernel can count.
        return tokio::time::sleep(time).await;
    };
    // It stays ready once it is: the value need not be read, the timer is not used again.
    let _ = timer.ready().await;
}

fn timer(time: Duration) -> io::Result<Watched> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let never = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let value = Itimerspec {
        it_interval: never,
        // Zero would switch it off.
        it_value: Timespec::try_from(time.max(Duration::from_nanos(1))).map_err(io::Error::other)?,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &value)?;
    Watched::readable(timer)
}
