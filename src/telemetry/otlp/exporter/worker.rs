//! The thread that collects spans and series and sends them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::sender::Sender;
use super::{Item, Settings, Signal};
use crate::telemetry::otlp::{Own, encode};
use crate::telemetry::series::Store;
use crate::telemetry::trace::Span;

/// A batch is sent when it has this size. Collectors take 4 MiB over gRPC by default.
const BATCH_BYTES: usize = 1 << 20;

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) settings: Settings,
    pub(super) own: Arc<ArcSwapOption<Own>>,
    pub(super) sender: Arc<Sender>,
    pub(super) received: mpsc::Receiver<Item>,
    pub(super) ending: watch::Receiver<Option<Instant>>,
    pub(super) report: watch::Sender<usize>,
}

impl Worker {
    pub(super) fn run(self) {
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
                own,
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
                    metrics(&settings, &sender, (store, &own), ending.clone()).await;
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
                    (batch.len() >= settings.batch || bytes >= BATCH_BYTES, false)
                }
                None => (true, true),
            },
            () = due => (true, false),
            _ = ending.wait_for(Option::is_some) => {
                // The rest of the queue is sent in as many requests as necessary.
                while let Some((span, size)) = (batch.len() < settings.batch && bytes < BATCH_BYTES).then(|| received.try_recv().ok()).flatten() {
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
    (store, own): (&Store, &ArcSwapOption<Own>),
    mut ending: watch::Receiver<Option<Instant>>,
) {
    loop {
        let over = tokio::select! {
            () = sleep(settings.period) => false,
            // An error means that the last handle was dropped.
            _ = ending.wait_for(Option::is_some) => true,
        };
        let own = own.load_full().map(|own| (own.0)());
        for body in encode::metrics(&settings.resource, store, own.as_ref()) {
            sender
                .deliver(Signal::Metrics, body.into(), 1, &mut ending)
                .await;
        }
        if over {
            return;
        }
    }
}
