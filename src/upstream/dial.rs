//! What an attempt to connect says about a host.

use std::time::Duration;

use tokio::time::Instant;

use super::host::{Peers, Place};
use super::hosts::HostSet;

/// An attempt to connect. If it is dropped without a result, it was cancelled by the caller's deadline or because the
/// client closed its connection. After a long wait this counts as a failure.
pub(super) struct Dial<'a> {
    peers: &'a Peers,
    peer: usize,
    place: &'a Place,
    since: Instant,
    long_wait: Duration,
    has_verdict: bool,
}

impl<'a> Dial<'a> {
    pub(super) fn begin(
        set: &HostSet,
        peers: &'a Peers,
        peer: usize,
        place: &'a Place,
    ) -> Dial<'a> {
        Dial {
            peers,
            peer,
            place,
            since: Instant::now(),
            long_wait: set.rules.long_wait() / 2,
            has_verdict: false,
        }
    }

    pub(super) fn succeeded(mut self) {
        self.has_verdict = true;
    }

    pub(super) fn failed(mut self) {
        self.has_verdict = true;
        self.impose();
    }

    fn impose(&self) {
        if let Some(candidate) = self.peers.list.get(self.peer) {
            candidate.penalty.impose();
        }
    }
}

impl Drop for Dial<'_> {
    fn drop(&mut self) {
        if self.has_verdict || self.since.elapsed() < self.long_wait {
            return;
        }
        self.impose();
        if self.peers.all_failed() {
            self.place.penalty.impose();
        }
    }
}
