//! Requests that are on their way: a process that stops waits for them like for those that it serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of clients: of those that have connected or begun a request and have not sent a whole head, or of all with a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arriving(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Arrival(Arc<AtomicUsize>);

impl Arriving {
    pub(super) fn one(&self) -> Arrival {
        self.0.fetch_add(1, Ordering::Relaxed);
        Arrival(Arc::clone(&self.0))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counts_until_it_is_dropped() {
        let arriving = Arriving::default();
        let (one, other) = (arriving.one(), arriving.one());
        drop(one);
        assert!(!arriving.is_empty());
        drop(other);
        assert!(arriving.is_empty());
    }
}
