//! Agents with a queue in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex as StdMutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;
use crate::telemetry::queues::{Direction, MessageCounter};
use crate::upstream::collect::Overflow;

/// What an agent did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Opened,
    Called(&'static str),
    Told(&'static str, Disposition),
    Cancelled,
    Closed,
}

use Disposition::{Done, Reject, Return};
use Event::{Called, Cancelled, Closed, Opened as Open, Told};

/// A queue, and a backend that takes two seconds. Messages that begin with `bad` and `panic` fail at once.
struct World {
    started: Instant,
    /// With whole seconds since the start.
    events: StdMutex<Vec<(u64, Event)>>,
    waiting: StdMutex<VecDeque<(&'static str, bool)>>,
    /// Attempts to connect fail.
    down: AtomicBool,
    attempts: AtomicU32,
    /// Loses the connection.
    cut: Notify,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            started: Instant::now(),
            events: StdMutex::default(),
            waiting: StdMutex::default(),
            down: AtomicBool::new(false),
            attempts: AtomicU32::new(0),
            cut: Notify::new(),
        })
    }

    fn note(&self, event: Event) {
        let at = self.started.elapsed().as_millis() / 1000;
        let at = u64::try_from(at).unwrap();
        self.events.lock().unwrap().push((at, event));
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<(&'static str, bool)>> {
        self.waiting.lock().unwrap()
    }

    fn send(&self, messages: &[&'static str]) {
        let messages = messages.iter().map(|message| (*message, false));
        self.queue().extend(messages);
    }

    /// All events so far that `wanted` wants.
    fn events(&self, wanted: impl Fn(Event) -> bool) -> Vec<(u64, Event)> {
        let events = self.events.lock().unwrap();
        let found = events.iter().filter(|(_, event)| wanted(*event));
        found.copied().collect()
    }

    fn all(&self) -> Vec<Event> {
        let all = self.events(|_| true);
        all.into_iter().map(|(_, event)| event).collect()
    }

    /// The times of calls.
    fn calls(&self) -> Vec<u64> {
        let calls = self.events(|event| matches!(event, Called(_)));
        calls.into_iter().map(|(at, _)| at).collect()
    }
}

struct Queue(Arc<World>);

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

struct Slip(Arc<World>, &'static str);

#[async_trait]
impl Receipt for Slip {
    async fn tell(self: Box<Self>, disposition: Disposition) {
        self.0.note(Told(self.1, disposition));
        if disposition == Return {
            self.0.queue().push_back((self.1, true));
        }
    }
}

struct Wire(Arc<World>, Arc<AtomicBool>);

#[async_trait]
impl Session for Wire {
    async fn cancel(&self) -> bool {
        self.0.note(Cancelled);
        self.1.store(true, Ordering::SeqCst);
        true
    }

    async fn close(self: Box<Self>) {
        self.0.note(Closed);
    }
}

#[async_trait]
impl Source for Queue {
    fn name(&self) -> &str {
        "a queue of a test"
    }

    async fn open(&self) -> Result<Opened, String> {
        let world = Arc::clone(&self.0);
        world.attempts.fetch_add(1, Ordering::SeqCst);
        if world.down.load(Ordering::SeqCst) {
            return Err("refused".to_owned());
        }
        world.note(Open);
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let state = (Arc::clone(&world), Arc::clone(&is_cancelled));
        let stream = futures::stream::unfold(state, |(world, is_cancelled)| async move {
            let (body, redelivered) = loop {
                if is_cancelled.load(Ordering::SeqCst) {
                    return None;
                }
                let found = world.queue().pop_front();
                match found {
                    Some(found) => break found,
                    None => sleep(Duration::from_millis(20)).await,
                }
            };
            let delivery = Delivery {
                body: match body {
                    "large" => Err(Overflow::TooLarge),
                    "full" => Err(Overflow::Full),
                    body => Ok(Bytes::from_static(body.as_bytes())),
                },
                bytes: body.len() as u64,
                content_type: None,
                id: String::new(),
                redelivered,
                earlier: None,
                receipt: Box::new(Slip(Arc::clone(&world), body)),
            };
            Some((delivery, (world, is_cancelled)))
        });
        let cut = Arc::clone(&world);
        Ok(Opened {
            deliveries: stream.boxed(),
            lost: Box::pin(async move {
                cut.cut.notified().await;
                "cut".to_owned()
            }),
            session: Box::new(Wire(world, is_cancelled)),
        })
    }
}

#[async_trait]
impl Handler for World {
    async fn handle(&self, body: Bytes, _: Option<HeaderValue>) -> Result<(), Failure> {
        let known = ["a", "b", "c", "bad", "panic"];
        let found = known.iter().find(|known| known.as_bytes() == body);
        self.note(Called(found.unwrap()));
        assert_ne!(&*body, b"panic", "as the test wants");
        if &*body == b"bad" {
            return Err(Failure::new(Kind::Status, "invalid status code 503"));
        }
        sleep(Duration::from_secs(2)).await;
        Ok(())
    }
}

/// A running agent. It ends when `agent` is dropped.
struct Run {
    agent: Agent,
    life: JoinHandle<()>,
}

impl Run {
    fn of(world: &Arc<World>, workers: usize, policy: Policy) -> Run {
        Run::with(world, workers, policy, None, Arc::default())
    }

    fn with(
        world: &Arc<World>,
        workers: usize,
        policy: Policy,
        max_retries: Option<u32>,
        lane: Arc<Mutex<()>>,
    ) -> Run {
        let health = Arc::new(AgentHealth::new("x", Duration::from_secs(1)));
        let handler: Arc<dyn Handler> = Arc::clone(world) as _;
        let calls = watch::Sender::new(Some(handler));
        let name: Arc<str> = "x".into();
        let counter = MessageCounter::new("agents-of-tests", Direction::In);
        let life = RunningAgent {
            context: Arc::new(AgentContext::new(&name, None, policy, counter)),
            name,
            source: Box::new(Queue(Arc::clone(world))),
            permits: Arc::new(Semaphore::new(workers)),
            max_retries,
            backoff: Backoff::named("", 0),
            health: Arc::clone(&health),
            calls: calls.subscribe(),
            working: JoinSet::new(),
        };
        Run {
            agent: Agent { calls, health },
            life: tokio::spawn(life.live(lane)),
        }
    }

    async fn end(self) {
        drop(self.agent);
        self.life.await.unwrap();
    }
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds) - Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn case_22_workers_take_messages_concurrently_and_each_one_once() {
    let world = World::new();
    world.send(&["a", "b", "c"]);
    let run = Run::of(&world, 2, Policy::default());
    seconds(6).await;
    let calls = world.events(|event| matches!(event, Called(_)));
    assert_eq!(
        calls,
        [(0, Called("a")), (0, Called("b")), (2, Called("c"))]
    );
    let done = world.events(|event| matches!(event, Told(_, Done)));
    assert_eq!(done.len(), 3);
    assert!(run.agent.health.last().is_some());
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn case_21_a_message_that_fails_waits_longer_each_time_and_holds_up_no_other() {
    let world = World::new();
    world.send(&["bad"]);
    let run = Run::of(&world, 1, Policy::default());
    seconds(8).await;
    assert_eq!(world.calls(), [0, 1, 3, 7]);
    world.send(&["a"]);
    seconds(3).await;
    assert_eq!(world.calls(), [0, 1, 3, 7, 7]);
    run.end().await;
    // What waits goes back at the end.
    let returned = world.events(|event| event == Told("bad", Return));
    assert_eq!(returned.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_message_without_its_body_is_rejected_or_waits_for_memory() {
    let world = World::new();
    world.send(&["large", "full", "a"]);
    let run = Run::of(&world, 1, Policy::default());
    seconds(15).await;
    let told = world.events(|event| matches!(event, Told("large" | "a", _)));
    assert_eq!(told, [(0, Told("large", Reject)), (2, Told("a", Done))]);
    // There is memory, and it is skipped each time: it is returned ever more rarely.
    let returned = world.events(|event| event == Told("full", Return)).len();
    assert!((8..16).contains(&returned), "{returned}");
    assert_eq!(world.calls(), [0]);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_fail_are_rejected_where_the_file_says_so() {
    for (policy, dispositions) in [
        (
            Policy {
                discard: true,
                ..Policy::default()
            },
            vec![Reject],
        ),
        (
            Policy {
                max_deliveries: Some(3),
                ..Policy::default()
            },
            vec![Return, Return, Reject],
        ),
        (
            Policy {
                auto_ack: true,
                ..Policy::default()
            },
            vec![Done],
        ),
    ] {
        for message in ["bad", "panic"] {
            let world = World::new();
            world.send(&[message]);
            let run = Run::of(&world, 1, policy);
            seconds(60).await;
            let told = world.events(|event| matches!(event, Told(..)));
            let told: Vec<Event> = told.into_iter().map(|(_, event)| event).collect();
            let expected: Vec<Event> = dispositions
                .iter()
                .map(|disposition| Told(message, *disposition))
                .collect();
            assert_eq!(told, expected);
            run.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_agent_finishes_its_messages_and_returns_the_others() {
    let world = World::new();
    let lane: Arc<Mutex<()>> = Arc::default();
    world.send(&["a", "b", "c"]);
    let run = Run::with(&world, 2, Policy::default(), None, Arc::clone(&lane));
    seconds(1).await;
    // The next one of this name waits for it.
    let next = Run::with(&world, 2, Policy::default(), None, lane);
    run.end().await;
    let first = [
        Open,
        Called("a"),
        Called("b"),
        Cancelled,
        Told("a", Done),
        Told("b", Done),
        Closed,
    ];
    assert_eq!(world.all()[..first.len()], first);
    seconds(3).await;
    assert_eq!(
        world.all()[first.len()..],
        [Open, Called("c"), Told("c", Done)]
    );
    next.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_opened_again_while_calls_go_on() {
    let world = World::new();
    world.send(&["a"]);
    let run = Run::of(&world, 1, Policy::default());
    seconds(1).await;
    world.cut.notify_one();
    seconds(1).await;
    world.send(&["b"]);
    seconds(4).await;
    // The second message waits for the worker.
    assert_eq!(world.calls(), [0, 2]);
    let opened = world.events(|event| event == Open);
    assert_eq!(opened.len(), 2);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn case_20_an_exhausted_agent_stops_no_other_and_a_reload_starts_it_again() {
    let (dead, live) = (World::new(), World::new());
    dead.down.store(true, Ordering::SeqCst);
    live.down.store(true, Ordering::SeqCst);
    let exhausted = Run::with(&dead, 1, Policy::default(), Some(1), Arc::default());
    let other = Run::with(&live, 1, Policy::default(), None, Arc::default());
    seconds(6).await;
    assert_eq!(dead.attempts.load(Ordering::SeqCst), 2);
    assert!(live.attempts.load(Ordering::SeqCst) >= 6);
    live.down.store(false, Ordering::SeqCst);
    live.send(&["a"]);
    seconds(4).await;
    assert_eq!(live.all(), [Open, Called("a"), Told("a", Done)]);
    assert_eq!(dead.attempts.load(Ordering::SeqCst), 2);
    assert!(!exhausted.life.is_finished());
    dead.down.store(false, Ordering::SeqCst);
    let handler: Arc<dyn Handler> = Arc::clone(&dead) as _;
    exhausted.agent.calls.send_replace(Some(handler));
    seconds(1).await;
    assert_eq!(dead.all(), [Open]);
    exhausted.end().await;
    other.end().await;
}
