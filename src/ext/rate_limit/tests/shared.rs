//! Limits that several gateways share.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smallvec::SmallVec;

use super::*;
use crate::ext::rate_limit::limit_headers::{Families, LimitHeaders};
use crate::ext::rate_limit::runtime::Limits;
use crate::ext::rate_limit::shared::Cluster;
use crate::ext::redis::{Ask, OnFailure, Shared, SharedVerdict, Taken};
use crate::runtime::clock::Clock;
use crate::runtime::request::Notes;

/// A store with results that the test sets.
#[derive(Debug, Default)]
struct Fake {
    ready: bool,
    lost: AtomicBool,
    verdict: Option<SharedVerdict>,
    asked: Mutex<Vec<Ask>>,
}

impl Fake {
    fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }
}

impl Shared for Fake {
    fn is_ready(&self) -> bool {
        self.ready && !self.lost.load(Ordering::Relaxed)
    }

    fn take(&self, asks: SmallVec<[Ask; 2]>) -> Pin<Box<dyn Future<Output = Taken> + Send + '_>> {
        self.asked.lock().unwrap().extend(asks);
        let verdict = self.verdict.clone();
        Box::pin(async move { verdict.map_or(Taken::Failed, Taken::Verdict) })
    }
}

/// A store whose responses all arrive late, when the test sends them.
#[derive(Debug, Default)]
struct Slow {
    queries: Mutex<Vec<tokio::sync::oneshot::Sender<SharedVerdict>>>,
    late_wait: Duration,
    silent_for: Mutex<Option<Duration>>,
    is_reopening: AtomicBool,
}

impl Shared for Slow {
    fn is_ready(&self) -> bool {
        true
    }

    fn late_wait(&self) -> Duration {
        self.late_wait
    }

    fn silent_for(&self) -> Option<Duration> {
        *self.silent_for.lock().unwrap()
    }

    fn is_reopening(&self) -> bool {
        self.is_reopening.load(Ordering::Relaxed)
    }

    fn take(&self, _: SmallVec<[Ask; 2]>) -> Pin<Box<dyn Future<Output = Taken> + Send + '_>> {
        let (response, answered) = tokio::sync::oneshot::channel();
        self.queries.lock().unwrap().push(response);
        Box::pin(async move { Taken::Late(Box::pin(async move { answered.await.ok() })) })
    }
}

impl Slow {
    /// Responds to the oldest query, and waits until the result is settled.
    async fn response(&self, verdicts: &[Verdict]) {
        let asked = self.queries.lock().unwrap().remove(0);
        asked.send(SharedVerdict(verdicts.into())).unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}

const ALLOWED: Verdict = Verdict::Allowed { left: 0 };

const REJECTED: Verdict = Verdict::Rejected {
    retry_after: Duration::from_secs(1),
};

#[tokio::test]
async fn with_a_slow_store_as_many_requests_pass_as_it_gave_tokens() {
    let slow = Arc::new(Slow::default());
    let step = over(
        Arc::<Slow>::clone(&slow),
        OnFailure::Local,
        Families::default(),
    );
    // The first request passes by the local bucket, whose capacity is one.
    assert_eq!([status(&step, &[]), status(&step, &[])], [200, 429]);
    slow.response(&[ALLOWED, ALLOWED]).await;
    // The token for the second request arrived late: the third one uses it and sends no query.
    slow.response(&[ALLOWED, ALLOWED]).await;
    assert_eq!([status(&step, &[]), status(&step, &[])], [200, 429]);
    slow.response(&[REJECTED]).await;
    assert_eq!(status(&step, &[]), 429);
}

#[tokio::test]
async fn with_a_slow_store_a_request_without_a_token_costs_the_next_one() {
    let slow = Arc::new(Slow::default());
    let step = over(
        Arc::<Slow>::clone(&slow),
        OnFailure::Local,
        Families::default(),
    );
    assert_eq!([status(&step, &[]), status(&step, &[])], [200, 429]);
    slow.response(&[REJECTED]).await;
    // The debt uses this token.
    slow.response(&[ALLOWED, ALLOWED]).await;
    assert_eq!(status(&step, &[]), 429);
    slow.response(&[ALLOWED, ALLOWED]).await;
    assert_eq!(status(&step, &[]), 200);
}

#[tokio::test]
async fn a_request_whose_response_is_lost_costs_the_next_one() {
    let slow = Arc::new(Slow::default());
    let step = over(
        Arc::<Slow>::clone(&slow),
        OnFailure::Local,
        Families::default(),
    );
    assert_eq!(status(&step, &[]), 200);
    // The connection is lost.
    slow.queries.lock().unwrap().clear();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&step, &[]), 429);
    // The debt uses this token.
    slow.response(&[ALLOWED, ALLOWED]).await;
    assert_eq!(status(&step, &[]), 429);
    slow.response(&[ALLOWED, ALLOWED]).await;
    assert_eq!(status(&step, &[]), 200);
}

#[tokio::test]
async fn with_a_slow_store_no_request_passes_during_a_debt() {
    let (slow, clock) = (Arc::new(Slow::default()), Clock::manual());
    let step = over_at(
        clock.clone(),
        Arc::<Slow>::clone(&slow),
        OnFailure::Local,
        Families::default(),
    );
    assert_eq!(status(&step, &[]), 200);
    slow.response(&[REJECTED]).await;
    // The local buckets have a token again, but the endpoint's token is owed.
    clock.advance(Duration::from_secs(1000));
    assert_eq!(status(&step, &[]), 503);
    // The shared buckets are full again by now.
    clock.advance(Duration::from_secs(5000));
    assert_eq!(status(&step, &[]), 200);
}

/// The decision about a request that may wait.
async fn waits(slow: &Arc<Slow>, limits: &Arc<Limits>) -> bool {
    let cluster = cluster(Arc::<Slow>::clone(slow), OnFailure::Local);
    let who = Some("a".to_owned());
    cluster.decide(limits, who).await.rejected.is_none()
}

#[tokio::test]
async fn a_request_with_a_token_waits_for_a_late_response_and_one_without_does_not() {
    let slow = Arc::new(Slow {
        late_wait: Duration::from_secs(60),
        ..Slow::default()
    });
    let limits = Arc::new(limits(Clock::manual()));
    let mut one = Box::pin(waits(&slow, &limits));
    let mut two = Box::pin(waits(&slow, &limits));
    for waiting in [&mut one, &mut two] {
        let now = tokio::time::timeout(Duration::from_millis(20), waiting).await;
        assert!(now.is_err(), "the local bucket must not decide");
    }
    slow.response(&[ALLOWED, ALLOWED]).await;
    slow.response(&[REJECTED]).await;
    assert_eq!((one.await, two.await), (true, false));
    // Now the limit is known to be used up.
    assert!(!waits(&slow, &limits).await);
    // The late token of that request is for the next one, which sends no query.
    slow.response(&[ALLOWED, ALLOWED]).await;
    assert!(waits(&slow, &limits).await);
}

#[tokio::test]
async fn a_short_silence_adds_no_tokens_and_costs_the_tokens_after_it() {
    let (slow, clock) = (Arc::new(Slow::default()), Clock::manual());
    clock.advance(Duration::from_secs(10_000));
    let limits = Arc::new(limits(clock.clone()));
    let cluster = cluster(Arc::<Slow>::clone(&slow), OnFailure::Local);
    let passes = || cluster.without_store(&limits, Some("a")).rejected.is_none();
    let silent = |time: u64| *slow.silent_for.lock().unwrap() = Some(Duration::from_millis(time));
    silent(600);
    assert!(passes(), "the bucket of a new client is full");
    let other = cluster.without_store(&limits, Some("b"));
    assert!(
        other.rejected.is_none(),
        "a debt of the silence rejects nobody in it"
    );
    clock.advance(Duration::from_millis(1300));
    silent(1900);
    assert!(!passes());
    // The token that the store gives next was used in the silence.
    *slow.silent_for.lock().unwrap() = None;
    let mut asked = Box::pin(waits(&slow, &limits));
    let now = tokio::time::timeout(Duration::ZERO, &mut asked).await;
    assert_eq!(now, Ok(false), "rejected for the debt");
    slow.response(&[ALLOWED, ALLOWED]).await;
    // Nothing is owed and nothing was gained: without the store this client waits for its own bucket.
    assert!(!passes());
    clock.advance(Duration::from_secs(1001));
    silent(3_000);
    assert!(
        passes(),
        "after a long silence each gateway counts by itself"
    );
}

#[tokio::test]
async fn a_closed_limit_lets_no_request_pass_before_the_response() {
    let slow = Arc::new(Slow::default());
    let step = over(
        Arc::<Slow>::clone(&slow),
        OnFailure::Closed,
        Families::default(),
    );
    assert_eq!(status(&step, &[]), 503);
    slow.response(&[ALLOWED, ALLOWED]).await;
    assert_eq!(status(&step, &[]), 200);
}

#[test]
fn an_open_limit_counts_until_an_attempt_to_reconnect_fails() {
    let slow = Arc::new(Slow::default());
    let limits = limits(Clock::manual());
    let cluster = cluster(Arc::<Slow>::clone(&slow), OnFailure::Open);
    let passes = || cluster.without_store(&limits, Some("a")).rejected.is_none();
    let silent = |time: u64| *slow.silent_for.lock().unwrap() = Some(Duration::from_millis(time));
    silent(1);
    slow.is_reopening.store(true, Ordering::Relaxed);
    assert_eq!([passes(), passes()], [true, false]);
    slow.is_reopening.store(false, Ordering::Relaxed);
    assert!(passes(), "the attempt failed");
    slow.is_reopening.store(true, Ordering::Relaxed);
    assert!(!passes());
    silent(3_000);
    assert!(passes(), "the attempt takes too long");
}

#[test]
fn an_unreachable_store_leaves_its_last_state() {
    let fake = Arc::new(Fake {
        ready: true,
        verdict: Some(SharedVerdict([ALLOWED, ALLOWED].as_slice().into())),
        ..Fake::default()
    });
    let step = shared(&fake, OnFailure::Local);
    assert_eq!(status(&step, &[]), 200);
    fake.lose();
    // A new bucket would be full.
    assert_eq!(status(&step, &[]), 429);
}

fn shared(fake: &Arc<Fake>, on_failure: OnFailure) -> EndpointLimit {
    shared_telling(fake, on_failure, Families::default())
}

fn shared_telling(fake: &Arc<Fake>, on_failure: OnFailure, families: Families) -> EndpointLimit {
    over(Arc::<Fake>::clone(fake), on_failure, families)
}

fn over(store: Arc<dyn Shared>, on_failure: OnFailure, families: Families) -> EndpointLimit {
    over_at(Clock::manual(), store, on_failure, families)
}

fn over_at(
    clock: Clock,
    store: Arc<dyn Shared>,
    on_failure: OnFailure,
    families: Families,
) -> EndpointLimit {
    let fields = LimitHeaders::new(families, Vec::new());
    EndpointLimit::new(
        Arc::new(limits(clock)),
        Identity::Address(Default::default()),
        fields,
        Some(cluster(store, on_failure)),
    )
}

/// One request of each client, and five of all, in a very long time.
fn limits(clock: Clock) -> Limits {
    let endpoint = Bucket::new(Rate::new(0.001, 5), clock.now());
    Limits {
        scope: Scope::ENDPOINT,
        clients: Some(Clients::new(
            Rate::new(0.001, 1),
            1,
            Duration::from_secs(600),
        )),
        endpoint: Some(endpoint),
        balance: Mutex::default(),
        clock,
    }
}

fn cluster(store: Arc<dyn Shared>, on_failure: OnFailure) -> Cluster {
    Cluster {
        store,
        prefix: "p:".into(),
        time_to_live: Duration::from_secs(600),
        on_failure,
        on_delay: on_failure,
    }
}

#[test]
fn a_shared_limit_is_queried_once_for_all_buckets_and_applied() {
    let allowed = Verdict::Allowed { left: 3 };
    let rejected = Verdict::Rejected {
        retry_after: Duration::from_millis(1200),
    };
    for (verdicts, expected) in [
        (vec![allowed, allowed], 200),
        (vec![rejected], 429),
        (vec![allowed, rejected], 503),
    ] {
        let fake = Arc::new(Fake {
            ready: true,
            verdict: Some(SharedVerdict(verdicts.into())),
            ..Fake::default()
        });
        let step = shared(&fake, OnFailure::Local);
        for _ in 0..3 {
            assert_eq!(status(&step, &[]), expected);
        }
        let asked = fake.asked.lock().unwrap();
        assert_eq!(asked.len(), 6);
        assert!(asked[0].key.starts_with("p:client:") && !asked[0].key.contains("127"));
        assert_eq!(&*asked[1].key, "p:all");
    }
}

#[test]
fn without_the_store_the_configured_behaviour_applies() {
    for ready in [true, false] {
        let outcomes = |on_failure| {
            let fake = Arc::new(Fake {
                ready,
                ..Fake::default()
            });
            let step = shared(&fake, on_failure);
            [status(&step, &[]), status(&step, &[])]
        };
        assert_eq!(outcomes(OnFailure::Local), [200, 429]);
        assert_eq!(outcomes(OnFailure::Open), [200, 200]);
        assert_eq!(outcomes(OnFailure::Closed), [503, 503]);
    }
}

#[test]
fn limits_that_were_not_checked_have_no_headers() {
    for on_failure in [OnFailure::Open, OnFailure::Closed] {
        let families = Families {
            draft: true,
            legacy: true,
        };
        let step = shared_telling(&Arc::default(), on_failure, families);
        let mut notes = Notes::default();
        ask(&step, &[], &mut notes);
        let mut names = notes.response_fields.iter().map(|(name, _)| name.as_str());
        assert!(names.all(|name| name == "ratelimit-policy"));
    }
}
