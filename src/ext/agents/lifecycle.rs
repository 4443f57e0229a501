//! An agent from its first connection to its end.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::Calls;
use super::handle::AgentContext;
use super::source::{Delivery, Disposition, Opened, Session, Source};
use crate::backoff::Backoff;
use crate::ext::broker::LINES;
use crate::ext::reconnect::{failures_after, spread};
use crate::runtime::agents::{AgentHealth, Running};
use crate::telemetry::calm::Calm;
use crate::telemetry::queues::BrokerSeries;

/// How long the end of a connection may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// An agent that runs.
pub(super) struct RunningAgent {
    pub(super) name: Arc<str>,
    pub(super) source: Box<dyn Source>,
    pub(super) context: Arc<AgentContext>,
    /// A permit for each message that may be in work.
    pub(super) permits: Arc<Semaphore>,
    pub(super) max_retries: Option<u32>,
    pub(super) backoff: Backoff,
    pub(super) health: Arc<AgentHealth>,
    pub(super) calls: Calls,
    /// The messages in work, and those that wait until they go back.
    pub(super) working: JoinSet<()>,
}

/// How a series of connections ended.
enum Round {
    /// The agent has to end.
    Over,
    /// There were too many failures in a row.
    Exhausted,
}

impl RunningAgent {
    /// Takes messages until the agent is removed from the configuration or the process stops. Holds `lane`, so that
    /// another agent with this name starts only after this one has finished.
    pub(super) async fn live(mut self, lane: Arc<Mutex<()>>) {
        let mut end = End::new(&self.calls);
        let begun = async {
            let mut calls = self.calls.clone();
            let in_use = calls.wait_for(Option::is_some).await.is_ok();
            (in_use, lane.lock_owned().await)
        };
        let _lane = tokio::select! {
            (true, lane) = begun => lane,
            () = end.come() => return,
        };
        let _inside = Running::process().enter();
        let name = Arc::clone(&self.name);
        log::debug!("[SERVICE: AsyncAgent][{name}] Starting the async agent");
        let series = BrokerSeries::new(&format!("{} ({name})", self.source.name()));
        while let Round::Exhausted = self.round(&series, &mut end).await {
            self.health.give_up();
            log::error!(
                "[SERVICE: AsyncAgent][{name}] too many failures: the agent is stopped until the next reload"
            );
            let mut next = self.calls.clone();
            next.mark_unchanged();
            let reloaded = tokio::select! {
                changed = next.changed() => changed.is_ok(),
                () = end.come() => false,
            };
            if !reloaded {
                break;
            }
        }
        series.down();
        while self.working.join_next().await.is_some() {}
        log::debug!("[SERVICE: AsyncAgent][{name}] the async agent has stopped");
    }

    /// Connects, and reconnects after each loss, until the agent ends.
    async fn round(&mut self, series: &BrokerSeries, end: &mut End) -> Round {
        let mut failures = 0;
        let mut told = String::new();
        // A connection that is opened and lost in turn must not fill the log.
        let (opened_lines, lost_lines) = (Calm::after(LINES), Calm::after(LINES));
        loop {
            let opened = tokio::select! {
                opened = self.source.open() => opened,
                () = end.come() => return Round::Over,
            };
            let since = Instant::now();
            let is_open = opened.is_ok();
            let why = match opened {
                Ok(opened) => {
                    opened_lines.info(|| {
                        let (name, source) = (&self.name, self.source.name());
                        format!("[SERVICE: AsyncAgent][{name}] connected to {source}")
                    });
                    series.up();
                    let lost = self.consume(opened, end).await;
                    series.down();
                    match lost {
                        Some(why) => why,
                        None => return Round::Over,
                    }
                }
                Err(why) => why,
            };
            // Once for each reason: a broker can be down for long.
            if is_open || told != why {
                lost_lines.error(|| {
                    let (name, source) = (&self.name, self.source.name());
                    format!("[SERVICE: AsyncAgent][{name}] cannot connect to {source}: {why}")
                });
                told = why;
            }
            let lived = is_open.then(|| since.elapsed());
            failures = failures_after(failures, lived);
            if self.max_retries.is_some_and(|most| failures > most) {
                return Round::Exhausted;
            }
            tokio::select! {
                () = sleep(spread(self.backoff.pause(failures))) => {}
                () = end.come() => return Round::Over,
            }
        }
    }

    /// Takes messages from a connection. Returns why it was lost, or `None` if the agent has to end.
    async fn consume(&mut self, opened: Opened, end: &mut End) -> Option<String> {
        let Opened {
            mut deliveries,
            mut lost,
            session,
        } = opened;
        let over = watch::Sender::new(false);
        let permits = Arc::clone(&self.permits);
        let mut tick = interval(self.health.interval());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                biased;
                () = end.come() => break None,
                why = &mut lost => break Some(why),
                _ = tick.tick() => self.health.ping(),
                Some(_) = self.working.join_next(), if !self.working.is_empty() => {}
                next = next(&permits, &mut deliveries) => match next {
                    Some((permit, delivery)) => self.begin(permit, delivery, over.subscribe()),
                    None => {
                        let why = timeout(FAREWELL, &mut lost).await;
                        break Some(why.unwrap_or_else(|_| "the queue delivers no more messages".to_owned()));
                    }
                },
            }
        };
        if why.is_none() {
            self.finish(&*session, deliveries, &over).await;
            let _ = timeout(FAREWELL, session.close()).await;
        } else {
            over.send_replace(true);
        }
        why
    }

    fn begin(
        &mut self,
        permit: OwnedSemaphorePermit,
        delivery: Delivery,
        over: watch::Receiver<bool>,
    ) {
        let handler = self.calls.borrow().clone();
        // It is there before the first connection.
        if let Some(handler) = handler {
            let context = Arc::clone(&self.context);
            self.working
                .spawn(context.handle(delivery, permit, handler, over));
        }
    }

    /// Finishes the messages in progress and returns the waiting ones to the queue.
    async fn finish(
        &mut self,
        session: &dyn Session,
        mut deliveries: BoxStream<'static, Delivery>,
        over: &watch::Sender<bool>,
    ) {
        let cancelled = timeout(FAREWELL, session.cancel()).await;
        over.send_replace(true);
        // The broker would redeliver them at once. They are returned when the connection closes.
        if matches!(cancelled, Ok(true)) {
            while let Some(Some(delivery)) = deliveries.next().now_or_never() {
                delivery.receipt.tell(Disposition::Return).await;
            }
        }
        while self.working.join_next().await.is_some() {}
    }
}

/// The next message, as soon as there is room for it.
async fn next(
    permits: &Arc<Semaphore>,
    deliveries: &mut BoxStream<'static, Delivery>,
) -> Option<(OwnedSemaphorePermit, Delivery)> {
    // The semaphore is never closed.
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    Some((permit, deliveries.next().await?))
}

/// The end of an agent.
struct End {
    calls: Calls,
    stopping: watch::Receiver<bool>,
}

impl End {
    fn new(calls: &Calls) -> End {
        End {
            calls: calls.clone(),
            stopping: Running::process().stopping(),
        }
    }

    /// Resolves when no configuration has the agent any more, or the process stops.
    async fn come(&mut self) {
        let gone = async { while self.calls.changed().await.is_ok() {} };
        tokio::select! {
            () = gone => {}
            _ = self.stopping.wait_for(|stop| *stop) => {}
        }
    }
}
