//! The memory that clients and backends occupy.

use prometheus::{IntCounter, IntGauge};

use super::registration::Registration;

/// The bytes that are charged, and the limits.
#[derive(Debug)]
pub(crate) struct Memory {
    buffered: IntGauge,
    buffered_limit: IntGauge,
    rejected: IntCounter,
    charged: IntGauge,
    charged_limit: IntGauge,
}

impl Memory {
    pub(super) fn new(maker: &Registration<'_>) -> Memory {
        Memory {
            buffered: maker.int_gauge(
                "portcullis_buffered_bytes",
                "Bytes of bodies in memory, without small bodies.",
            ),
            buffered_limit: maker.int_gauge(
                "portcullis_buffered_bytes_limit",
                "The limit of bytes of bodies in memory.",
            ),
            rejected: maker.int_counter(
                "portcullis_buffered_refused_total",
                "Bodies, heads and calls rejected because a limit was reached: their requests got 503.",
            ),
            charged: maker.int_gauge(
                "portcullis_memory_charged_bytes",
                "Memory for connections, bodies, heads, calls to backends and stored responses.",
            ),
            charged_limit: maker.int_gauge(
                "portcullis_memory_charged_bytes_limit",
                "The limit of this memory.",
            ),
        }
    }

    /// Sets the buffered bytes and their limit, and what was rejected since the start.
    pub(crate) fn buffered(&self, used: u64, limit: u64, rejected: u64) {
        self.buffered.set(gauge(used));
        self.buffered_limit.set(gauge(limit));
        let more = rejected.saturating_sub(self.rejected.get());
        self.rejected.inc_by(more);
    }

    /// Sets all memory that is charged, and its limit.
    pub(crate) fn charged(&self, taken: u64, limit: u64) {
        self.charged.set(gauge(taken));
        self.charged_limit.set(gauge(limit));
    }
}

fn gauge(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
