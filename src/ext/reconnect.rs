//! When a connection that was lost is opened again, and how the pauses between failures grow.

use std::time::Duration;

/// A connection that stays open for this time resets the count of failures.
pub(super) const STABLE: Duration = Duration::from_secs(5);

/// The number of consecutive failures after a connection that stayed open for `lived`.
pub(super) fn failures_after(failures: u32, lived: Duration) -> u32 {
    if lived >= STABLE {
        return 1;
    }
    failures.saturating_add(1)
}

/// A pause that was `first` after the first failure in a row, and is twice as long after each further one.
pub(super) fn doubled(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16))
}

/// Up to a quarter shorter than `whole`, so that several gateways do not reconnect at the same moment.
pub(super) fn spread(whole: Duration) -> Duration {
    let mut byte = [0];
    let random = aws_lc_rs::rand::fill(&mut byte);
    random.map_or(whole, |()| whole - whole / 1024 * u32::from(byte[0]))
}
