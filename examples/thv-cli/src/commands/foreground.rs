//! Signals, and workloads that live as long as their command.

use std::process::ExitCode;
use std::sync::LazyLock;

use rustix::process::Signal;
use thv::manager::ForegroundEnd;
use tokio::signal::unix::{SignalKind, signal as listen};
use tokio_util::sync::CancellationToken;

use crate::output::note;

const SIGHUP: u8 = 1;
const SIGTERM: u8 = 15;

/// From here on a file that may not grow any more (`ulimit -f`) is an error of who writes it, and not the end of this process.
/// Programs that it starts end by that signal as ever: a handler does not outlive exec.
pub(super) fn outlive_long_files() {
    // Without a handler it ends, as it would have.
    let _ = listen(SignalKind::from_raw(Signal::XFSZ.as_raw()));
}

/// Waits for SIGINT, SIGTERM, SIGQUIT or SIGHUP, which comes when the terminal is closed, and says which came.
pub(super) async fn signal() -> u8 {
    let kinds = [
        (SignalKind::interrupt(), 2),
        (SignalKind::terminate(), SIGTERM),
        (SignalKind::quit(), 3),
        (SignalKind::hangup(), SIGHUP),
    ];
    let kinds = kinds
        .into_iter()
        .filter(|(_, number)| *number != SIGHUP || !*OUTLIVES_ITS_TERMINAL);
    let waits = kinds.map(|(kind, number)| {
        Box::pin(async move {
            match listen(kind) {
                Ok(mut signals) => {
                    signals.recv().await;
                }
                // Without a handler the signal ends the process by itself.
                Err(_) => std::future::pending::<()>().await,
            }
            number
        })
    });
    futures_util::future::select_all(waits).await.0
}

/// Whether it was started with SIGHUP ignored, as `nohup` does. Whoever listens to a signal does not ignore it any more, so
/// this is looked at before.
static OUTLIVES_ITS_TERMINAL: LazyLock<bool> = LazyLock::new(|| {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
});

/// Gives `work` a token that the first signal cancels. A second Ctrl-C ends the process; SIGTERM may come again, from each
/// command that wants the same end, and SIGHUP, from the shell and from the terminal: they must not cut it short.
pub(super) async fn until_signal<T, F: Future<Output = T>>(work: impl FnOnce(CancellationToken) -> F) -> T {
    let cancel = CancellationToken::new();
    let signals = async {
        signal().await;
        cancel.cancel();
        loop {
            match signal().await {
                SIGTERM | SIGHUP => {}
                number => std::process::exit(i32::from(128 + number)),
            }
        }
    };
    tokio::select! {
        done = work(cancel.clone()) => done,
        () = signals => unreachable!("signals are waited for without end"),
    }
}

/// What became of the workload; that it ran already was said before.
pub(super) fn write(name: &str, end: ForegroundEnd) -> ExitCode {
    match end {
        ForegroundEnd::Deleted => note(&format!("\"{name}\" is stopped and removed")),
        ForegroundEnd::Stopped => note(&format!("\"{name}\" is stopped")),
        ForegroundEnd::TakenOver => note(&format!("\"{name}\" belongs to another process now")),
        _ => {}
    }
    ExitCode::SUCCESS
}
