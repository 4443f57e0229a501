//! Endpoints with several backends.

use super::*;

#[test]
fn several_responses_merge_in_the_file_s_order() {
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
fn data_that_nothing_reads_are_written_like_those_of_a_tree() {
    let body = r#" {"b": [1, 2], "a<": {"y": 1, "x": 2}, "c":null} rest"#;
    let written = r#"{"a\u003c":{"y": 1, "x": 2},"b":[1, 2],"c":null}"#;
    let mut run = Run::default();
    run.options.canonical_json = false;
    let ask = |bodies: &[&'static str], work| {
        let paths = ["/a", "/b"];
        let replies: Vec<_> = paths
            .into_iter()
            .zip(bodies.iter().map(|it| ok(it)))
            .collect();
        run.ask(&Fake::new(&replies), work)
    };
    ask(&[body], work([backend("/a")])).is(200, written, true);
    ask(&[body], work([grouped("/a", "g")])).is(200, &format!("{{\"g\":{written}}}"), true);
    let both = || work([grouped("/a", "g"), grouped("/b", "f")]);
    let told = format!("{{\"f\":{written},\"g\":{{}}}}");
    ask(&["{}", body], both()).is(200, &told, true);
    // An object without members is not complete, whether it is read or not.
    ask(&["{}"], work([backend("/a")])).is(200, "{}", false);
    // The last of two members with the same name counts.
    ask(&[r#"{"a":1,"b":0,"a":2}"#], work([backend("/a")])).is(200, r#"{"a":2,"b":0}"#, true);
    // The members of several are merged.
    let merged = work([backend("/a"), backend("/b")]);
    ask(&[r#"{"a":1,"b":1}"#, r#"{"b":2}"#], merged).is(200, r#"{"a":1,"b":2}"#, true);
}

#[test]
fn a_failing_part_costs_its_part() {
    for bad in [
        Reply::Response(500, "x"),
        ok("{oops"),
        Reply::Fail(Failure::new(Kind::Connect(ConnectFailure::Refused), "no")),
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
fn null_adds_nothing_and_makes_the_response_incomplete() {
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
    ask(
        &[("/a", Reply::Response(500, "")), ("/b", ok("null"))],
        work([backend("/a"), backend("/b")]),
    )
    .is(200, "null", false);
}

#[test]
fn when_all_fail_the_response_is_500_whatever_their_statuses() {
    let replies = [
        ("/a", Reply::Response(409, "nope")),
        ("/b", Reply::Response(410, "")),
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
fn late_responses_are_missing() {
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
fn the_backend_that_failed_is_named_among_several() {
    let deadline = "context deadline exceeded (backend[1]: GET /b at http://h:1)";
    let run = Run::in_time(SOON);
    let late = Fake::new(&[("/a", ok(r#"{"a":1}"#)), ("/b", Reply::Never)]);
    let both = || [backend("/a"), backend("/b")];
    let chain = run.ask(&late, sequence(both()));
    assert_eq!(chain.errors, [deadline]);
    assert_eq!(run.ask(&late, work(both())).errors, [deadline]);
    let mut turn = work([backend("/b"), backend("/b")]);
    turn.order = Order::Fallback;
    assert_eq!(run.ask(&late, turn).errors, [deadline]);

    let broken = [("/a", ok(r#"{"a":1}"#)), ("/b", ok("{oops"))];
    for backends in [work(both()), sequence(both())] {
        let errors = ask(&broken, backends).errors;
        let name = " (backend[1]: GET /b at http://h:1)";
        assert!(errors.len() == 1 && errors[0].ends_with(name), "{errors:?}");
    }
    let first = ask(
        &[(
            "/a",
            Reply::Fail(Failure::new(Kind::Busy, "circuit breaker is open")),
        )],
        sequence(both()),
    );
    assert_eq!(
        first.errors,
        ["circuit breaker is open (backend[0]: GET /a at http://h:1)"]
    );
}

#[test]
fn a_client_does_not_see_the_name_of_the_backend() {
    let replies = [("/a", Reply::Response(500, "")), ("/b", ok("{oops"))];
    let both = work([backend("/a"), backend("/b")]);
    let seen = Run::showing_errors().ask(&Fake::new(&replies), both);
    assert_eq!(seen.errors.len(), 2);
    assert!(!seen.body.contains("backend["), "{}", seen.body);
}

#[test]
fn groups_end_at_85_and_concurrent_calls_at_75_percent() {
    let started = Instant::now();
    let second = Duration::from_secs(1);
    // The limit in steps of ten milliseconds. The measurement is repeated if something came between its two halves.
    let left = |work: &Composition| {
        let limit = TimeLimit::of(work, started, second);
        loop {
            let before = started.elapsed();
            let remaining = limit.remaining();
            if started.elapsed() - before < Duration::from_micros(500) {
                return (remaining + before).as_millis().div_ceil(10) * 10;
            }
        }
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
fn concurrent_calls_use_the_first_complete_response() {
    let mut work = work([backend("/a")]);
    work.concurrent_calls = 3;
    let fake = Fake::new(&[
        ("/a", Reply::Never),
        ("/a", Reply::Response(500, "")),
        ("/a", ok(r#"{"ok":1}"#)),
    ]);
    Run::default().ask(&fake, work).is(200, r#"{"ok":1}"#, true);
    assert_eq!(fake.targets().len(), 3);
}

#[test]
fn later_calls_use_values_of_earlier_responses() {
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
    let fake = Fake::new(&[("/a", Reply::Response(410, "gone"))]);
    Run::default()
        .ask(&fake, three(ErrorMode::Code))
        .is(410, "", false);
    assert_eq!(fake.targets(), ["/a"]);
    let fake = Fake::new(&[("/a", Reply::Response(404, ""))]);
    Run::default()
        .ask(&fake, three(ErrorMode::Details("x".into())))
        .is(
            200,
            r#"{"error_x":{"http_status_code":404,"http_body_encoding":"application/json"}}"#,
            false,
        );
    assert_eq!(fake.targets(), ["/a"]);
    let fake = Fake::new(&[("/a", ok(r#"{"a":1}"#)), ("/b", Reply::Response(500, ""))]);
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
