//! What was sent and what was lost.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Signal;

/// Why data was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    QueueFull,
    Rejected,
    Timeout,
    Shutdown,
}

impl Lost {
    pub const ALL: [Lost; 4] = [
        Lost::QueueFull,
        Lost::Rejected,
        Lost::Timeout,
        Lost::Shutdown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Lost::QueueFull => "queue_full",
            Lost::Rejected => "rejected",
            Lost::Timeout => "timeout",
            Lost::Shutdown => "shutdown",
        }
    }
}

/// The counters of an exporter.
#[derive(Debug, Default)]
pub struct Counts {
    pub(super) lost: [[AtomicU64; 4]; 2],
    /// Accepted and failed requests, by signal.
    pub(super) taken: [AtomicU64; 2],
    pub(super) failed: [AtomicU64; 2],
    /// The number and size of waiting spans.
    pub(super) waiting: AtomicUsize,
    pub(super) bytes: AtomicUsize,
}

impl Counts {
    /// The number of spans, or metrics requests, that were lost for this reason.
    pub fn lost(&self, signal: Signal, reason: Lost) -> u64 {
        self.lost[signal as usize][reason as usize].load(Ordering::Relaxed)
    }

    /// The numbers of accepted and failed requests.
    pub fn exports(&self, signal: Signal) -> (u64, u64) {
        let of = |all: &[AtomicU64; 2]| all[signal as usize].load(Ordering::Relaxed);
        (of(&self.taken), of(&self.failed))
    }

    /// The number of waiting spans.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn lose(&self, signal: Signal, reason: Lost, count: u64) {
        self.lost[signal as usize][reason as usize].fetch_add(count, Ordering::Relaxed);
    }
}
