//! When a connection that was lost is opened again.

use std::time::Duration;

/// A connection that stays open for this time has worked: the next one is opened at once, without a pause. So a server
/// that closes each connection immediately is not called without end.
const WORKED: Duration = Duration::from_millis(250);

/// The number of consecutive failures after an attempt: `lived` is the time for which the connection was open, or
/// `None` if it was not opened.
pub(super) fn failures_after(failures: u32, lived: Option<Duration>) -> u32 {
    match lived {
        Some(lived) if lived >= WORKED => 0,
        _ => failures.saturating_add(1),
    }
}

/// Up to a quarter shorter than `whole`, so that several gateways do not reconnect at the same moment.
pub(super) fn spread(whole: Duration) -> Duration {
    let mut byte = [0];
    let random = aws_lc_rs::rand::fill(&mut byte);
    random.map_or(whole, |()| whole - whole / 1024 * u32::from(byte[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_worked_ends_the_failures_and_the_next_one_is_opened_at_once() {
        let mut failures = 0;
        for _ in 0..3 {
            failures = failures_after(failures, None);
        }
        // A refused call that took long is no connection that worked.
        assert_eq!(failures, 3);
        let short = Some(Duration::from_millis(1));
        assert_eq!(failures_after(failures, short), 4);
        let worked = failures_after(failures, Some(Duration::from_millis(500)));
        assert_eq!(worked, 0);
    }
}
