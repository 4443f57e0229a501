//! Delivers requests, and repeats those that may succeed later.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{Counts, Lost, Sent, Signal, Transport};
use crate::backoff::Backoff;
use crate::telemetry::otlp::encode;
use crate::telemetry::timestamp;

/// The pauses before a request is sent again.
const PAUSES: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(30));

/// A batch that could not be delivered within this time is dropped, because newer spans are more useful.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest time for which a collector may ask for silence. Spans that come meanwhile wait in the queue.
const MAX_SILENCE: Duration = Duration::from_secs(300);

/// How often the log repeats that a collector is unreachable.
const REMINDER: Duration = Duration::from_secs(60);

/// Delivers requests, and sends them again where that makes sense.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) counts: Arc<Counts>,
    pub(super) name: Arc<str>,
    /// When the collector started to fail, and when this was last logged.
    pub(super) failing_since: Mutex<Option<(Instant, Instant)>>,
    /// Until when the collector wants no requests of a signal.
    pub(super) silent_until: Mutex<[Option<Instant>; 2]>,
}

impl Sender {
    /// Sends `body`, which contains `count` spans (or one push), until it is accepted or dropped.
    pub(super) async fn deliver(
        &self,
        signal: Signal,
        body: Bytes,
        count: u64,
        ending: &mut watch::Receiver<Option<Instant>>,
    ) {
        self.keep_silence(signal, ending).await;
        let give_up = Instant::now() + MAX_TIMEOUT;
        let mut attempts: u32 = 0;
        loop {
            let end = *ending.borrow();
            let until = end.unwrap_or(give_up).min(give_up);
            let sent = timeout_at(until, self.transport.send(signal, body.clone())).await;
            let (reason, after, lost) = match sent {
                Ok(Sent::Taken { response }) => {
                    self.taken(signal, &response);
                    return;
                }
                Ok(Sent::Again { after, reason }) => (reason, after, None),
                Ok(Sent::Rejected { reason }) => (reason, None, Some(Lost::Rejected)),
                Err(_) => ("no response in time".to_owned(), None, None),
            };
            self.counts.failed[signal as usize].fetch_add(1, Ordering::Relaxed);
            self.complain(signal, &reason);
            attempts = attempts.saturating_add(1);
            let pause = PAUSES.pause(attempts);
            // A collector that always allows an immediate retry must not be called in a loop.
            let wait = after.map_or(pause, |after| after.min(MAX_SILENCE).max(pause));
            let late = Instant::now() + wait >= until;
            let lost = lost.or(late.then_some(match end {
                Some(_) => Lost::Shutdown,
                None => Lost::Timeout,
            }));
            if let Some(lost) = lost {
                self.counts.lose(signal, lost, count);
                self.be_silent(signal, after);
                return;
            }
            tokio::select! {
                () = sleep(jittered(wait)) => {}
                // At the end of the process there is less time.
                _ = ending.wait_for(Option::is_some), if end.is_none() => {}
            }
        }
    }

    /// Stores how long the collector asked for no requests. This applies even if the current batch is dropped.
    fn be_silent(&self, signal: Signal, after: Option<Duration>) {
        let until = after.map(|after| Instant::now() + after.min(MAX_SILENCE));
        self.silence()[signal as usize] = until;
    }

    /// Waits for the end of that time, or for the end of the process.
    async fn keep_silence(&self, signal: Signal, ending: &mut watch::Receiver<Option<Instant>>) {
        let until = self.silence()[signal as usize].take();
        if let Some(until) = until {
            tokio::select! {
                () = sleep_until(until) => {}
                _ = ending.wait_for(Option::is_some) => {}
            }
        }
    }

    fn silence(&self) -> MutexGuard<'_, [Option<Instant>; 2]> {
        let all = self.silent_until.lock();
        all.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn taken(&self, signal: Signal, response: &[u8]) {
        self.counts.taken[signal as usize].fetch_add(1, Ordering::Relaxed);
        let rejected = encode::rejected(response);
        if rejected > 0 {
            self.counts.lose(signal, Lost::Rejected, rejected);
            self.complain(signal, &format!("it rejected {rejected} of them"));
            return;
        }
        let mut failing_since = self
            .failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((since, _)) = failing_since.take() {
            log::info!(
                "[SERVICE: OpenTelemetry] {}: the collector accepts data again, after {} s",
                self.name,
                since.elapsed().as_secs()
            );
        }
    }

    /// Logs one line when it starts to fail, and one per minute while it does.
    fn complain(&self, signal: Signal, reason: &str) {
        let now = Instant::now();
        let mut failing_since = self
            .failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let since = match *failing_since {
            Some((_, told)) if now < told + REMINDER => return,
            Some((since, _)) => since,
            None => now,
        };
        *failing_since = Some((since, now));
        log::warn!(
            "[SERVICE: OpenTelemetry] {}: {} were not delivered: {reason}",
            self.name,
            signal.as_str()
        );
    }
}

/// Reduced by up to a quarter, so that many gateways do not return at once.
fn jittered(pause: Duration) -> Duration {
    let nanos = timestamp::now().subsec_nanos();
    pause - pause / 4 * (nanos % 1000) / 1000
}
