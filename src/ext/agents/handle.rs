//! Handles one message: waits for the rate limit, makes the calls, and reports the result to the queue.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep};

use super::Handler;
use super::failures::Failures;
use super::source::{Delivery, Disposition, Receipt};
use crate::backoff::Backoff;
use crate::ext::broker::{FULL_PAUSE, Skipped};
use crate::ext::rate_limit::{Bucket, Rate, Verdict};
use crate::runtime::failure::Failure;
use crate::telemetry::calm::Calm;
use crate::telemetry::queues::{AgentSeries, MessageCounter, Result as Ended};
use crate::telemetry::sanitize::printable;
use crate::upstream::budget::Full;
use crate::upstream::collect::Overflow;

/// The pauses before a message that failed is returned to the queue.
const PAUSES: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(30));

/// The rate of an agent.
pub(in crate::ext) struct RateLimit {
    bucket: Bucket,
    born: Instant,
}

impl RateLimit {
    /// `per_second` is more than 0. The burst is as large as what may pass in a second, and at least 1.
    pub(in crate::ext) fn new(per_second: f64) -> RateLimit {
        let rate = Rate::new(per_second, (per_second as u64).max(1));
        RateLimit {
            bucket: Bucket::new(rate, Duration::ZERO),
            born: Instant::now(),
        }
    }

    /// Waits until the next message may be processed.
    async fn turn(&self) {
        while let Verdict::Rejected { retry_after } = self.bucket.take(self.born.elapsed()) {
            sleep(retry_after).await;
        }
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pace({:?})", self.bucket.rate())
    }
}

/// What all messages of an agent share.
#[derive(Debug)]
pub(in crate::ext) struct AgentContext {
    name: Arc<str>,
    rate_limit: Option<RateLimit>,
    /// A message is done when it is taken.
    auto_ack: bool,
    /// A message that fails is rejected at once.
    discard: bool,
    /// After this many failures a message is rejected. `None` sets no limit.
    max_deliveries: Option<u32>,
    failures: Failures,
    /// Messages for which there was no memory.
    skipped: Skipped,
    /// How many messages the queue delivers before one of them is done.
    places: usize,
    /// How many messages wait until they are returned to the queue.
    waiting: AtomicUsize,
    /// Warnings that all of them do.
    stuck: Calm,
    counter: MessageCounter,
    series: AgentSeries,
}

/// How an agent deals with messages that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::ext) struct Policy {
    pub(in crate::ext) auto_ack: bool,
    pub(in crate::ext) discard: bool,
    pub(in crate::ext) max_deliveries: Option<u32>,
    /// How many messages the queue delivers before one of them is done. 0 for any number.
    pub(in crate::ext) places: usize,
}

/// A message that waits until it is returned to its queue.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AgentContext {
    pub(in crate::ext) fn new(
        name: &Arc<str>,
        rate_limit: Option<RateLimit>,
        policy: Policy,
        counter: MessageCounter,
    ) -> AgentContext {
        AgentContext {
            name: Arc::clone(name),
            rate_limit,
            auto_ack: policy.auto_ack,
            discard: policy.discard,
            max_deliveries: policy.max_deliveries,
            failures: Failures::default(),
            skipped: Skipped::default(),
            places: policy.places,
            waiting: AtomicUsize::new(0),
            stuck: Calm::default(),
            counter,
            series: AgentSeries::new(name),
        }
    }

    /// Processes a message. `over` becomes true when the connection or the agent ends. Waiting then stops, and calls in
    /// progress are finished.
    pub(super) async fn handle(
        self: Arc<Self>,
        delivery: Delivery,
        permit: OwnedSemaphorePermit,
        handler: Arc<dyn Handler>,
        mut over: watch::Receiver<bool>,
    ) {
        let Delivery { receipt, .. } = delivery;
        let body = match delivery.body {
            Ok(body) => body,
            Err(why) => {
                drop(permit);
                let skipped = (delivery.bytes, delivery.redelivered);
                return self.unkept(skipped, why, receipt, &mut over).await;
            }
        };
        let message = Message {
            key: self.failures.key(&body, &delivery.id),
            bytes: body.len(),
            redelivered: delivery.redelivered,
            earlier: delivery.earlier,
        };
        if message.redelivered {
            self.series.redelivered();
        }
        if let Some(rate_limit) = &self.rate_limit {
            tokio::select! {
                biased;
                () = ended(&mut over) => return receipt.tell(Disposition::Return).await,
                () = rate_limit.turn() => {}
            }
        }
        let mut receipt = Some(receipt);
        if self.auto_ack
            && let Some(receipt) = receipt.take()
        {
            receipt.tell(Disposition::Done).await;
        }
        let in_flight = self.series.begin();
        let result = outcome(handler.handle(body, delivery.content_type)).await;
        drop(in_flight);
        drop(permit);
        match result {
            Ok(()) => {
                self.counter.count(Ended::Ok);
                self.failures.over(message.key);
                if let Some(receipt) = receipt {
                    receipt.tell(Disposition::Done).await;
                }
            }
            Err(why) => self.failed(message, receipt, why, &mut over).await,
        }
    }

    /// A message whose body was not kept. One that is too large would be so again.
    async fn unkept(
        &self,
        (bytes, redelivered): (u64, bool),
        why: Overflow,
        receipt: Box<dyn Receipt>,
        over: &mut watch::Receiver<bool>,
    ) {
        let name = &self.name;
        if why == Overflow::TooLarge {
            self.counter.count(Ended::Rejected);
            log::error!(
                "[SERVICE: AsyncAgent][{name}] a message of {bytes} bytes is rejected: it is larger than allowed"
            );
            return receipt.tell(Disposition::Reject).await;
        }
        self.counter.count(Ended::Error);
        log::error!(
            "[SERVICE: AsyncAgent][{name}] {Full}: a message of {bytes} bytes is returned to the queue when there is \
             memory, after {} s at the latest",
            FULL_PAUSE.as_secs()
        );
        let _waiting = self.wait();
        let _turn = tokio::select! {
            biased;
            () = ended(over) => None,
            turn = self.skipped.turn(bytes, redelivered) => turn,
        };
        receipt.tell(Disposition::Return).await;
    }

    /// Notes that a message waits until it is returned to the queue.
    fn wait(&self) -> Waiting<'_> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        if waiting == self.places {
            let (name, places) = (&self.name, self.places);
            self.stuck.warn(|| {
                format!(
                    "[SERVICE: AsyncAgent][{name}] all {places} places of prefetch_count are taken by messages that \
                     wait until they are returned to the queue: it delivers no others until then. max_deliveries or \
                     nack_discard ends messages that always fail"
                )
            });
        }
        Waiting(&self.waiting)
    }

    async fn failed(
        &self,
        message: Message,
        receipt: Option<Box<dyn Receipt>>,
        (why, ended_as): (String, Ended),
        over: &mut watch::Receiver<bool>,
    ) {
        let name = &self.name;
        let bytes = message.bytes;
        let Some(receipt) = receipt else {
            self.counter.count(ended_as);
            log::error!("[SERVICE: AsyncAgent][{name}] {why}: a message of {bytes} bytes is lost");
            return;
        };
        let seen = self.failures.failed(message.key, message.redelivered);
        let failures = seen.max(told_failures(message.earlier, message.redelivered));
        if self.discard || self.max_deliveries.is_some_and(|most| failures >= most) {
            self.counter.count(Ended::Rejected);
            self.failures.over(message.key);
            log::error!(
                "[SERVICE: AsyncAgent][{name}] {why}: a message of {bytes} bytes is rejected"
            );
            return receipt.tell(Disposition::Reject).await;
        }
        self.counter.count(ended_as);
        let pause = PAUSES.pause(failures);
        log::error!(
            "[SERVICE: AsyncAgent][{name}] {why}: a message of {bytes} bytes is returned to the queue in {} s",
            pause.as_secs()
        );
        let _waiting = self.wait();
        tokio::select! {
            biased;
            () = ended(over) => {}
            () = sleep(pause) => {}
        }
        receipt.tell(Disposition::Return).await;
    }
}

/// # Errors
/// Why the calls of a message failed, and how this counts.
async fn outcome(calls: impl Future<Output = Result<(), Failure>>) -> Result<(), (String, Ended)> {
    // A panic must not end the agent, and the message must not be returned without a pause.
    match AssertUnwindSafe(calls).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => {
            let ended = match failure.kind {
                kind if kind.is_late() => Ended::Timeout,
                _ => Ended::Error,
            };
            Err((printable(&failure.text).into_owned(), ended))
        }
        Err(_) => Err(("a defect of the gateway".to_owned(), Ended::Error)),
    }
}

/// What is known of a message after its body was sent.
#[derive(Debug, Clone, Copy)]
struct Message {
    key: u64,
    bytes: usize,
    redelivered: bool,
    earlier: Option<u32>,
}

/// How often a message has failed as its queue counts, with this failure. A publisher can set the header of this count,
/// too: at the first delivery it is not from the queue, and afterwards our own count may be higher.
fn told_failures(earlier: Option<u32>, redelivered: bool) -> u32 {
    let earlier = earlier.filter(|_| redelivered);
    earlier.map_or(0, |earlier| earlier.saturating_add(1))
}

async fn ended(over: &mut watch::Receiver<bool>) {
    // Without a sender the connection has ended, too.
    let _ = over.wait_for(|over| *over).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_a_queue_is_believed_from_the_second_delivery_on() {
        assert_eq!(told_failures(Some(u32::MAX), false), 0);
        assert_eq!(told_failures(Some(3), true), 4);
        assert_eq!(told_failures(Some(u32::MAX), true), u32::MAX);
        assert_eq!(told_failures(None, true), 0);
    }

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let pauses = [1, 2, 3, 5, 6, u32::MAX].map(|failures| PAUSES.pause(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 16, 30, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_lets_a_burst_pass_and_then_its_number_a_second() {
        let rate_limit = RateLimit::new(2.0);
        let started = Instant::now();
        for _ in 0..8 {
            rate_limit.turn().await;
        }
        let took = started.elapsed().as_secs_f64();
        assert!((1.4..3.1).contains(&took), "{took}");
    }
}
