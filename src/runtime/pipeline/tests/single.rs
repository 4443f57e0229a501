//! Endpoints with one backend.

use super::*;

#[test]
fn one_backend_is_the_whole_response() {
    for status in [200, 201] {
        let seen = ask(
            &[("/a", Reply::Response(status, r#"{"b":1,"a":{"z":1}}"#))],
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
fn a_response_without_members_is_not_complete() {
    for body in ["{}", "null"] {
        let seen = ask(&[("/a", ok(body))], work([backend("/a")]));
        seen.is(200, body, false);
        assert!(!seen.cached);
    }
}

#[test]
fn any_other_status_is_a_failure_without_details() {
    for status in [202, 204, 206, 301, 304, 400, 404, 500, 503] {
        let seen = ask(
            &[("/a", Reply::Response(status, "{}"))],
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
        &Fake::new(&[("/a/7", Reply::Response(404, "x"))]),
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
    let replies = [("/a", Reply::Response(404, "{\"why\":1}"))];
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
        ask(&[("/a", Reply::Response(status, body))], work([one]))
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
fn a_message_is_accepted_with_any_2xx_whatever_the_body() {
    let asked = |decoded: bool, encoding: Encoded, status: u16, body: &'static str| {
        let mut one = failing("/a", ErrorMode::Message { decoded });
        one.decoder.encoding = encoding;
        ask(&[("/a", Reply::Response(status, body))], work([one]))
    };
    for (decoded, encoding, status, body) in [
        (false, Encoded::Json, 200, "OK"),
        (false, Encoded::Json, 202, "[1]"),
        (false, Encoded::Json, 204, ""),
        (true, Encoded::Json, 200, "OK"),
        (true, Encoded::Json, 200, ""),
        (true, Encoded::NoOp, 299, "OK"),
    ] {
        let seen = asked(decoded, encoding, status, body);
        assert!(seen.errors.is_empty(), "{status} {body}: {:?}", seen.errors);
        assert_eq!(seen.status, 200);
    }
    asked(true, Encoded::Json, 202, r#"{"a":1}"#).is(200, r#"{"a":1}"#, true);
    for status in [199, 301, 404, 500, 503] {
        for (decoded, encoding) in [
            (false, Encoded::Json),
            (true, Encoded::Json),
            (false, Encoded::NoOp),
            (true, Encoded::NoOp),
        ] {
            let seen = asked(decoded, encoding, status, r#"{"a":1}"#);
            assert_eq!(seen.errors.len(), 1, "{status}");
        }
    }
}

#[test]
fn return_error_details_makes_the_failure_a_member() {
    let details = |alias: &str| ErrorMode::Details(alias.into());
    let seen = ask(
        &[("/a", Reply::Response(404, "<no>"))],
        work([failing("/a", details("x"))]),
    );
    seen.is(
        200,
        r#"{"error_x":{"http_status_code":404,"http_body":"\u003cno\u003e","http_body_encoding":"application/json"}}"#,
        false,
    );
    assert!(seen.errors.is_empty());
    ask(
        &[("/a", Reply::Response(500, "")), ("/b", Reply::Response(404, "no"))],
        work([failing("/a", details("one")), failing("/b", details("two"))]),
    )
    .is(
        200,
        r#"{"error_one":{"http_status_code":500,"http_body_encoding":"application/json"},"error_two":{"http_status_code":404,"http_body":"no","http_body_encoding":"application/json"}}"#,
        false,
    );
    let rejected = Reply::Fail(Failure::new(
        Kind::Connect(ConnectFailure::Refused),
        "refused",
    ));
    ask(&[("/a", rejected)], work([failing("/a", details("x"))])).is(500, "", false);
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
    fn check(service: &Service, endpoint: &Endpoint, work: &Composition, call: &mut ClientCall) {
        sendable(run_with(&Upstream, &service.options, endpoint, work, call));
    }
    let _ = check;
}

/// Without an end at the deadline, each of these takes seconds in a debug build.
#[test]
fn large_responses_are_worked_on_until_the_deadline_only() {
    let text = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let list = vec![r#"{"a":{"b":[{"c":1},{"c":2}]}}"#; 60_000].join(",");
    let json = text(format!(r#"{{"l":[{list}]}}"#));
    let xml = text(format!("<r>{}</r>", "<a b='1'><c>x</c></a>".repeat(60_000)));
    let flatmap = || {
        let args = ["l.*.a.b.*.c".to_owned(), "l.*.a.b.*.d".to_owned()];
        Flatmap::compile(vec![("move", &args[..]); 12]).unwrap()
    };
    let mut decoding = backend("/xml");
    decoding.decoder.encoding = Encoded::Xml;
    let moving = ShapeSpec {
        flatmap: flatmap(),
        ..ShapeSpec::default()
    };
    let works = [
        work([decoding]),
        work([shaped("/json", moving)]),
        Composition {
            encoding: Encoding::Yaml,
            ..work([backend("/json")])
        },
        Composition {
            encoding: Encoding::Xml,
            ..work([backend("/json")])
        },
        Composition {
            flatmap: flatmap(),
            ..work([backend("/json"), backend("/other")])
        },
    ];
    let replies = [("/json", ok(json)), ("/xml", ok(xml)), ("/other", ok("{}"))];
    for (index, work) in works.into_iter().enumerate() {
        let began = Instant::now();
        let seen = Run::in_time(SOON).ask(&Fake::new(&replies), work);
        assert_eq!(seen.status, 500, "{index}: after {:?}", began.elapsed());
        assert_eq!(seen.errors, ["context deadline exceeded"], "{index}");
    }
}
