//! The signals that this process handles.

use std::io;

use nix::sys::signal::{self, SigSet, SigmaskHow};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The meaning of a signal for the main thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalAction {
    /// Stop, with the word for the log.
    Stop(&'static str),
    HandOver,
    Upgrade,
    Reload,
    ReopenLogs,
}

/// Signals are kept from the moment of [`Signals::listen`]. Several of one kind count as one.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
    quit: Signal,
}

/// The signals that this process handles.
fn all() -> SigSet {
    SigSet::from_iter([
        signal::SIGTERM,
        signal::SIGINT,
        signal::SIGHUP,
        signal::SIGUSR1,
        signal::SIGUSR2,
        signal::SIGQUIT,
    ])
}

/// Starts a process whose signals wait until it has handlers: without them they would end it. A process inherits the
/// signals that the thread which starts it has blocked (POSIX, `posix_spawn`). Other threads still handle those of
/// this process.
///
/// # Errors
/// Those of `start`, or the system rejects it.
pub(super) fn held<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let started = start();
    before.thread_set_mask()?;
    started
}

impl Signals {
    /// Registers the signal handlers. Must be called within a runtime, and before everything else: a signal that
    /// arrives meanwhile would otherwise end the process. If the process was started by [`held`], signals that have
    /// arrived since then are handled now.
    ///
    /// # Errors
    /// The system rejects the registration.
    pub(super) fn listen() -> io::Result<Signals> {
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            quit: signal(SignalKind::quit())?,
        };
        // Threads that start later inherit this, too.
        all().thread_unblock()?;
        Ok(signals)
    }

    /// The next signal. One that ends the process takes precedence.
    pub(super) async fn next(&mut self) -> SignalAction {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => SignalAction::Stop("terminated"),
            _ = self.interrupt.recv() => SignalAction::Stop("interrupt"),
            _ = self.quit.recv() => SignalAction::HandOver,
            _ = self.hang_up.recv() => SignalAction::Reload,
            _ = self.user_1.recv() => SignalAction::ReopenLogs,
            _ = self.user_2.recv() => SignalAction::Upgrade,
        }
    }

    /// Waits for a signal that ends the process.
    pub(super) async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "terminated",
            _ = self.interrupt.recv() => "interrupt",
        }
    }
}
