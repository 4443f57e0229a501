//! Sends spans and metrics to one collector, on a separate thread.
//!
//! Requests only push to a bounded queue. Items that do not fit are dropped and counted, and no request waits for a
//! collector.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::encode;
use crate::telemetry::moment;
use crate::telemetry::series::Store;
use crate::telemetry::trace::{Attribute, Span};

/// The first pause before a request is sent again. Each further pause is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A batch that could not be delivered within this time is dropped, because newer spans are more useful.
const MOST_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the log repeats that a collector is unreachable.
const REMINDER: Duration = Duration::from_secs(60);
/// The maximum size of waiting spans.
const MOST_BYTES: usize = 8 << 20;

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
    pub resource: Arc<[Attribute]>,
}

/// Why data was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    QueueFull,
    Rejected,
    Timeout,
    Shutdown,
}

impl Lost {
    pub const ALL: [Lost; 4] = [
        Lost::QueueFull,
        Lost::Rejected,
        Lost::Timeout,
        Lost::Shutdown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Lost::QueueFull => "queue_full",
            Lost::Rejected => "rejected",
            Lost::Timeout => "timeout",
            Lost::Shutdown => "shutdown",
        }
    }
}

/// The counters of an exporter.
#[derive(Debug, Default)]
pub struct Counts {
    lost: [[AtomicU64; 4]; 2],
    /// Accepted and failed requests, by signal.
    taken: [AtomicU64; 2],
    failed: [AtomicU64; 2],
    /// The number and size of waiting spans.
    waiting: AtomicUsize,
    bytes: AtomicUsize,
}

impl Counts {
    /// The number of spans, or metrics requests, that were lost for this reason.
    pub fn lost(&self, signal: Signal, reason: Lost) -> u64 {
        self.lost[signal as usize][reason as usize].load(Ordering::Relaxed)
    }

    /// The numbers of accepted and failed requests.
    pub fn exports(&self, signal: Signal) -> (u64, u64) {
        let of = |all: &[AtomicU64; 2]| all[signal as usize].load(Ordering::Relaxed);
        (of(&self.taken), of(&self.failed))
    }

    /// The number of waiting spans.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn lose(&self, signal: Signal, reason: Lost, count: u64) {
        self.lost[signal as usize][reason as usize].fetch_add(count, Ordering::Relaxed);
    }
}

/// A queued span, with the size that it was counted with.
type Item = (Box<Span>, usize);

/// The handle of an exporter. When the last one is dropped, the worker sends its remaining data and ends.
#[derive(Debug)]
pub struct Exporter {
    name: Arc<str>,
    spans: Option<mpsc::Sender<Item>>,
    counts: Arc<Counts>,
    /// The deadline at the end of the process.
    end: watch::Sender<Option<Instant>>,
    done: watch::Receiver<usize>,
    loops: usize,
    sends_metrics: bool,
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
        let loops = usize::from(settings.traces) + usize::from(settings.metrics.is_some());
        Exporter {
            name: Arc::clone(&settings.name),
            spans: settings.traces.then_some(spans),
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
                    trouble: Mutex::default(),
                }),
                settings,
                received,
                ending,
                report,
            })),
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
    pub fn push(&self, span: Box<Span>) {
        let Some(queue) = &self.spans else { return };
        let size = span.size();
        let before = self.counts.bytes.fetch_add(size, Ordering::Relaxed);
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let fits = before + size <= MOST_BYTES;
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

/// The state of the thread.
#[derive(Debug)]
struct Worker {
    settings: Settings,
    sender: Arc<Sender>,
    received: mpsc::Receiver<Item>,
    ending: watch::Receiver<Option<Instant>>,
    report: watch::Sender<usize>,
}

impl Worker {
    fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else {
            log::error!("[SERVICE: OpenTelemetry] the exporter cannot start");
            return;
        };
        runtime.block_on(async move {
            let Worker {
                settings,
                sender,
                received,
                ending,
                report,
            } = self;
            let traces = async {
                if settings.traces {
                    traces(&settings, &sender, received, ending.clone()).await;
                    report.send_modify(|count| *count += 1);
                }
            };
            let metrics = async {
                if let Some(store) = &settings.metrics {
                    metrics(&settings, &sender, store, ending.clone()).await;
                    report.send_modify(|count| *count += 1);
                }
            };
            futures::join!(traces, metrics);
        });
    }
}

/// Collects spans and sends them, until the queue is closed or the process ends.
async fn traces(
    settings: &Settings,
    sender: &Sender,
    mut received: mpsc::Receiver<Item>,
    mut ending: watch::Receiver<Option<Instant>>,
) {
    let mut batch: Vec<Box<Span>> = Vec::new();
    let mut bytes = 0;
    let mut until = None;
    loop {
        let due = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let (send, over) = tokio::select! {
            item = received.recv() => match item {
                Some((span, size)) => {
                    batch.push(span);
                    bytes += size;
                    until.get_or_insert_with(|| Instant::now() + settings.delay);
                    (batch.len() >= settings.batch, false)
                }
                None => (true, true),
            },
            () = due => (true, false),
            _ = ending.wait_for(Option::is_some) => {
                // The rest of the queue is sent in as many requests as necessary.
                while let Some((span, size)) = (batch.len() < settings.batch).then(|| received.try_recv().ok()).flatten() {
                    batch.push(span);
                    bytes += size;
                }
                (true, received.is_empty())
            }
        };
        if send && !batch.is_empty() {
            let body = encode::spans(&settings.resource, &batch);
            let count = batch.len();
            sender
                .deliver(Signal::Traces, body.into(), count as u64, &mut ending)
                .await;
            batch.clear();
            sender.counts.waiting.fetch_sub(count, Ordering::Relaxed);
            sender.counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
            bytes = 0;
        }
        if send {
            until = None;
        }
        if over {
            return;
        }
    }
}

/// Pushes the series once per period, and once more at the end.
async fn metrics(
    settings: &Settings,
    sender: &Sender,
    store: &Store,
    mut ending: watch::Receiver<Option<Instant>>,
) {
    loop {
        let over = tokio::select! {
            () = sleep(settings.period) => false,
            // An error means that the last handle was dropped.
            _ = ending.wait_for(Option::is_some) => true,
        };
        if let Some(body) = encode::metrics(&settings.resource, store) {
            sender
                .deliver(Signal::Metrics, body.into(), 1, &mut ending)
                .await;
        }
        if over {
            return;
        }
    }
}

/// Delivers requests, and sends them again where that makes sense.
#[derive(Debug)]
struct Sender {
    transport: Arc<dyn Transport>,
    counts: Arc<Counts>,
    name: Arc<str>,
    /// When the collector started to fail, and when this was last logged.
    trouble: Mutex<Option<(Instant, Instant)>>,
}

impl Sender {
    /// Sends `body`, which contains `count` spans (or one push), until it is accepted or dropped.
    async fn deliver(
        &self,
        signal: Signal,
        body: Bytes,
        count: u64,
        ending: &mut watch::Receiver<Option<Instant>>,
    ) {
        let give_up = Instant::now() + MOST_TIMEOUT;
        let mut pause = FIRST_PAUSE;
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
                Err(_) => ("no answer in time".to_owned(), None, None),
            };
            self.counts.failed[signal as usize].fetch_add(1, Ordering::Relaxed);
            self.complain(signal, &reason);
            let wait = after.unwrap_or(pause).min(LONGEST_PAUSE);
            let late = Instant::now() + wait >= until;
            let lost = lost.or(late.then_some(match end {
                Some(_) => Lost::Shutdown,
                None => Lost::Timeout,
            }));
            if let Some(lost) = lost {
                self.counts.lose(signal, lost, count);
                return;
            }
            tokio::select! {
                () = sleep(jittered(wait)) => {}
                // At the end of the process there is less time.
                _ = ending.wait_for(Option::is_some), if end.is_none() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn taken(&self, signal: Signal, response: &[u8]) {
        self.counts.taken[signal as usize].fetch_add(1, Ordering::Relaxed);
        let rejected = encode::rejected(response);
        if rejected > 0 {
            self.counts.lose(signal, Lost::Rejected, rejected);
            self.complain(signal, &format!("it rejected {rejected} of them"));
            return;
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, _)) = trouble.take() {
            log::info!(
                "[SERVICE: OpenTelemetry] {}: the collector takes data again, after {} s",
                self.name,
                since.elapsed().as_secs()
            );
        }
    }

    /// Logs one line when it starts to fail, and one per minute while it does.
    fn complain(&self, signal: Signal, reason: &str) {
        let now = Instant::now();
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match *trouble {
            Some((_, told)) if now < told + REMINDER => return,
            Some((since, _)) => since,
            None => now,
        };
        *trouble = Some((since, now));
        log::warn!(
            "[SERVICE: OpenTelemetry] {}: {} were not delivered: {reason}",
            self.name,
            signal.as_str()
        );
    }
}

/// Reduced by up to a quarter, so that many gateways do not return at once.
fn jittered(pause: Duration) -> Duration {
    let nanos = moment::now().subsec_nanos();
    pause - pause / 4 * (nanos % 1000) / 1000
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Instant as Moment;

    use super::*;
    use crate::telemetry::trace::{SpanId, SpanKind, SpanStatus, TraceId};

    /// Responds as scripted, and then accepts everything.
    #[derive(Debug, Default)]
    struct Script {
        responses: Mutex<VecDeque<Sent>>,
        requests: Mutex<Vec<(Signal, usize)>>,
        hangs: bool,
    }

    impl Transport for Script {
        fn send(&self, signal: Signal, body: Bytes) -> BoxFuture<'_, Sent> {
            Box::pin(async move {
                if self.hangs {
                    std::future::pending::<()>().await;
                }
                self.requests.lock().unwrap().push((signal, body.len()));
                let next = self.responses.lock().unwrap().pop_front();
                next.unwrap_or(Sent::Taken {
                    response: Bytes::new(),
                })
            })
        }
    }

    fn settings(queue: usize) -> Settings {
        Settings {
            name: "test".into(),
            traces: true,
            metrics: None,
            period: Duration::from_secs(3600),
            delay: Duration::from_millis(20),
            batch: 4,
            queue,
            resource: [].into(),
        }
    }

    fn span() -> Box<Span> {
        Box::new(Span {
            trace: TraceId::random(),
            id: SpanId::random(),
            parent: None,
            state: None,
            name: "/a".into(),
            kind: SpanKind::Server,
            start: 1,
            end: 2,
            attributes: Vec::new(),
            events: Vec::new(),
            link: None,
            status: SpanStatus::Ok,
        })
    }

    async fn until(condition: impl Fn() -> bool) {
        let end = Moment::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Moment::now() < end);
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let script = Arc::new(Script {
            hangs: true,
            ..Script::default()
        });
        let exporter = Exporter::new(settings(8), script);
        (0..20).for_each(|_| exporter.push(span()));
        assert_eq!(exporter.counts().lost(Signal::Traces, Lost::QueueFull), 12);
        assert_eq!(exporter.counts().waiting(), 8);
    }

    #[tokio::test]
    async fn waiting_spans_are_sent_in_batches_before_the_end() {
        let script = Arc::new(Script::default());
        let exporter = Exporter::new(
            Settings {
                delay: Duration::from_secs(3600),
                batch: 3,
                ..settings(100)
            },
            Arc::clone(&script) as Arc<dyn Transport>,
        );
        (0..8).for_each(|_| exporter.push(span()));
        exporter.start().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        exporter.finish_by(end);
        exporter.finished(end).await;
        assert_eq!(script.requests.lock().unwrap().len(), 3);
        assert_eq!(exporter.counts().waiting(), 0);
    }

    #[tokio::test]
    async fn a_collector_that_hangs_does_not_delay_the_end_of_the_process() {
        let script = Arc::new(Script {
            hangs: true,
            ..Script::default()
        });
        let exporter = Exporter::new(settings(100), script);
        exporter.push(span());
        exporter.start().unwrap();
        let began = Moment::now();
        let end = Instant::now() + Duration::from_millis(200);
        exporter.finish_by(end);
        exporter.finished(end).await;
        assert!(began.elapsed() < Duration::from_secs(10));
        until(|| exporter.counts().lost(Signal::Traces, Lost::Shutdown) >= 1).await;
    }

    #[tokio::test]
    async fn a_busy_collector_gets_a_retry_and_one_that_rejects_does_not() {
        let script = Arc::new(Script::default());
        script.responses.lock().unwrap().extend([
            Sent::Again {
                after: Some(Duration::from_millis(1)),
                reason: "busy".to_owned(),
            },
            Sent::Taken {
                response: Bytes::new(),
            },
            Sent::Rejected {
                reason: "bad".to_owned(),
            },
        ]);
        let exporter = Exporter::new(settings(100), Arc::clone(&script) as Arc<dyn Transport>);
        exporter.start().unwrap();
        exporter.push(span());
        until(|| exporter.counts().exports(Signal::Traces) == (1, 1)).await;
        exporter.push(span());
        until(|| exporter.counts().lost(Signal::Traces, Lost::Rejected) == 1).await;
        assert_eq!(script.requests.lock().unwrap().len(), 3);
    }
}
