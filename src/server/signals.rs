//! The signals that mean something to this process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the main thread is told by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Stop; the word for the log.
    Stop(&'static str),
    HandOver,
    Upgrade,
    Reload,
    ReopenLogs,
}

/// Signals wait here from the moment of [`Signals::listen`]; several of one kind count as one.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
    quit: Signal,
}

impl Signals {
    /// Takes the signals. Must be called within a runtime, and before the configuration is read: a signal that comes
    /// meanwhile would otherwise end the process.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next one. One that ends the process goes first.
    pub async fn next(&mut self) -> Told {
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
    pub async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "terminated",
            _ = self.interrupt.recv() => "interrupt",
        }
    }
}
