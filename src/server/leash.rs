//! What ends a tunnel from outside: a handshake that is not answered, silence on both sides, a moment fixed beforehand.
//!
//! Pingora watches the two directions of an upgraded connection apart from each other, so that a quiet listener would
//! be cut while its counterpart talks. The client's connection sees the bytes of both directions: here it counts them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How long a tunnel may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Until the upstream has answered the handshake.
    pub handshake: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// The end, whatever happens: the token of the handshake has expired.
    pub end: Option<Instant>,
}

/// The terms, with the clock that enforces them.
#[derive(Debug)]
pub struct Leash {
    terms: Terms,
    /// When the last byte went by.
    moved: Instant,
    /// Whether the answer to the handshake has gone out.
    open: bool,
    timer: Pin<Box<Sleep>>,
}

impl Leash {
    /// Starts the clock of the handshake.
    pub fn new(terms: Terms) -> Leash {
        let moved = Instant::now();
        let due = due(&terms, moved, false);
        Leash {
            terms,
            moved,
            open: false,
            timer: Box::pin(tokio::time::sleep_until(due)),
        }
    }

    /// The client sent something.
    pub fn received(&mut self) {
        self.moved = Instant::now();
    }

    /// The client was sent something; the first time, that is the answer to its handshake.
    pub fn sent(&mut self) {
        self.moved = Instant::now();
        if !self.open {
            self.open = true;
            self.timer
                .as_mut()
                .reset(due(&self.terms, self.moved, true));
        }
    }

    /// Ready, with the error to report, once the connection has to end.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            // Bytes only move the moment away: the timer is set anew when it has run down, not for each of them.
            let due = due(&self.terms, self.moved, self.open);
            if due <= Instant::now() {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.timer.as_mut().reset(due);
        }
    }
}

fn due(terms: &Terms, moved: Instant, open: bool) -> Instant {
    let due = moved
        + match open {
            true => terms.idle,
            false => terms.handshake,
        };
    terms.end.map_or(due, |end| end.min(due))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        handshake: Duration::from_secs(2),
        idle: Duration::from_secs(60),
        end: None,
    };

    async fn ended_after(leash: &mut Leash) -> Duration {
        let start = Instant::now();
        std::future::poll_fn(|cx| leash.poll_end(cx)).await;
        start.elapsed()
    }

    fn seconds(took: Duration) -> u64 {
        (took + Duration::from_millis(500)).as_secs()
    }

    #[test]
    fn a_tunnel_ends_by_silence_after_its_handshake_and_at_its_end_in_any_case() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut waiting = Leash::new(TERMS);
            assert_eq!(seconds(ended_after(&mut waiting).await), 2);

            let mut open = Leash::new(TERMS);
            open.sent();
            tokio::time::advance(Duration::from_secs(50)).await;
            open.received();
            assert_eq!(seconds(ended_after(&mut open).await), 60);

            let mut bounded = Leash::new(Terms {
                end: Some(Instant::now() + Duration::from_secs(5)),
                ..TERMS
            });
            bounded.sent();
            assert_eq!(seconds(ended_after(&mut bounded).await), 5);
        });
    }
}
