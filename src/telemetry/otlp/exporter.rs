//! Sends spans and metrics to one collector, on a separate thread.
//!
//! Requests only push to a bounded queue. Items that do not fit are dropped and counted, and no request waits for a
//! collector.

mod counts;
mod sender;
mod worker;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::telemetry::otlp::Own;
use crate::telemetry::sanitize::MAX_VALUE;
use crate::telemetry::series::Store;
use crate::telemetry::trace::{Attribute, Span};
use sender::Sender;
use worker::Worker;

pub(crate) use counts::{Counts, Lost};

/// The maximum size of waiting spans.
const MAX_BYTES: usize = 8 << 20;

/// The kind of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    pub const ALL: [Signal; 2] = [Signal::Traces, Signal::Metrics];

    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
        }
    }
}

/// The result of a request to a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It was accepted. The response may report that a part was rejected.
    Taken { response: Bytes },
    /// It may be sent again, at the earliest after this time.
    Again {
        after: Option<Duration>,
        reason: String,
    },
    /// The collector will never accept it.
    Rejected { reason: String },
}

/// How requests are sent to a collector.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends one request and waits for its response, within the timeout of the transport.
    fn send(&self, signal: Signal, body: Bytes) -> BoxFuture<'_, Sent>;
}

/// The settings of an exporter.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For log lines and labels.
    pub name: Arc<str>,
    pub traces: bool,
    /// The series to push, if any.
    pub metrics: Option<Arc<Store>>,
    /// The interval between two pushes of metrics.
    pub period: Duration,
    /// How long a span waits for others at most.
    pub delay: Duration,
    /// The maximum number of spans in one request.
    pub batch: usize,
    /// The maximum number of waiting spans.
    pub queue: usize,
    /// The maximum number of characters in the value of a span's attribute. Longer ones are cut.
    pub longest_value: Option<usize>,
    pub resource: Arc<[Attribute]>,
}

/// A queued span, with the size that it was counted with.
type Item = (Box<Span>, usize);

/// The handle of an exporter. When the last one is dropped, the worker sends its remaining data and ends.
#[derive(Debug)]
pub struct Exporter {
    name: Arc<str>,
    spans: Option<mpsc::Sender<Item>>,
    longest_value: Option<usize>,
    counts: Arc<Counts>,
    /// The deadline at the end of the process.
    end: watch::Sender<Option<Instant>>,
    done: watch::Receiver<usize>,
    loops: usize,
    sends_metrics: bool,
    own: Arc<ArcSwapOption<Own>>,
    worker: Mutex<Option<Worker>>,
    started: AtomicBool,
}

impl Exporter {
    /// An exporter, which does nothing before [`Exporter::start`].
    pub fn new(settings: Settings, transport: Arc<dyn Transport>) -> Exporter {
        let (spans, received) = mpsc::channel(settings.queue.max(1));
        let (end, ending) = watch::channel(None);
        let (report, done) = watch::channel(0);
        let counts = Arc::new(Counts::default());
        let own = Arc::default();
        let loops = usize::from(settings.traces) + usize::from(settings.metrics.is_some());
        Exporter {
            name: Arc::clone(&settings.name),
            spans: settings.traces.then_some(spans),
            longest_value: settings.longest_value,
            end,
            done,
            loops,
            sends_metrics: settings.metrics.is_some(),
            started: AtomicBool::new(false),
            worker: Mutex::new(Some(Worker {
                sender: Arc::new(Sender {
                    transport,
                    counts: Arc::clone(&counts),
                    name: Arc::clone(&settings.name),
                    failing_since: Mutex::default(),
                    silent_until: Mutex::default(),
                }),
                settings,
                own: Arc::clone(&own),
                received,
                ending,
                report,
            })),
            own,
            counts,
        }
    }

    /// Starts the thread of the worker, once.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(&self) -> Result<(), String> {
        let worker = self
            .worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(worker) = worker else {
            return Ok(());
        };
        let spawned = std::thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || worker.run());
        self.started.store(true, Ordering::Relaxed);
        spawned
            .map(|_| ())
            .map_err(|error| format!("no thread for the exporter: {error}"))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Sends these metrics, too, from now on. An exporter without metrics does not.
    pub fn send_also(&self, own: Option<Arc<Own>>) {
        self.own.store(own);
    }

    /// Whether it accepts spans.
    pub fn takes_spans(&self) -> bool {
        self.spans.is_some()
    }

    /// Whether it sends metrics.
    pub fn sends_metrics(&self) -> bool {
        self.sends_metrics
    }

    /// Whether it sends this.
    pub fn sends(&self, signal: Signal) -> bool {
        match signal {
            Signal::Traces => self.takes_spans(),
            Signal::Metrics => self.sends_metrics,
        }
    }

    /// Queues a span. It is dropped and counted if the worker is too slow.
    pub fn push(&self, mut span: Box<Span>) {
        let Some(queue) = &self.spans else { return };
        span.shorten(self.longest_value.unwrap_or(MAX_VALUE));
        let size = span.size();
        let before = self.counts.bytes.fetch_add(size, Ordering::Relaxed);
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let fits = before + size <= MAX_BYTES;
        if !fits || queue.try_send((span, size)).is_err() {
            self.counts.bytes.fetch_sub(size, Ordering::Relaxed);
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.lose(Signal::Traces, Lost::QueueFull, 1);
        }
    }

    /// Tells the worker to send its remaining data by `end`, at the end of the process.
    pub fn finish_by(&self, end: Instant) {
        self.end.send_replace(Some(end));
    }

    /// Waits until the worker has done so.
    pub async fn finished(&self, end: Instant) {
        if !self.started.load(Ordering::Relaxed) {
            return;
        }
        let loops = self.loops;
        let mut done = self.done.clone();
        // A worker that has ended has no more data, and one that hangs must not delay the end of the process.
        let _ = timeout_at(end, done.wait_for(|count| *count >= loops)).await;
        let left = self.counts.waiting() as u64;
        if left > 0 {
            self.counts.lose(Signal::Traces, Lost::Shutdown, left);
            log::warn!(
                "[SERVICE: OpenTelemetry] {}: {left} spans were lost at the stop",
                self.name
            );
        }
    }
}

#[cfg(test)]
mod tests;
