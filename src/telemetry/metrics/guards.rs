//! Counts that go down again when a guard is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::Metrics;

/// What one worker counted of all requests.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Requests {
    /// It may end on another worker, but it ends in this part.
    pub(super) in_flight: AtomicI64,
    pub(super) panics: AtomicU64,
}

/// Counts one request until it is dropped, also if its task is dropped or panics.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Requests>);

impl InFlight {
    pub(super) fn new(part: &Arc<Requests>) -> InFlight {
        part.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(part))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking() {
            self.0.panics.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts one client connection until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    pub(super) metrics: Arc<Metrics>,
}

impl ConnectionGuard {
    /// `None` if `most` connections are already open.
    pub(crate) fn open(metrics: &Arc<Metrics>, most: usize) -> Option<ConnectionGuard> {
        if metrics.open.fetch_add(1, Ordering::Relaxed) >= most {
            metrics.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        metrics.connections.inc();
        metrics.connections_open.inc();
        Some(ConnectionGuard {
            metrics: Arc::clone(metrics),
        })
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.metrics.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections_open.dec();
    }
}
