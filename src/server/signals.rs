//! The signals that this process handles.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The meaning of a signal for the main thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
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

impl Signals {
    /// Registers the signal handlers. Must be called within a runtime, and before the configuration is loaded: a
    /// signal that arrives meanwhile would otherwise end the process.
    ///
    /// # Errors
    /// The system rejects the registration.
    pub(super) fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next signal. One that ends the process takes precedence.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Told::Stop("terminated"),
            _ = self.interrupt.recv() => Told::Stop("interrupt"),
            _ = self.quit.recv() => Told::HandOver,
            _ = self.hang_up.recv() => Told::Reload,
            _ = self.user_1.recv() => Told::ReopenLogs,
            _ = self.user_2.recv() => Told::Upgrade,
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
