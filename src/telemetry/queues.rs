//! Metrics of message queues and functions.
//!
//! They belong to the process, because connections to queues outlive a configuration. A metric without series is not on
//! the page, so a gateway without queues shows none of them.

#[cfg(any(feature = "amqp", feature = "nats"))]
use std::collections::BTreeMap;
use std::collections::BTreeSet;
#[cfg(any(feature = "amqp", feature = "nats"))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::telemetry::mask::masked;
use crate::telemetry::series::MAX_SERIES;

/// The label of all backends beyond the limit.
const OTHERS: &str = "*";

static QUEUES: LazyLock<Option<Queues>> = LazyLock::new(Queues::new);

struct Queues {
    messages: IntCounterVec,
    attempts: IntCounterVec,
    connected: IntGaugeVec,
    reconnects: IntCounterVec,
    in_flight: IntGaugeVec,
    redelivered: IntCounterVec,
    known: Mutex<BTreeSet<String>>,
    #[cfg(any(feature = "amqp", feature = "nats"))]
    connections: Mutex<BTreeMap<String, Connections>>,
}

/// The connections with one name.
#[cfg(any(feature = "amqp", feature = "nats"))]
#[derive(Debug, Default)]
struct Connections {
    all: usize,
    open: usize,
}

impl Queues {
    /// `None` only if a name below is not a valid name of a metric.
    fn new() -> Option<Queues> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).ok()
        };
        Some(Queues {
            messages: counters(
                "portcullis_queue_messages_total",
                "Messages sent to queues and received from them, by backend and result.",
                &["backend", "direction", "result"],
            )?,
            attempts: counters(
                "portcullis_lambda_attempts_total",
                "Calls of functions, by backend and result; a call that is made again counts again.",
                &["backend", "result"],
            )?,
            connected: IntGaugeVec::new(
                Opts::new(
                    "portcullis_queue_connected",
                    "Whether there is a connection to a message broker: 1 or 0.",
                ),
                &["broker"],
            )
            .ok()?,
            reconnects: counters(
                "portcullis_queue_reconnects_total",
                "Connections to a message broker that were opened after another one was lost.",
                &["broker"],
            )?,
            in_flight: IntGaugeVec::new(
                Opts::new(
                    "portcullis_agent_in_flight",
                    "Messages of an async agent whose calls are in progress.",
                ),
                &["agent"],
            )
            .ok()?,
            redelivered: counters(
                "portcullis_agent_redelivered_total",
                "Messages of an async agent that were delivered before.",
                &["agent"],
            )?,
            known: Mutex::default(),
            #[cfg(any(feature = "amqp", feature = "nats"))]
            connections: Mutex::default(),
        })
    }

    /// Changes the connections with this name. The gauge is 1 if all of them are open.
    #[cfg(any(feature = "amqp", feature = "nats"))]
    fn connection(&self, label: &str, change: impl FnOnce(&mut Connections)) {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let named = connections.entry(label.to_owned()).or_default();
        change(named);
        let is_open = named.all > 0 && named.open >= named.all;
        self.connected
            .with_label_values(&[label])
            .set(is_open.into());
    }

    /// A label for this backend. Beyond the limit all share one.
    fn label(&self, backend: &str) -> String {
        let backend = masked(backend).into_owned();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&backend) && known.len() >= MAX_SERIES {
            return OTHERS.to_owned();
        }
        known.insert(backend.clone());
        backend
    }
}

/// The registry with the metrics of queues.
pub(super) fn registered(registry: Registry) -> Registry {
    if let Some(queues) = &*QUEUES {
        // This can only fail if the registry has them already.
        let counters = [
            &queues.messages,
            &queues.attempts,
            &queues.reconnects,
            &queues.redelivered,
        ];
        for metric in counters {
            let _ = registry.register(Box::new(metric.clone()));
        }
        for metric in [&queues.connected, &queues.in_flight] {
            let _ = registry.register(Box::new(metric.clone()));
        }
    }
    registry
}

/// How the sending or taking of a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Result {
    Ok,
    /// It was taken, and its response could not be made.
    Undecodable,
    /// The queue, or a limit of the queue, did not take it.
    Rejected,
    /// There was no response, or no message, in time.
    Timeout,
    /// The queue could not be asked.
    Error,
}

impl Result {
    const ALL: [Result; 5] = [
        Result::Ok,
        Result::Undecodable,
        Result::Rejected,
        Result::Timeout,
        Result::Error,
    ];

    fn word(self) -> &'static str {
        match self {
            Result::Ok => "ok",
            Result::Undecodable => "undecodable",
            Result::Rejected => "rejected",
            Result::Timeout => "timeout",
            Result::Error => "error",
        }
    }
}

/// Counters with one handle for each result.
#[derive(Debug, Clone)]
struct Handles([Option<IntCounter>; 5]);

impl Handles {
    fn new(make: impl Fn(&Queues, &'static str) -> IntCounter) -> Handles {
        let queues = QUEUES.as_ref();
        Handles(Result::ALL.map(|result| Some(make(queues?, result.word()))))
    }

    fn count(&self, result: Result) {
        let index = Result::ALL.iter().position(|known| *known == result);
        if let Some(Some(counter)) = index.and_then(|index| self.0.get(index)) {
            counter.inc();
        }
    }
}

/// The direction of a message, seen from the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Out,
    In,
}

/// Counts the messages of one backend.
#[derive(Debug, Clone)]
pub(crate) struct MessageCounter(Handles);

impl MessageCounter {
    pub(crate) fn new(backend: &str, direction: Direction) -> MessageCounter {
        let direction = match direction {
            Direction::Out => "out",
            Direction::In => "in",
        };
        MessageCounter(Handles::new(|queues, result| {
            let backend = queues.label(backend);
            let labels = [&*backend, direction, result];
            queues.messages.with_label_values(&labels)
        }))
    }

    pub(crate) fn count(&self, result: Result) {
        self.0.count(result);
    }
}

/// Counts the calls of one function.
#[derive(Debug, Clone)]
pub(crate) struct AttemptCounter(Handles);

impl AttemptCounter {
    pub(crate) fn new(backend: &str) -> AttemptCounter {
        AttemptCounter(Handles::new(|queues, result| {
            let backend = queues.label(backend);
            queues.attempts.with_label_values(&[&*backend, result])
        }))
    }

    pub(crate) fn count(&self, result: Result) {
        self.0.count(result);
    }
}

/// Reports a connection to a broker, or a part of one, until it is dropped. An old one and its successor can have the same
/// name during a reload, as can the queues of two backends.
#[cfg(any(feature = "amqp", feature = "nats"))]
#[derive(Debug)]
pub(crate) struct BrokerSeries {
    label: Option<String>,
    reconnects: Option<IntCounter>,
    is_open: AtomicBool,
    was_open: AtomicBool,
}

#[cfg(any(feature = "amqp", feature = "nats"))]
impl BrokerSeries {
    /// `broker` is its name without secrets.
    pub(crate) fn new(broker: &str) -> BrokerSeries {
        let both = QUEUES.as_ref().map(|queues| (queues, queues.label(broker)));
        if let Some((queues, label)) = &both {
            queues.connection(label, |named| named.all += 1);
        }
        BrokerSeries {
            reconnects: both
                .as_ref()
                .map(|(queues, label)| queues.reconnects.with_label_values(&[label])),
            label: both.map(|(_, label)| label),
            is_open: AtomicBool::new(false),
            was_open: AtomicBool::new(false),
        }
    }

    /// The connection is open.
    pub(crate) fn up(&self) {
        let was_open = self.was_open.swap(true, Ordering::Relaxed);
        if let Some(reconnects) = self.reconnects.as_ref().filter(|_| was_open) {
            reconnects.inc();
        }
        if !self.is_open.swap(true, Ordering::Relaxed) {
            self.change(|named| named.open += 1);
        }
    }

    /// There is no connection.
    pub(crate) fn down(&self) {
        if self.is_open.swap(false, Ordering::Relaxed) {
            self.change(|named| named.open = named.open.saturating_sub(1));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Connections)) {
        if let (Some(queues), Some(label)) = (QUEUES.as_ref(), &self.label) {
            queues.connection(label, change);
        }
    }
}

#[cfg(any(feature = "amqp", feature = "nats"))]
impl Drop for BrokerSeries {
    fn drop(&mut self) {
        self.down();
        self.change(|named| named.all = named.all.saturating_sub(1));
    }
}

/// Reports the messages of one async agent.
#[cfg(feature = "amqp")]
#[derive(Debug)]
pub(crate) struct AgentSeries {
    in_flight: Option<prometheus::IntGauge>,
    redelivered: Option<IntCounter>,
}

#[cfg(feature = "amqp")]
impl AgentSeries {
    pub(crate) fn new(agent: &str) -> AgentSeries {
        let queues = QUEUES.as_ref();
        let both = queues.map(|queues| (queues, queues.label(agent)));
        AgentSeries {
            in_flight: both
                .as_ref()
                .map(|(queues, label)| queues.in_flight.with_label_values(&[label])),
            redelivered: both.map(|(queues, label)| queues.redelivered.with_label_values(&[label])),
        }
    }

    /// A message is in work until the result is dropped.
    pub(crate) fn begin(&self) -> InFlight {
        if let Some(gauge) = &self.in_flight {
            gauge.inc();
        }
        InFlight(self.in_flight.clone())
    }

    /// A message has come that was delivered before.
    pub(crate) fn redelivered(&self) {
        if let Some(counter) = &self.redelivered {
            counter.inc();
        }
    }
}

/// See [`AgentSeries::begin`].
#[cfg(feature = "amqp")]
#[derive(Debug)]
pub(crate) struct InFlight(Option<prometheus::IntGauge>);

#[cfg(feature = "amqp")]
impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "amqp")]
    #[test]
    fn the_messages_of_an_agent_are_reported() {
        let series = AgentSeries::new("agent-of-a-test");
        let first = series.begin();
        let second = series.begin();
        drop(first);
        series.redelivered();
        let registry = registered(Registry::new());
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "portcullis_agent_in_flight{agent=\"agent-of-a-test\"} 1",
            "portcullis_agent_redelivered_total{agent=\"agent-of-a-test\"} 1",
        ] {
            assert!(text.contains(line), "{text}");
        }
        drop(second);
    }

    #[cfg(any(feature = "amqp", feature = "nats"))]
    #[test]
    fn the_connection_to_a_broker_is_reported() {
        let series = BrokerSeries::new("broker-of-a-test");
        series.up();
        series.down();
        series.up();
        // The connection of an earlier configuration ends later than this one begins.
        let older = BrokerSeries::new("broker-of-a-test");
        older.up();
        drop(older);
        let half = BrokerSeries::new("two-of-a-test");
        half.up();
        let _other = BrokerSeries::new("two-of-a-test");
        let registry = registered(Registry::new());
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "portcullis_queue_connected{broker=\"broker-of-a-test\"} 1",
            "portcullis_queue_reconnects_total{broker=\"broker-of-a-test\"} 1",
            "portcullis_queue_connected{broker=\"two-of-a-test\"} 0",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn messages_are_counted_by_backend_direction_and_result() {
        let counter = MessageCounter::new("/counted-by-a-test", Direction::In);
        counter.count(Result::Ok);
        counter.count(Result::Ok);
        counter.count(Result::Undecodable);
        let registry = registered(Registry::new());
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "portcullis_queue_messages_total{backend=\"/counted-by-a-test\",direction=\"in\",result=\"ok\"} 2",
            "portcullis_queue_messages_total{backend=\"/counted-by-a-test\",direction=\"in\",result=\"undecodable\"} 1",
            "portcullis_queue_messages_total{backend=\"/counted-by-a-test\",direction=\"in\",result=\"error\"} 0",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
