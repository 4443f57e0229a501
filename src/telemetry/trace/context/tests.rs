use super::*;

const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn read(fields: &[(&'static str, &str)]) -> Option<Parent> {
    parent(fields, Formats::default())
}

fn parent(fields: &[(&'static str, &str)], formats: Formats) -> Option<Parent> {
    match ClientContext::read(&headers(fields), formats)? {
        ClientContext::Parent(parent) => Some(parent),
        ClientContext::Decision { .. } => None,
    }
}

fn written(out: &Outbound<'_>) -> Vec<(String, Option<String>)> {
    let mut all = Vec::new();
    out.each(|name, titled, value| {
        assert!(out.replaces(&name) && name.as_str().eq_ignore_ascii_case(titled));
        let value = value.map(|value| String::from_utf8(value.to_vec()).unwrap());
        all.push((titled.to_owned(), value));
    });
    all
}

#[test]
fn a_traceparent_is_read_and_written_back() {
    let parent = read(&[("traceparent", GOOD), ("tracestate", "a=1,b=2")]).unwrap();
    assert_eq!(parent.sampled, Some(true));
    assert_eq!(parent.state.as_ref().unwrap(), "a=1,b=2");
    let out = Outbound {
        formats: Formats::default(),
        trace: parent.trace,
        span: parent.span,
        sampled: true,
        debug: false,
        random: parent.random,
        state: parent.state.as_ref(),
        baggage: None,
    };
    let field = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let w3c = [field("Traceparent", GOOD), field("Tracestate", "a=1,b=2")];
    assert_eq!(written(&out), w3c);
    let all = Outbound {
        formats: Formats {
            trace_context: true,
            b3: true,
            b3_multi: true,
            jaeger: true,
            baggage: true,
        },
        ..out
    };
    assert_eq!(written(&all).len(), 9);
    let others = ["baggage", "host", "x-b3"].map(HeaderName::from_static);
    assert!(!others.iter().any(|name| all.replaces(name)));
}

#[test]
fn malformed_headers_are_ignored() {
    for bad in [
        "garbage",
        "",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        "00-0af7651916cd43dd8448eb211c80319c+b7ad6b7169203331-01",
    ] {
        assert_eq!(
            read(&[("traceparent", bad), ("tracestate", "a=1")]),
            None,
            "{bad}"
        );
    }
    assert_eq!(read(&[("traceparent", GOOD), ("traceparent", GOOD)]), None);
    assert_eq!(read(&[("tracestate", "a=1")]), None);
}

#[test]
fn a_higher_version_is_read_by_position() {
    let more = GOOD.replacen("00", "01", 1) + "-what-the-future-brings";
    assert_eq!(read(&[("traceparent", &more)]).unwrap().sampled, Some(true));
    let glued = GOOD.replacen("00", "01", 1) + "x";
    assert_eq!(read(&[("traceparent", &glued)]), None);
}

#[test]
fn the_lines_of_a_tracestate_are_joined_and_limited() {
    let many: Vec<String> = (0..40).map(|n| format!("k{n}=1")).collect();
    let parent = read(&[("traceparent", GOOD), ("tracestate", &many.join(","))]).unwrap();
    let kept = parent.state.unwrap();
    assert_eq!(kept.to_str().unwrap().split(',').count(), w3c::MAX_MEMBERS);
    let two = [
        ("traceparent", GOOD),
        ("tracestate", "a=1, b=2"),
        ("tracestate", "c=3"),
    ];
    assert_eq!(read(&two).unwrap().state.unwrap(), "a=1,b=2,c=3");
    let long = "x".repeat(w3c::MAX_STATE_BYTES);
    let two = [
        ("traceparent", GOOD),
        ("tracestate", "a=1"),
        ("tracestate", &long),
    ];
    assert_eq!(read(&two).unwrap().state.unwrap(), "a=1");
}

const B3_IDS: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1";

fn both() -> Formats {
    Formats::parse(["b3", "b3multi"].into_iter()).unwrap()
}

#[test]
fn b3_is_read_in_both_forms() {
    let single = parent(&[("b3", &format!("{B3_IDS}-1"))], both()).unwrap();
    let several = [
        ("x-b3-traceid", "80F198EE56343BA864FE8B2A57D3EFF7"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
        ("x-b3-sampled", "1"),
    ];
    assert_eq!(parent(&several, both()).unwrap(), single);
    let short = [("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1-0")];
    let short = parent(&short, both()).unwrap();
    assert_eq!(short.trace.to_string(), "000000000000000064fe8b2a57d3eff7");
    assert_eq!(short.sampled, Some(false));
    assert_eq!(Formats::parse(["xray"].into_iter()), Err("xray"));
}

#[test]
fn each_propagator_of_b3_reads_both_forms_and_keeps_debug() {
    let ids = [
        ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
    ];
    for name in ["b3", "b3multi"] {
        let formats = Formats::parse([name].into_iter()).unwrap();
        let denied = [&ids[..], &[("x-b3-sampled", "0")]].concat();
        for fields in [&denied[..], &[("b3", &format!("{B3_IDS}-0"))]] {
            let parent = parent(fields, formats).unwrap();
            assert_eq!(
                (parent.sampled, parent.debug),
                (Some(false), false),
                "{name}"
            );
        }
        let flagged = [&ids[..], &[("x-b3-flags", "1")]].concat();
        for fields in [&flagged[..], &[("b3", &format!("{B3_IDS}-d"))]] {
            let parent = parent(fields, formats).unwrap();
            assert_eq!((parent.sampled, parent.debug), (Some(true), true), "{name}");
            let sent = written(&Outbound {
                formats,
                trace: parent.trace,
                span: parent.span,
                sampled: true,
                debug: parent.debug,
                random: false,
                state: None,
                baggage: None,
            });
            let sent = |name: &str| {
                let found = sent.iter().find(|(known, _)| known == name);
                found.and_then(|(_, value)| value.clone())
            };
            if name == "b3" {
                assert_eq!(sent("B3").unwrap(), format!("{B3_IDS}-d"));
            } else {
                assert_eq!(sent("X-B3-Flags").unwrap(), "1");
                assert_eq!(sent("X-B3-Sampled"), None);
            }
        }
    }
    let both_forms = [&ids[..], &[("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1-1")]].concat();
    let first = parent(&both_forms, both()).unwrap();
    assert_eq!(first.trace.to_string(), "000000000000000064fe8b2a57d3eff7");
}

#[test]
fn a_b3_context_may_leave_the_decision_to_the_receiver() {
    let ids = [
        ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
    ];
    for fields in [&[("b3", B3_IDS)][..], &ids] {
        assert_eq!(parent(fields, both()).unwrap().sampled, None, "{fields:?}");
    }
    let denied = [&ids[..], &[("x-b3-sampled", "false")]].concat();
    assert_eq!(parent(&denied, both()).unwrap().sampled, Some(false));
    let debug = [&ids[..], &[("x-b3-flags", "1"), ("x-b3-sampled", "0")]].concat();
    assert_eq!(parent(&debug, both()).unwrap().sampled, Some(true));
}

#[test]
fn b3_may_be_a_decision_without_ids() {
    let told = |name, value| ClientContext::read(&headers(&[(name, value)]), both());
    let decided = |sampled, debug| Some(ClientContext::Decision { sampled, debug });
    for (name, value, decision) in [
        ("b3", "0", decided(false, false)),
        ("b3", "1", decided(true, false)),
        ("b3", "d", decided(true, true)),
        ("b3", "x", None),
        ("b3", "", None),
        ("x-b3-sampled", "0", decided(false, false)),
        ("x-b3-flags", "1", decided(true, true)),
        ("x-b3-flags", "0", None),
    ] {
        assert_eq!(told(name, value), decision, "{name}: {value}");
    }
    let with_ids = headers(&[("b3", "0"), ("traceparent", GOOD)]);
    let formats = Formats {
        trace_context: true,
        ..both()
    };
    assert!(matches!(
        ClientContext::read(&with_ids, formats),
        Some(ClientContext::Parent(_))
    ));
}

#[test]
fn jaegers_header_is_read() {
    let formats = Formats::parse(["jaeger"].into_iter()).unwrap();
    let read = |value| parent(&[("uber-trace-id", value)], formats);
    let long = read("0af7651916cd43dd8448eb211c80319c:b7ad6b7169203331:0:1").unwrap();
    assert_eq!(long.sampled, Some(true));
    assert_eq!(long.span.to_string(), "b7ad6b7169203331");
    let short = read("AF7%3A1b%3A0%3A0").unwrap();
    assert_eq!(short.trace.to_string(), format!("{:0>32}", "af7"));
    assert_eq!(short.sampled, Some(false));
    assert_eq!(read("1:1:0:2").unwrap().sampled, Some(true));
    for bad in [
        "",
        "1",
        "1:1:0",
        "0:1:0:1",
        "1:0:0:1",
        "1:1:0:x",
        "x:1:0:1",
        "1:1:0:1:1",
    ] {
        assert_eq!(read(bad), None, "{bad}");
    }
    let longer = format!("{}:1:0:1", "1".repeat(33));
    assert_eq!(read(&longer), None);
}
