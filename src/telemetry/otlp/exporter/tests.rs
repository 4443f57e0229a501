use std::collections::VecDeque;
use std::time::Instant as Moment;

use super::*;
use crate::telemetry::trace::{SpanId, SpanKind, SpanStatus, TraceId};
use tokio::time::sleep;

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
        longest_value: None,
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

#[tokio::test(start_paused = true)]
async fn a_collector_is_not_called_before_its_retry_time() {
    let script = Arc::new(Script::default());
    let busy = |after| Sent::Again {
        after: Some(Duration::from_secs(after)),
        reason: "busy".to_owned(),
    };
    let responses = [busy(0), busy(0), busy(200)];
    script.responses.lock().unwrap().extend(responses);
    let counts = Arc::new(Counts::default());
    let sender = Sender {
        transport: Arc::clone(&script) as Arc<dyn Transport>,
        counts: Arc::clone(&counts),
        name: "t".into(),
        failing_since: Mutex::default(),
        silent_until: Mutex::default(),
    };
    let (_end, mut ending) = tokio::sync::watch::channel(None);
    let began = Instant::now();
    let body = Bytes::from_static(b"x");
    sender
        .deliver(Signal::Traces, body.clone(), 5, &mut ending)
        .await;
    // "At once" is not followed: the pauses are our own.
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(counts.lost(Signal::Traces, Lost::Timeout), 5);
    let told = Instant::now();
    sender.deliver(Signal::Traces, body, 5, &mut ending).await;
    assert!(told.elapsed() >= Duration::from_secs(199));
    assert_eq!(counts.exports(Signal::Traces), (1, 3));
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
