//! The server's view of agents (consumers of message queues): their health, and what a stop waits for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::runtime::service::Endpoint;

/// An agent of a configuration.
#[derive(Debug)]
pub struct Agent {
    /// Its calls.
    pub endpoint: Arc<Endpoint>,
    pub health: Arc<AgentHealth>,
}

/// When an agent was last connected. A reload carries it over with the agent.
#[derive(Debug)]
pub struct AgentHealth {
    name: Box<str>,
    interval: Duration,
    born: Instant,
    /// The last time at which it was connected, in nanoseconds since the epoch. 0 for never.
    wall: AtomicU64,
    /// The last time at which it was connected, in milliseconds since `born`.
    age: AtomicU64,
    /// It does not try to connect again.
    has_given_up: AtomicBool,
}

impl AgentHealth {
    /// `interval` is that of [`AgentHealth::ping`].
    #[cfg(any(feature = "amqp", test))]
    pub(crate) fn new(name: &str, interval: Duration) -> AgentHealth {
        AgentHealth {
            name: name.into(),
            interval,
            born: Instant::now(),
            wall: AtomicU64::new(0),
            age: AtomicU64::new(0),
            has_given_up: AtomicBool::new(false),
        }
    }

    /// Notes that the agent does not try to connect again, until the next reload.
    #[cfg(any(feature = "amqp", test))]
    pub(crate) fn give_up(&self) {
        self.has_given_up.store(true, Ordering::Relaxed);
    }

    #[cfg(feature = "amqp")]
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Notes that the agent is connected now.
    #[cfg(any(feature = "amqp", test))]
    pub(crate) fn ping(&self) {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.wall.store(nanos, Ordering::Relaxed);
        self.age
            .store(millis(self.born.elapsed()), Ordering::Relaxed);
        self.has_given_up.store(false, Ordering::Relaxed);
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The time since the epoch at which the agent was last connected. `None` if it never was.
    pub(crate) fn last(&self) -> Option<Duration> {
        let nanos = self.wall.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Whether it was not connected for three intervals, or has given up since it was.
    pub(crate) fn is_stopped(&self) -> bool {
        if self.has_given_up.load(Ordering::Relaxed) {
            return true;
        }
        let silent = millis(self.born.elapsed()).saturating_sub(self.age.load(Ordering::Relaxed));
        silent > millis(self.interval.saturating_mul(3))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The agents of this process that have unfinished messages, including those of earlier configurations.
#[derive(Debug)]
pub(crate) struct Running {
    count: watch::Sender<usize>,
    stop: watch::Sender<bool>,
}

static PROCESS: LazyLock<Running> = LazyLock::new(|| Running {
    count: watch::Sender::new(0),
    stop: watch::Sender::new(false),
});

impl Running {
    pub(crate) fn process() -> &'static Running {
        &PROCESS
    }

    /// Lets all agents take no more messages, and end when those in work are done.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves when [`Running::stop`] was called.
    #[cfg(feature = "amqp")]
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Counts an agent until the result is dropped.
    #[cfg(any(feature = "amqp", test))]
    pub(crate) fn enter(&'static self) -> Inside {
        self.count.send_modify(|count| *count += 1);
        Inside(self)
    }

    pub(crate) fn is_idle(&self) -> bool {
        *self.count.borrow() == 0
    }

    /// Resolves when no agent has messages in work.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as the process.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// See [`Running::enter`].
#[cfg(any(feature = "amqp", test))]
#[derive(Debug)]
pub(crate) struct Inside(&'static Running);

#[cfg(any(feature = "amqp", test))]
impl Drop for Inside {
    fn drop(&mut self) {
        self.0
            .count
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_is_stopped_after_three_intervals_without_a_connection() {
        let health = AgentHealth::new("x", Duration::from_secs(20));
        assert_eq!((health.name(), health.last()), ("x", None));
        assert!(!health.is_stopped());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!health.is_stopped());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(health.is_stopped());
        health.ping();
        assert!(!health.is_stopped());
        health.give_up();
        assert!(health.is_stopped());
        health.ping();
        assert!(!health.is_stopped());
        assert!(health.last().is_some_and(|at| at.as_secs() > 1_700_000_000));
    }

    #[tokio::test]
    async fn a_stop_waits_for_those_inside() {
        let running: &'static Running = Box::leak(Box::new(Running {
            count: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        }));
        running.ended().await;
        let inside = running.enter();
        assert!(!running.is_idle());
        running.stop();
        assert!(*running.stop.borrow());
        let ended = tokio::spawn(running.ended());
        tokio::task::yield_now().await;
        assert!(!ended.is_finished());
        drop(inside);
        ended.await.unwrap();
        assert!(running.is_idle());
    }
}
