use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::limit::Limit;
use super::*;
use crate::runtime::answer::{Branding, Fields};
use crate::runtime::decode::{Decoder, Kind as Encoded};
use crate::runtime::encode::Encoding;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::flatmap::Flatmap;
use crate::runtime::forward::{HeaderRules, QueryRules};
use crate::runtime::json::Value;
use crate::runtime::request::Params;
use crate::runtime::router::Pattern;
use crate::runtime::service::*;
use crate::runtime::shape::{Shape, ShapeSpec};
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::{
    BackendStep, Credentials, Lookup, Outcome as CallOutcome, ResponseCache, Ticket,
};
use crate::runtime::template::Template;
use crate::upstream::{CallOptions, Client, DnsTable, HostSet, Incoming, Outgoing, Settings};

/// What a stand-in for an upstream does when it is called.
#[derive(Debug, Clone)]
enum Reply {
    Answer(u16, &'static str),
    Fail(Failure),
    /// Waits until the call is dropped.
    Never,
}

/// Replies by target, each once; the last one stays.
#[derive(Debug, Clone, Default)]
struct Fake {
    replies: Arc<Mutex<HashMap<&'static str, VecDeque<Reply>>>>,
    seen: Arc<Mutex<Vec<Outgoing>>>,
}

impl Fake {
    fn new(replies: &[(&'static str, Reply)]) -> Fake {
        let fake = Fake::default();
        for (target, reply) in replies {
            let mut all = fake.replies.lock().unwrap();
            all.entry(target).or_default().push_back(reply.clone());
        }
        fake
    }

    fn targets(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|out| out.target.clone()).collect()
    }

    fn next(&self, target: &str) -> Reply {
        let mut all = self.replies.lock().unwrap();
        match all.get_mut(target) {
            Some(list) if list.len() > 1 => list.pop_front().unwrap(),
            Some(list) => list[0].clone(),
            None => Reply::Answer(404, "no such route"),
        }
    }
}

impl Carrier for Fake {
    async fn call(&self, _: &HostSet, out: Outgoing, _: &CallOptions) -> Result<Incoming, Failure> {
        let reply = self.next(&out.target);
        self.seen.lock().unwrap().push(out);
        match reply {
            Reply::Answer(status, body) => Ok(Incoming {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::from_iter([
                    (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                    (ETAG, HeaderValue::from_static("\"v1\"")),
                ]),
                body: Bytes::from_static(body.as_bytes()),
                origin: Some("http://h:1".into()),
            }),
            Reply::Fail(failure) => Err(failure),
            Reply::Never => std::future::pending().await,
        }
    }
}

fn ok(body: &'static str) -> Reply {
    Reply::Answer(200, body)
}

/// Never called, and one for all, since a client loads the system's certificates.
fn hosts() -> Arc<HostSet> {
    static HOSTS: OnceLock<Arc<HostSet>> = OnceLock::new();
    let made = HOSTS.get_or_init(|| {
        let dns = Arc::new(DnsTable::with_resolver(None));
        let client = Client::new(Settings::default(), dns).unwrap();
        Arc::new(HostSet::fixed(&client, &["http://h:1"]))
    });
    Arc::clone(made)
}

fn backend(url: &str) -> Backend {
    shaped(url, ShapeSpec::default())
}

fn shaped(url: &str, shape: ShapeSpec) -> Backend {
    Backend {
        pattern: url.into(),
        method: Method::GET,
        url: Template::parse(url, &Pattern::parse("/m/{id}", true).unwrap()).unwrap(),
        hosts: hosts(),
        headers: None,
        query: None,
        decoder: Decoder {
            encoding: Encoded::Json,
            is_collection: false,
        },
        shape: Shape::compile(shape),
        errors: ErrorMode::Hide,
        steps: Box::default(),
        credentials: None,
        cache: None,
        graphql: None,
        send_body_on_redirect: false,
        compression: true,
    }
}

fn grouped(url: &str, group: &str) -> Backend {
    let group = group.to_owned();
    shaped(
        url,
        ShapeSpec {
            group,
            ..ShapeSpec::default()
        },
    )
}

fn failing(url: &str, errors: ErrorMode) -> Backend {
    Backend {
        errors,
        ..backend(url)
    }
}

fn work(backends: impl IntoIterator<Item = Backend>) -> Composition {
    Composition {
        backends: backends.into_iter().collect(),
        shadows: Box::default(),
        order: Order::Parallel,
        flatmap: None,
        static_data: None,
        concurrent_calls: 1,
        encoding: Encoding::Json,
        signer: None,
    }
}

fn sequence(backends: impl IntoIterator<Item = Backend>) -> Composition {
    Composition {
        order: Order::Sequential {
            propagated: Box::default(),
        },
        ..work(backends)
    }
}

fn options() -> Options {
    Options {
        version_header: HeaderValue::from_static("Portcullis 0"),
        user_agent: HeaderValue::from_static("Portcullis/0"),
        return_error_msg: false,
        error_body_404: None,
        error_body_405: None,
        health_path: None,
        debug_endpoint: false,
        echo_endpoint: false,
        client_address: ClientAddress::default(),
        check_path_params: true,
        max_request_body_bytes: 1 << 20,
        max_upstream_body_bytes: 1 << 20,
        stream_idle_timeout: Duration::from_secs(60),
        stream_total_timeout: false,
        access_log_skip: Box::default(),
        access_log: true,
        canonical_json: true,
    }
}

fn call() -> ClientCall {
    let mut params = Params::default();
    params.0.push(("id".into(), "7".to_owned()));
    ClientCall {
        headers: HeaderMap::new(),
        query: None,
        params,
        claims: None,
        accept: None,
        body: Bytes::from_static(b"{\"in\":1}"),
        announce_length: false,
        started: Instant::now(),
    }
}

/// What a test looks at.
#[derive(Debug)]
struct Seen {
    status: u16,
    body: String,
    completed: Option<bool>,
    content_type: Option<String>,
    etag: Option<String>,
    cached: bool,
    errors: Vec<String>,
}

impl Seen {
    fn is(&self, status: u16, body: &str, completed: bool) {
        assert_eq!(
            (self.status, self.body.as_str(), self.completed),
            (status, body, Some(completed)),
            "{self:?}"
        );
    }
}

struct Run {
    options: Options,
    timeout: Duration,
}

/// Long enough never to pass, unless a test wants it to.
const AGES: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_millis(20);

impl Default for Run {
    fn default() -> Run {
        Run {
            options: options(),
            timeout: AGES,
        }
    }
}

impl Run {
    fn showing_errors() -> Run {
        let mut run = Run::default();
        run.options.return_error_msg = true;
        run
    }

    fn in_time(timeout: Duration) -> Run {
        Run {
            timeout,
            ..Run::default()
        }
    }

    fn ask(&self, fake: &Fake, work: Composition) -> Seen {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let endpoint = Endpoint {
                pattern: "/m/{id}".into(),
                method: Method::GET,
                timeout: self.timeout,
                cache_control: Some(HeaderValue::from_static("public, max-age=5400")),
                steps: Box::default(),
                headers: HeaderRules::endpoint::<&str>(&[]).unwrap(),
                query: QueryRules::endpoint::<&str>(&[]),
                work: Work::Nothing,
                id: 0,
            };
            let outcome = run_with(fake, &self.options, &endpoint, &work, &call()).await;
            // Lets shadows go out.
            tokio::task::yield_now().await;
            let field = |name| {
                let fields = &outcome.answer.fields;
                fields
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value.to_str().unwrap().to_owned())
            };
            Seen {
                status: outcome.answer.status.as_u16(),
                body: String::from_utf8(outcome.answer.body.to_vec()).unwrap(),
                completed: match outcome.answer.branding {
                    Branding::Completed(completed) => Some(completed),
                    _ => None,
                },
                content_type: field(CONTENT_TYPE),
                etag: field(ETAG),
                cached: field(CACHE_CONTROL).is_some(),
                errors: outcome.errors.iter().map(ToString::to_string).collect(),
            }
        })
    }
}

fn ask(replies: &[(&'static str, Reply)], work: Composition) -> Seen {
    Run::default().ask(&Fake::new(replies), work)
}

#[test]
fn one_backend_is_the_whole_answer() {
    for status in [200, 201] {
        let seen = ask(
            &[("/a", Reply::Answer(status, r#"{"b":1,"a":{"z":1}}"#))],
            work([backend("/a")]),
        );
        seen.is(200, r#"{"a":{"z":1},"b":1}"#, true);
        assert!(seen.cached);
        assert_eq!(
            seen.content_type.as_deref(),
            Some("application/json; charset=utf-8")
        );
    }
}

#[test]
fn an_answer_without_members_is_not_complete() {
    for body in ["{}", "null"] {
        let seen = ask(&[("/a", ok(body))], work([backend("/a")]));
        seen.is(200, body, false);
        assert!(!seen.cached);
    }
}

#[test]
fn any_other_status_is_a_failure_that_shows_nothing() {
    for status in [202, 204, 206, 301, 304, 400, 404, 500, 503] {
        let seen = ask(
            &[("/a", Reply::Answer(status, "{}"))],
            work([backend("/a")]),
        );
        seen.is(500, "", false);
        assert_eq!(seen.content_type, None);
        assert_eq!(
            seen.errors,
            [format!(
                "invalid status code {status} [GET /a]: http://h:1/a"
            )]
        );
    }
}

#[test]
fn return_error_msg_shows_the_text() {
    let run = Run::showing_errors();
    let seen = run.ask(
        &Fake::new(&[("/a/7", Reply::Answer(404, "x"))]),
        work([backend("/a/{id}")]),
    );
    seen.is(
        500,
        "invalid status code 404 [GET /a/{{.Id}}]: http://h:1/a/7",
        false,
    );
    assert_eq!(
        seen.content_type.as_deref(),
        Some("text/plain; charset=utf-8")
    );
    let seen = run.ask(&Fake::new(&[("/a", ok(""))]), work([backend("/a")]));
    seen.is(500, "EOF", false);
}

#[test]
fn return_error_code_passes_the_status_and_the_body_only_with_return_error_msg() {
    let replies = [("/a", Reply::Answer(404, "{\"why\":1}"))];
    let work = || work([failing("/a", ErrorMode::Code)]);
    ask(&replies, work()).is(404, "", false);
    let seen = Run::showing_errors().ask(&Fake::new(&replies), work());
    seen.is(404, "{\"why\":1}", false);
    assert_eq!(seen.content_type.as_deref(), Some("application/json"));
}

#[test]
fn pass_through_keeps_status_and_chosen_fields_and_shapes_the_body() {
    let asked = |status: u16, body: &'static str| {
        let one = Backend {
            errors: ErrorMode::PassThrough(PassThrough {
                headers: Box::new([ETAG, CONTENT_TYPE]),
            }),
            ..grouped("/a", "g")
        };
        ask(&[("/a", Reply::Answer(status, body))], work([one]))
    };
    asked(202, r#"{"a":1}"#).is(202, r#"{"g":{"a":1}}"#, true);
    let none = asked(204, "");
    none.is(204, "", false);
    assert_eq!(none.content_type, None);
    let missing = asked(404, r#"{"why":1}"#);
    missing.is(404, r#"{"why":1}"#, false);
    assert_eq!(missing.content_type.as_deref(), Some("application/json"));
    assert_eq!(missing.etag.as_deref(), Some("\"v1\""));
}

#[test]
fn return_error_details_makes_the_failure_a_member() {
    let details = |alias: &str| ErrorMode::Details(alias.into());
    let seen = ask(
        &[("/a", Reply::Answer(404, "<no>"))],
        work([failing("/a", details("x"))]),
    );
    seen.is(
        200,
        r#"{"error_x":{"http_status_code":404,"http_body":"\u003cno\u003e","http_body_encoding":"application/json"}}"#,
        false,
    );
    assert!(seen.errors.is_empty());
    ask(
        &[("/a", Reply::Answer(500, "")), ("/b", Reply::Answer(404, "no"))],
        work([failing("/a", details("one")), failing("/b", details("two"))]),
    )
    .is(
        200,
        r#"{"error_one":{"http_status_code":500,"http_body_encoding":"application/json"},"error_two":{"http_status_code":404,"http_body":"no","http_body_encoding":"application/json"}}"#,
        false,
    );
    let refused = Reply::Fail(Failure::new(Kind::Connect, "refused"));
    ask(&[("/a", refused)], work([failing("/a", details("x"))])).is(500, "", false);
}

#[test]
fn several_answers_merge_in_the_file_s_order() {
    let seen = ask(
        &[
            ("/a", ok(r#"{"k":{"a":1},"a":1}"#)),
            ("/b", ok(r#"{"k":{"b":2}}"#)),
            ("/c", ok(r#"{"c":[1]}"#)),
        ],
        work([backend("/a"), backend("/b"), grouped("/c", "g")]),
    );
    seen.is(200, r#"{"a":1,"g":{"c":[1]},"k":{"b":2}}"#, true);
    assert!(seen.cached);
}

#[test]
fn a_failing_part_costs_its_part() {
    for bad in [
        Reply::Answer(500, "x"),
        ok("{oops"),
        Reply::Fail(Failure::new(Kind::Connect, "no")),
    ] {
        let seen = ask(
            &[("/a", ok(r#"{"a":1}"#)), ("/b", bad)],
            work([backend("/a"), failing("/b", ErrorMode::Code)]),
        );
        seen.is(200, r#"{"a":1}"#, false);
        assert!(!seen.cached);
        assert_eq!(seen.errors.len(), 1);
    }
}

#[test]
fn null_contributes_nothing_and_leaves_the_whole_incomplete() {
    ask(
        &[("/a", ok("null")), ("/b", ok(r#"{"b":1}"#))],
        work([backend("/a"), backend("/b")]),
    )
    .is(200, r#"{"b":1}"#, false);
    ask(
        &[("/a", ok("null")), ("/b", ok("null"))],
        work([backend("/a"), backend("/b")]),
    )
    .is(200, "{}", false);
}

#[test]
fn when_all_fail_the_answer_is_500_whatever_they_said() {
    let replies = [
        ("/a", Reply::Answer(409, "nope")),
        ("/b", Reply::Answer(410, "")),
    ];
    let work = || {
        work([
            failing("/a", ErrorMode::Hide),
            failing("/b", ErrorMode::Hide),
        ])
    };
    ask(&replies, work()).is(500, "", false);
    Run::showing_errors().ask(&Fake::new(&replies), work()).is(
        500,
        "invalid status code 409 [GET /a]: http://h:1/a\ninvalid status code 410 [GET /b]: http://h:1/b",
        false,
    );
}

#[test]
fn what_is_late_is_missing() {
    let run = Run::in_time(SOON);
    let late = run.ask(&Fake::new(&[("/a", Reply::Never)]), work([backend("/a")]));
    late.is(500, "", false);
    assert_eq!(late.errors, ["context deadline exceeded"]);
    let replies = [("/a", ok(r#"{"a":1}"#)), ("/b", Reply::Never)];
    run.ask(&Fake::new(&replies), work([backend("/b"), backend("/a")]))
        .is(200, r#"{"a":1}"#, false);
    run.ask(
        &Fake::new(&replies),
        sequence([backend("/a"), backend("/b")]),
    )
    .is(200, r#"{"a":1}"#, false);
    run.ask(
        &Fake::new(&replies),
        sequence([backend("/b"), backend("/a")]),
    )
    .is(500, "", false);
}

#[test]
fn groups_end_at_85_and_concurrent_calls_at_75_percent() {
    let started = Instant::now();
    let second = Duration::from_secs(1);
    let left = |work: &Composition| {
        let limit = Limit::of(work, started, second);
        let remaining = limit.remaining();
        (remaining + started.elapsed()).as_millis().div_ceil(10) * 10
    };
    let mut one = work([backend("/a")]);
    let mut two = work([backend("/a"), backend("/b")]);
    let mut chain = sequence([backend("/a"), backend("/b")]);
    assert_eq!([left(&one), left(&two), left(&chain)], [1000, 850, 850]);
    for work in [&mut one, &mut two, &mut chain] {
        work.concurrent_calls = 2;
    }
    assert_eq!([left(&one), left(&two), left(&chain)], [750, 750, 850]);
}

#[test]
fn concurrent_calls_take_the_first_complete_answer() {
    let mut work = work([backend("/a")]);
    work.concurrent_calls = 3;
    let fake = Fake::new(&[
        ("/a", Reply::Never),
        ("/a", Reply::Answer(500, "")),
        ("/a", ok(r#"{"ok":1}"#)),
    ]);
    Run::default().ask(&fake, work).is(200, r#"{"ok":1}"#, true);
    assert_eq!(fake.targets().len(), 3);
}

#[test]
fn later_calls_take_values_of_earlier_answers() {
    let first = r#"{"id":7,"f":1.5,"s":"a b/c?d","b":true,"l":[1,"x"],"o":{"i":"deep"}}"#;
    let fake = Fake::new(&[
        ("/first", ok(first)),
        ("/e/7/true/1.5?l=1,x&i=deep", ok(r#"{"second":1}"#)),
        ("/e/a%20b%2Fc%3Fd", ok(r#"{"third":{"n":null}}"#)),
    ]);
    let seen = Run::default().ask(
        &fake,
        sequence([
            grouped("/first", "g"),
            backend("/e/{resp0_g.id}/{resp0_g.b}/{resp0_g.f}?l={resp0_g.l}&i={resp0_g.o.i}"),
            backend("/e/{resp0_g.s}"),
        ]),
    );
    assert_eq!(fake.targets().len(), 3, "{:?}", fake.targets());
    assert_eq!((seen.status, seen.completed), (200, Some(true)), "{seen:?}");
    assert!(seen.body.ends_with(r#""second":1,"third":{"n":null}}"#));
}

#[test]
fn a_missing_value_is_a_failure_before_anything_is_sent() {
    let fake = Fake::new(&[("/first", ok(r#"{"id":7}"#))]);
    let seen = Run::default().ask(
        &fake,
        sequence([backend("/first"), backend("/e/{resp0_nope}")]),
    );
    seen.is(200, r#"{"id":7}"#, false);
    assert_eq!(fake.targets(), ["/first"]);
}

#[test]
fn a_chain_stops_where_it_breaks() {
    let three = |mode| sequence([failing("/a", mode), backend("/b"), backend("/c")]);
    let fake = Fake::new(&[("/a", Reply::Answer(410, "gone"))]);
    Run::default()
        .ask(&fake, three(ErrorMode::Code))
        .is(410, "", false);
    assert_eq!(fake.targets(), ["/a"]);
    let fake = Fake::new(&[("/a", Reply::Answer(404, ""))]);
    Run::default()
        .ask(&fake, three(ErrorMode::Details("x".into())))
        .is(
            200,
            r#"{"error_x":{"http_status_code":404,"http_body_encoding":"application/json"}}"#,
            false,
        );
    assert_eq!(fake.targets(), ["/a"]);
    let fake = Fake::new(&[("/a", ok(r#"{"a":1}"#)), ("/b", Reply::Answer(500, ""))]);
    Run::default()
        .ask(&fake, three(ErrorMode::Hide))
        .is(200, r#"{"a":1}"#, false);
    assert_eq!(fake.targets(), ["/a", "/b"]);
}

#[test]
fn each_call_gets_its_own_copy_of_the_body() {
    for work in [
        work([backend("/a"), backend("/b")]),
        sequence([backend("/a"), backend("/b")]),
    ] {
        let fake = Fake::new(&[("/a", ok(r#"{"a":1}"#)), ("/b", ok(r#"{"b":1}"#))]);
        Run::default()
            .ask(&fake, work)
            .is(200, r#"{"a":1,"b":1}"#, true);
        for out in &*fake.seen.lock().unwrap() {
            assert_eq!(out.body, "{\"in\":1}");
        }
    }
}

#[test]
fn static_data_is_laid_over_the_answer_by_strategy() {
    let replies = [
        ("/a", ok(r#"{"a":1}"#)),
        ("/b", ok(r#"{"b":2}"#)),
        ("/f", Reply::Answer(500, "")),
    ];
    let asked = |strategy: &str, urls: [&str; 2]| {
        let data = json!({"a": "s", "n": 1.0});
        let mut work = work(urls.map(backend));
        work.static_data = Some(StaticData::compile(strategy, data.as_object().unwrap()));
        ask(&replies, work)
    };
    let (with, without) = (r#"{"a":"s","b":2,"n":1}"#, r#"{"a":1,"b":2}"#);
    let (part, bare, only) = (r#"{"a":"s","n":1}"#, r#"{"a":1}"#, r#"{"a":"s","n":1}"#);
    for (strategy, all, one, none) in [
        ("always", with, part, Some(only)),
        ("nonsense", with, part, Some(only)),
        ("success", with, bare, None),
        ("complete", with, bare, None),
        ("errored", without, part, Some(only)),
        ("incomplete", without, part, Some(only)),
    ] {
        asked(strategy, ["/a", "/b"]).is(200, all, true);
        asked(strategy, ["/a", "/f"]).is(200, one, false);
        match none {
            Some(body) => asked(strategy, ["/f", "/f"]).is(200, body, false),
            None => asked(strategy, ["/f", "/f"]).is(500, "", false),
        }
    }
}

#[test]
fn static_data_hides_a_status_but_not_the_error() {
    let mut work = work([failing("/f", ErrorMode::Code)]);
    let data = json!({"s": {"x": "<"}});
    work.static_data = Some(StaticData::compile("errored", data.as_object().unwrap()));
    let seen = ask(&[("/f", Reply::Answer(404, "no"))], work);
    seen.is(200, r#"{"s":{"x":"\u003c"}}"#, false);
    assert_eq!(seen.errors.len(), 1);
}

#[test]
fn the_endpoint_s_flatmap_runs_on_whole_merged_answers_only() {
    let args = ["a".to_owned(), "z".to_owned()];
    let flatmap = || Flatmap::compile([("move", &args[..])]).unwrap();
    let replies = [
        ("/a", ok(r#"{"a":1}"#)),
        ("/b", ok(r#"{"b":2}"#)),
        ("/f", Reply::Answer(500, "")),
    ];
    let asked = |urls: &[&str]| {
        let mut work = work(urls.iter().map(|url| backend(url)));
        work.flatmap = flatmap();
        ask(&replies, work)
    };
    asked(&["/a", "/b"]).is(200, r#"{"b":2,"z":1}"#, true);
    asked(&["/a", "/f"]).is(200, r#"{"a":1}"#, false);
    asked(&["/a"]).is(200, r#"{"a":1}"#, true);
}

#[test]
fn shadows_get_a_copy_and_are_not_waited_for() {
    let mut work = work([backend("/a")]);
    work.shadows = Box::new([Arc::new(Shadow {
        backend: backend("/shadow"),
        timeout: AGES,
    })]);
    let fake = Fake::new(&[("/a", ok(r#"{"a":1}"#)), ("/shadow", Reply::Never)]);
    Run::default().ask(&fake, work).is(200, r#"{"a":1}"#, true);
    let seen = fake.seen.lock().unwrap();
    let shadow = seen.iter().find(|out| out.target == "/shadow").unwrap();
    assert_eq!(shadow.body, "{\"in\":1}");
}

/// Counts what a circuit breaker would.
#[derive(Debug, Clone, Default)]
struct Counter {
    ended: Arc<Mutex<Vec<(u64, CallOutcome)>>>,
    refuse: bool,
}

impl BackendStep for Counter {
    fn before(&self) -> Result<Ticket, Failure> {
        match self.refuse {
            true => Err(Failure::new(Kind::Refused, "rate limit exceded")),
            false => Ok(Ticket(42)),
        }
    }

    fn after(&self, ticket: Ticket, outcome: CallOutcome) {
        self.ended.lock().unwrap().push((ticket.0, outcome));
    }
}

fn counted(url: &str, refuse: bool) -> (Backend, Counter) {
    let counter = Counter::default();
    let inner = Counter {
        refuse,
        ..Counter::default()
    };
    let mut backend = backend(url);
    backend.steps = Box::new([Box::new(counter.clone()), Box::new(inner)]);
    (backend, counter)
}

#[test]
fn steps_see_each_call_end_once() {
    use CallOutcome::{Failure as Bad, Success as Good};
    for (reply, refuse, expected) in [
        (ok("{}"), false, Good),
        (Reply::Answer(500, ""), false, Bad),
        (ok("no json"), false, Bad),
        (ok("{}"), true, Bad),
        (Reply::Never, false, Bad),
    ] {
        let (backend, counter) = counted("/a", refuse);
        Run::in_time(SOON).ask(&Fake::new(&[("/a", reply)]), work([backend]));
        assert_eq!(*counter.ended.lock().unwrap(), [(42, expected)]);
    }
}

#[test]
fn calls_that_lost_a_race_count_for_nothing() {
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

#[derive(Debug)]
struct Signs {
    ready: bool,
}

impl ResponseSigner for Signs {
    fn ready(&self) -> bool {
        self.ready
    }

    fn sign(&self, data: &mut Value) -> Result<(), Failure> {
        if let Some(object) = data.as_object_mut() {
            object.insert("token".into(), Value::string("signed"));
        }
        Ok(())
    }
}

#[test]
fn signed_answers_are_all_or_nothing_and_carry_none_of_our_fields() {
    let replies = [
        ("/a", Reply::Answer(201, r#"{"token":{"x":1},"b":1}"#)),
        ("/f", Reply::Answer(401, "")),
    ];
    let asked = |urls: &[&str], ready: bool| {
        let mut work = work(urls.iter().map(|url| failing(url, ErrorMode::Code)));
        work.signer = Some(Arc::new(Signs { ready }));
        let seen = ask(&replies, work);
        assert_eq!((seen.completed, seen.cached), (None, false));
        (seen.status, seen.body)
    };
    assert_eq!(
        asked(&["/a"], true),
        (200, r#"{"b":1,"token":"signed"}"#.to_owned())
    );
    assert_eq!(asked(&["/f"], true), (400, String::new()));
    assert_eq!(asked(&["/a", "/f"], true), (400, String::new()));
    assert_eq!(asked(&["/a"], false), (401, String::new()));
}

#[test]
fn log_lines_cannot_be_forged() {
    let reply = Reply::Fail(Failure::new(Kind::Broken, "a\nERROR b\u{1b}[2J"));
    let seen = ask(&[("/a", reply)], work([backend("/a")]));
    assert_eq!(seen.errors, ["a ERROR b [2J"]);
}

#[test]
fn the_work_of_a_request_may_move_between_threads() {
    fn sendable<T: Send>(_: T) {}
    fn check(service: &Service, endpoint: &Endpoint, work: &Composition, call: &ClientCall) {
        sendable(run(service, endpoint, work, call));
    }
    let _ = check;
}

/// Tokens in the order in which they are fetched.
#[derive(Debug)]
struct Tokens(Mutex<VecDeque<&'static str>>);

impl Credentials for Tokens {
    fn ready(&self) -> Option<HeaderValue> {
        let tokens = self.0.lock().unwrap();
        // The first is known already.
        match tokens.front() {
            Some(&"Bearer old") => Some(HeaderValue::from_static("Bearer old")),
            _ => None,
        }
    }

    fn fetch(
        &self,
        _: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<HeaderValue, Failure>> + Send + '_>> {
        let token = self.0.lock().unwrap().front().copied();
        Box::pin(async move {
            token
                .map(HeaderValue::from_static)
                .ok_or_else(|| Failure::new(Kind::Credentials, "no token"))
        })
    }

    fn rejected(&self, value: &HeaderValue) -> bool {
        let mut tokens = self.0.lock().unwrap();
        assert_eq!(tokens.pop_front().unwrap(), value);
        true
    }
}

fn with_tokens(tokens: &[&'static str]) -> Backend {
    let tokens = Tokens(Mutex::new(tokens.iter().copied().collect()));
    Backend {
        credentials: Some(Arc::new(tokens)),
        ..failing("/a", ErrorMode::Code)
    }
}

#[test]
fn a_refused_token_is_replaced_once() {
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
    let refused = || Reply::Answer(401, "");
    assert_eq!(
        sent(&[refused(), ok("{}")], &["Bearer old", "Bearer new"]),
        (200, vec!["Bearer old".to_owned(), "Bearer new".to_owned()])
    );
    assert_eq!(
        sent(&[refused()], &["Bearer a", "Bearer b", "Bearer c"]),
        (401, vec!["Bearer a".to_owned(), "Bearer b".to_owned()])
    );
    assert_eq!(sent(&[ok("{}")], &[]), (500, vec![]));
}

/// A cache that finds what it is told to find.
#[derive(Debug, Default)]
struct Stored {
    found: Mutex<Option<Lookup>>,
    stand_in: Option<Incoming>,
    stored: Mutex<Vec<String>>,
}

impl ResponseCache for Stored {
    fn lookup(&self, _: &Method, _: &str, _: &HeaderMap) -> Lookup {
        self.found.lock().unwrap().take().unwrap_or(Lookup::Miss)
    }

    fn store(&self, method: &Method, url: &str, _: &HeaderMap, _: &Incoming) {
        self.stored.lock().unwrap().push(format!("{method} {url}"));
    }

    fn revalidated(
        &self,
        _: &Method,
        _: &str,
        sent: &HeaderMap,
        answer: &Incoming,
    ) -> Option<Incoming> {
        assert!(!sent.contains_key(IF_NONE_MATCH));
        assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
        self.stand_in.clone()
    }

    fn on_error(&self, _: &Method, _: &str, _: &HeaderMap) -> Option<Incoming> {
        self.stand_in.clone()
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
fn a_cache_stands_before_the_upstream_and_behind_it() {
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
        asked(conditions(), old(), Reply::Answer(304, "")),
        answered(r#"{"old":1}"#, 1)
    );
    let broken = Reply::Fail(Failure::new(Kind::Broken, "EOF"));
    for reply in [Reply::Answer(503, ""), broken] {
        assert_eq!(asked(None, old(), reply), answered(r#"{"old":1}"#, 1));
    }
    let refused = asked(Some(Lookup::Refused), None, ok("{}"));
    assert_eq!((refused.0, refused.2), (504, 0));
}
