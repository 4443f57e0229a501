//! The context of clients, and what backends are told.

use serde_json::json;

use super::{CLIENT, CLIENTS, CLIENTS_SPAN, CLIENTS_TRACE, Rig, SERVER, a, both, find, grpc};

/// T4. Unlike in KrakenD, an unsampled parent is respected, and `baggage` is not passed on by default.
#[test]
fn the_context_of_a_client_goes_on_to_backends() {
    let rig = Rig::of(grpc(), json!([a()]));
    let sampled = [
        ("traceparent", CLIENTS),
        ("tracestate", "a=1,b=2"),
        ("baggage", "u=1"),
    ];
    assert_eq!(rig.get("/a", &sampled), 200);
    let spans = rig.collector.wait_for_spans(5);
    let client = find(&spans, "/x/a", CLIENT);
    let server = find(&spans, "/a", SERVER);
    assert_eq!(
        (server.parent.as_str(), server.trace.as_str()),
        (CLIENTS_SPAN, CLIENTS_TRACE)
    );
    let seen = rig.one_seen();
    let sent = format!("00-{CLIENTS_TRACE}-{}-01", client.id);
    assert_eq!(seen.header("traceparent"), Some(&*sent));
    assert_eq!(seen.header("tracestate"), Some("a=1,b=2"));
    assert_eq!(seen.header("baggage"), None);

    let unsampled = CLIENTS.replace("-01", "-00");
    assert_eq!(rig.get("/a", &[("traceparent", &unsampled)]), 200);
    let sent = rig.one_seen().header("traceparent").unwrap().to_owned();
    assert!(
        sent.starts_with(&format!("00-{CLIENTS_TRACE}-")) && sent.ends_with("-00"),
        "{sent}"
    );

    assert_eq!(
        rig.get("/a", &[("traceparent", "garbage"), ("tracestate", "a=1")]),
        200
    );
    let seen = rig.one_seen();
    let sent = seen.header("traceparent").unwrap();
    assert!(
        !sent.contains(CLIENTS_TRACE) && sent.ends_with("-01"),
        "{sent}"
    );
    assert_eq!(seen.header("tracestate"), None);
    assert_eq!(rig.collector.wait_for_spans(10).len(), 10);
}

/// T4 with `propagate_baggage`.
#[test]
fn baggage_goes_on_where_the_file_says_so() {
    let mut block = grpc();
    block["propagate_baggage"] = json!(true);
    let rig = Rig::of(block, json!([a()]));
    let two = [("baggage", "u=1"), ("baggage", "k=v;p=1")];
    assert_eq!(rig.get("/a", &two), 200);
    assert_eq!(rig.one_seen().header("baggage"), Some("u=1,k=v;p=1"));
}

/// T5.
#[test]
fn an_unsampled_request_keeps_its_trace_and_gets_no_spans() {
    let mut block = grpc();
    block["trace_sample_rate"] = json!(0.999999);
    let listed = json!({"endpoint": "/l", "input_headers": ["traceparent"], "backend": [{"url_pattern": "/x/l"}]});
    let rig = Rig::of(block, json!([a(), listed]));
    let unsampled = CLIENTS.replace("-01", "-00");
    for path in ["/a", "/l"] {
        assert_eq!(rig.get(path, &[("traceparent", &unsampled)]), 200);
        let seen = rig.one_seen();
        assert_eq!(seen.headers["traceparent"].len(), 1);
        let sent = seen.header("traceparent").unwrap();
        assert!(sent.starts_with(&format!("00-{CLIENTS_TRACE}-")), "{sent}");
        assert!(
            sent.ends_with("-00") && !sent.contains(CLIENTS_SPAN),
            "{sent}"
        );
    }
    assert_eq!(rig.get("/a", &[("traceparent", CLIENTS)]), 200);
    assert_eq!(rig.collector.wait_for_spans(5).len(), 5);
}

/// T6. Unlike KrakenD, a rate of 0 records nothing.
#[test]
fn a_client_is_not_listened_to_where_the_file_says_so() {
    let mut block = grpc();
    block["layers"] = json!({"global": {"disable_propagation": true}});
    let rig = Rig::of(block, json!([a()]));
    assert_eq!(rig.get("/a", &[("traceparent", CLIENTS)]), 200);
    let spans = rig.collector.wait_for_spans(5);
    assert!(spans.iter().all(|span| span.trace != CLIENTS_TRACE));
    let sent = rig.one_seen().header("traceparent").unwrap().to_owned();
    assert!(sent.contains(&spans[0].trace), "{sent}");

    let mut block = both();
    block["trace_sample_rate"] = json!(0);
    let rig = Rig::of(block, json!([a()]));
    assert_eq!(rig.get("/a", &[]), 200);
    rig.page_when("the request", |page| page.has("http_server_duration_count"));
    assert!(
        rig.one_seen()
            .header("traceparent")
            .unwrap()
            .ends_with("-00")
    );
    assert!(rig.collector.spans().is_empty());
}

/// T16.
#[test]
fn b3_is_spoken_where_the_environment_says_so() {
    let rig = Rig::with(
        &[("OTEL_PROPAGATORS", "b3")],
        grpc(),
        json!({}),
        json!([a()]),
    );
    let b3 = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";
    assert_eq!(rig.get("/a", &[("b3", b3), ("traceparent", CLIENTS)]), 200);
    let seen = rig.one_seen();
    let sent = seen.header("b3").unwrap();
    let parts: Vec<&str> = sent.split('-').collect();
    assert_eq!(
        (parts[0], parts[2]),
        ("80f198ee56343ba864fe8b2a57d3eff7", "1")
    );
    assert_ne!(parts[1], "e457b5a2e4d86bd1");
    assert_eq!(seen.header("traceparent"), None);
}
