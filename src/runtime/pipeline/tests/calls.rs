//! The parts around one call: steps, credentials, cache.

use super::*;
use crate::jose::SubjectToken;
use crate::runtime::single_flights::{Patience, SingleFlights};
use crate::runtime::step::CacheKey;

/// Counts what a circuit breaker would.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter {
    pub(super) ended: Arc<Mutex<Vec<(u64, CallOutcome)>>>,
    reject: bool,
}

impl BackendStep for Counter {
    fn before(&self) -> Result<Ticket, Failure> {
        if self.reject {
            Err(Failure::new(Kind::Busy, "rate limit exceded"))
        } else {
            Ok(Ticket(42))
        }
    }

    fn after(&self, ticket: Ticket, outcome: CallOutcome) {
        self.ended.lock().unwrap().push((ticket.0, outcome));
    }
}

pub(super) fn counted(url: &str, reject: bool) -> (Backend, Counter) {
    let counter = Counter::default();
    let inner = Counter {
        reject,
        ..Counter::default()
    };
    let mut backend = backend(url);
    backend.steps = Box::new([Box::new(counter.clone()), Box::new(inner)]);
    (backend, counter)
}

#[test]
fn steps_see_each_call_end_once() {
    use CallOutcome::{Failure as Bad, Success as Good};
    for (reply, reject, expected) in [
        (ok("{}"), false, Good),
        (Reply::Response(500, ""), false, Bad),
        (ok("no json"), false, Bad),
        (ok("{}"), true, Bad),
        (Reply::Never, false, Bad),
    ] {
        let (backend, counter) = counted("/a", reject);
        Run::in_time(SOON).ask(&Fake::new(&[("/a", reply)]), work([backend]));
        assert_eq!(*counter.ended.lock().unwrap(), [(42, expected)]);
    }
}

#[test]
fn calls_that_lost_a_race_are_not_counted() {
    let (backend, counter) = counted("/a", false);
    let mut work = work([backend]);
    work.concurrent_calls = 2;
    let fake = Fake::new(&[("/a", Reply::Never), ("/a", ok(r#"{"a":1}"#))]);
    Run::default().ask(&fake, work).is(200, r#"{"a":1}"#, true);
    assert_eq!(*counter.ended.lock().unwrap(), [(42, CallOutcome::Success)]);
}

#[test]
fn a_call_that_cannot_be_built_does_not_reach_the_steps() {
    let (mut backend, counter) = counted("/a", false);
    backend.url = Template::parse("/{resp0_x}", &Pattern::parse("/m/{id}", true).unwrap()).unwrap();
    Run::default()
        .ask(&Fake::default(), work([backend]))
        .is(500, "", false);
    assert!(counter.ended.lock().unwrap().is_empty());
}

/// Tokens in the order in which they are fetched.
#[derive(Debug)]
struct Tokens(Mutex<VecDeque<&'static str>>);

impl Credentials for Tokens {
    fn ready(&self, _: Option<&SubjectToken>) -> Option<HeaderValue> {
        let tokens = self.0.lock().unwrap();
        // The first is known already.
        match tokens.front() {
            Some(&"Bearer old") => Some(HeaderValue::from_static("Bearer old")),
            _ => None,
        }
    }

    fn fetch<'a>(
        &'a self,
        _: Option<&'a SubjectToken>,
        _: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<HeaderValue, Failure>> + Send + 'a>> {
        let token = self.0.lock().unwrap().front().copied();
        Box::pin(async move {
            token
                .map(HeaderValue::from_static)
                .ok_or_else(|| Failure::new(Kind::Credentials, "no token"))
        })
    }

    fn rejected(&self, _: Option<&SubjectToken>, value: &HeaderValue) -> bool {
        let mut tokens = self.0.lock().unwrap();
        assert_eq!(tokens.pop_front().unwrap(), value);
        true
    }
}

pub(super) fn with_tokens(tokens: &[&'static str]) -> Backend {
    let tokens = Tokens(Mutex::new(tokens.iter().copied().collect()));
    Backend {
        credentials: Some(Arc::new(tokens)),
        ..failing("/a", ErrorMode::Code)
    }
}

#[test]
fn a_rejected_token_is_replaced_once() {
    let sent = |replies: &[Reply], tokens: &[&'static str]| {
        let replies: Vec<_> = replies.iter().map(|reply| ("/a", reply.clone())).collect();
        let fake = Fake::new(&replies);
        let seen = Run::default().ask(&fake, work([with_tokens(tokens)]));
        let outs = fake.seen.lock().unwrap();
        let values: Vec<String> = outs
            .iter()
            .map(|out| out.headers[AUTHORIZATION].to_str().unwrap().to_owned())
            .collect();
        (seen.status, values)
    };
    let rejected = || Reply::Response(401, "");
    assert_eq!(
        sent(&[rejected(), ok("{}")], &["Bearer old", "Bearer new"]),
        (200, vec!["Bearer old".to_owned(), "Bearer new".to_owned()])
    );
    assert_eq!(
        sent(&[rejected()], &["Bearer a", "Bearer b", "Bearer c"]),
        (401, vec!["Bearer a".to_owned(), "Bearer b".to_owned()])
    );
    assert_eq!(sent(&[ok("{}")], &[]), (500, vec![]));
}

/// A cache that finds what it is told to find.
#[derive(Debug, Default)]
struct Stored {
    found: Mutex<Option<Lookup>>,
    stand_in: Option<Incoming>,
    keys: Mutex<Vec<String>>,
    stored: Mutex<Vec<String>>,
    single_flights: SingleFlights,
}

impl ResponseCache for Stored {
    fn key(&self, origin: &str, out: &Outgoing) -> Option<CacheKey> {
        let call = format!("{} {origin}{}", out.method, out.target);
        self.keys.lock().unwrap().push(call);
        Some(CacheKey {
            digest: [0; 32],
            url_bytes: 0,
            is_get: true,
        })
    }

    fn lookup(&self, _: &CacheKey, _: &HeaderMap) -> Lookup {
        self.found.lock().unwrap().take().unwrap_or(Lookup::Miss)
    }

    fn space(&self, _: &CacheKey, _: &HeaderMap, _: (StatusCode, &HeaderMap)) -> Option<u64> {
        Some(u64::MAX)
    }

    fn store(&self, _: &CacheKey, _: &HeaderMap, _: &Incoming, _: Duration) {
        let keys = self.keys.lock().unwrap();
        self.stored.lock().unwrap().extend(keys.last().cloned());
    }

    fn revalidated(
        &self,
        _: &CacheKey,
        sent: &HeaderMap,
        response: &Incoming,
        _: Duration,
    ) -> Option<Incoming> {
        assert!(!sent.contains_key(IF_NONE_MATCH));
        assert_eq!(response.status, StatusCode::NOT_MODIFIED);
        self.stand_in.clone()
    }

    fn on_error(&self, _: &CacheKey, _: &HeaderMap) -> Option<Incoming> {
        self.stand_in.clone()
    }

    fn single_flights(&self) -> &SingleFlights {
        &self.single_flights
    }

    fn learn(&self, _: &HeaderMap, _: Duration, _: bool) {}

    fn wait(&self, _: &CacheKey, _: &HeaderMap, _: &Lookup, _: Duration) -> Option<Patience> {
        None
    }
}

fn kept(body: &'static str) -> Incoming {
    Incoming {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        origin: None,
    }
}

#[test]
fn a_cache_is_checked_before_the_upstream_and_filled_after_it() {
    let asked = |found: Option<Lookup>, stand_in: Option<Incoming>, reply: Reply| {
        let cache = Arc::new(Stored {
            found: Mutex::new(found),
            stand_in,
            ..Stored::default()
        });
        let one = Backend {
            cache: Some(cache.clone()),
            ..backend("/a")
        };
        let fake = Fake::new(&[("/a", reply)]);
        let seen = Run::default().ask(&fake, work([one]));
        let stored = cache.stored.lock().unwrap().clone();
        (seen.status, seen.body, fake.targets().len(), stored)
    };
    let old = || Some(kept(r#"{"old":1}"#));
    let conditions = || {
        let etag = HeaderValue::from_static("\"v1\"");
        Some(Lookup::Stale(Fields::from_iter([(IF_NONE_MATCH, etag)])))
    };
    let answered = |body: &str, calls: usize| (200, body.to_owned(), calls, vec![]);
    let fresh = Some(Lookup::Fresh(kept(r#"{"old":1}"#)));
    assert_eq!(asked(fresh, None, ok("{}")), answered(r#"{"old":1}"#, 0));
    assert_eq!(
        asked(None, None, ok(r#"{"new":1}"#)),
        (
            200,
            r#"{"new":1}"#.to_owned(),
            1,
            vec!["GET http://h:1/a".to_owned()]
        )
    );
    assert_eq!(
        asked(conditions(), old(), Reply::Response(304, "")),
        answered(r#"{"old":1}"#, 1)
    );
    let broken = Reply::Fail(Failure::new(Kind::Broken, "EOF"));
    for reply in [Reply::Response(503, ""), broken] {
        assert_eq!(asked(None, old(), reply), answered(r#"{"old":1}"#, 1));
    }
    let rejected = asked(Some(Lookup::Rejected), None, ok("{}"));
    assert_eq!((rejected.0, rejected.2), (500, 0));
}
