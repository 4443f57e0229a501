//! The context of clients, and what backends are told.

use serde_json::json;

use super::{CLIENT, CLIENTS, CLIENTS_SPAN, CLIENTS_TRACE, Rig, SERVER, a, both, find, grpc};
use crate::support::Client;
use crate::support::http::request;

/// T4. Unlike in KrakenD, an unsampled parent is respected, and `baggage` is not passed on by default.
#[test]
fn the_context_of_a_client_is_forwarded_to_backends() {
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
fn baggage_is_forwarded_if_the_file_enables_it() {
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
fn the_trace_of_a_client_is_ignored_if_the_file_says_so() {
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
fn b3_is_sent_if_the_environment_enables_it() {
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

#[test]
fn b3_without_a_state_is_decided_here() {
    let ids = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1";
    let run = |block: serde_json::Value, value: &str| {
        let rig = Rig::with(
            &[("OTEL_PROPAGATORS", "b3")],
            block,
            json!({}),
            json!([a()]),
        );
        assert_eq!(rig.get("/a", &[("b3", value)]), 200);
        let sent = rig.one_seen().header("b3").unwrap().to_owned();
        let sampled = sent.rsplit('-').next().unwrap().to_owned();
        let spans = if sampled == "1" { 5 } else { 0 };
        assert_eq!(rig.collector.wait_for_spans(spans).len(), spans);
        (sent.starts_with("80f198ee56343ba8"), sampled)
    };
    let mut none = grpc();
    none["trace_sample_rate"] = json!(0);
    assert_eq!(run(grpc(), ids), (true, "1".to_owned()));
    assert_eq!(run(none, ids), (true, "0".to_owned()));
    assert_eq!(run(grpc(), "0"), (false, "0".to_owned()));
}

/// Only the samplers that are called so are based on the parent.
#[test]
fn a_sampler_of_the_environment_decides_as_its_name_says() {
    let unsampled = CLIENTS.replace("-01", "-00");
    for (sampler, argument, flags) in [
        ("always_on", "", ["01", "01", "01"]),
        ("always_off", "", ["00", "00", "00"]),
        ("traceidratio", "0", ["00", "00", "00"]),
        ("traceidratio", "1", ["01", "01", "01"]),
        ("parentbased_always_on", "", ["01", "01", "00"]),
        ("parentbased_always_off", "", ["00", "01", "00"]),
        ("parentbased_traceidratio", "0", ["00", "01", "00"]),
    ] {
        let variables = [
            ("OTEL_TRACES_SAMPLER", sampler),
            ("OTEL_TRACES_SAMPLER_ARG", argument),
        ];
        let rig = Rig::with(&variables, grpc(), json!({}), json!([a()]));
        let sent = [None, Some(CLIENTS), Some(&*unsampled)].map(|parent| {
            let headers: Vec<(&str, &str)> = parent.iter().map(|it| ("traceparent", *it)).collect();
            assert_eq!(rig.get("/a", &headers), 200);
            let sent = rig.one_seen().header("traceparent").unwrap().to_owned();
            assert!(parent.is_none() || sent.contains(CLIENTS_TRACE), "{sent}");
            sent.rsplit('-').next().unwrap().to_owned()
        });
        assert_eq!(sent, flags, "{sampler} {argument}");
        let recorded = flags.iter().filter(|flag| **flag == "01").count();
        assert_eq!(
            rig.collector.wait_for_spans(5 * recorded).len(),
            5 * recorded
        );
    }
}

/// A variable that cannot be used is named in one line, without its value, and the default applies.
#[test]
fn unusable_variables_are_reported() {
    for (variables, reason) in [
        (
            &[("OTEL_TRACES_SAMPLER", "bogus-1")][..],
            "OTEL_TRACES_SAMPLER names an unknown sampler",
        ),
        (
            &[
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "bogus-1"),
            ],
            "OTEL_TRACES_SAMPLER_ARG is not a number",
        ),
        (
            &[("OTEL_PROPAGATORS", "b3,bogus-1")],
            "OTEL_PROPAGATORS contains a name",
        ),
        (
            &[("OTEL_PROPAGATORS", "bogus-1")],
            "OTEL_PROPAGATORS contains a name",
        ),
    ] {
        let rig = Rig::with(variables, grpc(), json!({}), json!([a()]));
        assert_eq!(rig.get("/a", &[]), 200);
        let sent = rig.one_seen().header("traceparent").unwrap().to_owned();
        assert!(sent.ends_with("-01"), "{sent}");
        rig.gateway.tells(reason);
        let output = rig.gateway.output();
        assert_eq!(output.matches(reason).count(), 1, "{output}");
        assert!(!output.contains("bogus-1"), "{output}");
    }
}

/// A variable of the specification is honoured, or the log says that it is not.
#[test]
fn variables_without_effect_and_bad_values_are_reported() {
    let numbers = [
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    ];
    let others = [
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "bogus-1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "bogus-1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "bogus-1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "/bogus-1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=bogus-1"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "1"),
    ];
    let bad: Vec<(&str, &str)> = numbers
        .into_iter()
        .map(|name| (name, "bogus-1"))
        .chain(others)
        .collect();
    let rig = Rig::with(&bad, grpc(), json!({}), json!([a()]));
    assert_eq!(rig.get("/a", &[]), 200);
    for (name, _) in &bad {
        rig.gateway.tells(&format!("{name} "));
    }
    let output = rig.gateway.output();
    for (name, _) in &bad {
        let told = output
            .lines()
            .filter(|line| line.contains(&format!("{name} ")));
        assert_eq!(told.count(), 1, "{name}: {output}");
    }
    assert!(!output.contains("bogus-1"), "{output}");
    let good = [
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "0"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "cumulative",
        ),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based"),
        ("OTEL_TRACES_EXPORTER", "otlp"),
    ];
    let rig = Rig::with(&good, grpc(), json!({}), json!([a()]));
    assert!(!rig.gateway.output().contains("OTEL_"));
}

#[test]
fn exemplars_can_be_switched_off() {
    for (filter, parent, expected) in [
        ("trace_based", "-01", true),
        ("trace_based", "-00", false),
        ("always_on", "-00", true),
        ("always_off", "-01", false),
    ] {
        let variables = [("OTEL_METRICS_EXEMPLAR_FILTER", filter)];
        let rig = Rig::with(&variables, both(), json!({}), json!([a()]));
        let parent = CLIENTS.replace("-01", parent);
        assert_eq!(rig.get("/a", &[("traceparent", &parent)]), 200);
        rig.page_when("the request", |page| page.has("http_server_duration_count"));
        let mut client = Client::connect(rig.page).unwrap();
        let accept = [("Accept", "application/openmetrics-text; version=1.0.0")];
        client.send(request("GET", "/metrics", &accept)).unwrap();
        let page = client.response("GET").unwrap().text();
        assert_eq!(page.contains("# {trace_id="), expected, "{filter} {parent}");
    }
}

/// OpenTelemetry requires both: the other form of B3 is read, and the debug flag is forwarded.
#[test]
fn both_forms_of_b3_are_read_and_debug_is_forwarded() {
    let ids = [
        ("x-b3-traceid", CLIENTS_TRACE),
        ("x-b3-spanid", CLIENTS_SPAN),
    ];
    let mut block = grpc();
    block["propagators"] = json!(["b3"]);
    let rig = Rig::of(block.clone(), json!([a()]));
    assert_eq!(rig.get("/a", &[ids[0], ids[1], ("x-b3-flags", "1")]), 200);
    let sent = rig.one_seen().header("b3").unwrap().to_owned();
    assert!(
        sent.starts_with(CLIENTS_TRACE) && sent.ends_with("-d"),
        "{sent}"
    );
    assert_eq!(rig.get("/a", &[ids[0], ids[1], ("x-b3-sampled", "0")]), 200);
    let sent = rig.one_seen().header("b3").unwrap().to_owned();
    assert!(
        sent.starts_with(CLIENTS_TRACE) && sent.ends_with("-0"),
        "{sent}"
    );
    block["propagators"] = json!(["b3multi"]);
    let rig = Rig::of(block, json!([a()]));
    let single = format!("{CLIENTS_TRACE}-{CLIENTS_SPAN}-d");
    assert_eq!(rig.get("/a", &[("b3", &single)]), 200);
    let seen = rig.one_seen();
    assert_eq!(seen.header("x-b3-traceid"), Some(CLIENTS_TRACE));
    assert_eq!(seen.header("x-b3-flags"), Some("1"));
    assert_eq!(seen.header("x-b3-sampled"), None);
}

#[test]
fn jaegers_header_is_sent_if_the_file_enables_it() {
    let mut block = grpc();
    block["propagators"] = json!(["jaeger"]);
    let rig = Rig::of(block, json!([a()]));
    let client = format!("{CLIENTS_TRACE}:{CLIENTS_SPAN}:0:1");
    assert_eq!(rig.get("/a", &[("uber-trace-id", &client)]), 200);
    let spans = rig.collector.wait_for_spans(5);
    let trip = find(&spans, "/x/a", CLIENT);
    let seen = rig.one_seen();
    let sent = format!("{CLIENTS_TRACE}:{}:0:1", trip.id);
    assert_eq!(seen.header("uber-trace-id"), Some(&*sent));
    assert_eq!(seen.header("traceparent"), None);
}
