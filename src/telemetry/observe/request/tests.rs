use super::*;
use http::HeaderName;

use crate::telemetry::observe::Settings;

#[test]
fn a_rate_selects_the_same_traces_everywhere() {
    let traces: Vec<TraceId> = (0..4000).map(|_| TraceId::random()).collect();
    let chosen = traces
        .iter()
        .filter(|trace| is_chosen(**trace, 0.25))
        .count();
    assert!((850..1150).contains(&chosen), "{chosen}");
    assert!(traces.iter().all(|trace| is_chosen(*trace, 1.0)));
    assert!(!traces.iter().any(|trace| is_chosen(*trace, 0.0)));
}

#[test]
fn an_authority_is_split_into_name_and_port() {
    assert_eq!(split_host("a:80"), ("a", Some(80)));
    assert_eq!(split_host("a"), ("a", None));
    assert_eq!(split_host("[::1]"), ("[::1]", None));
    assert_eq!(split_host("[::1]:80"), ("[::1]", Some(80)));
}

#[test]
fn secrets_do_not_become_attributes() {
    let mut headers = HeaderMap::new();
    for name in [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "api-key",
        "x-auth-token",
        "x-csrf-token",
        "x-forwarded-authorization",
        "x-original-cookie",
        "x-auth",
        "x-key",
    ] {
        headers.insert(name, HeaderValue::from_static("secret"));
    }
    headers.insert("x-left-out", HeaderValue::from_static("1"));
    headers.insert("x-shown", HeaderValue::from_static("1"));
    headers.insert("idempotency-key", HeaderValue::from_static("1"));
    let skip = [HeaderName::from_static("x-left-out")];
    let shown = format!("{:?}", header_attributes("request", &headers, &skip));
    assert!(!shown.contains("secret") && !shown.contains("x-left-out"));
    for name in ["x-shown", "idempotency-key"] {
        let field = format!("(\"http.request.header.{name}\", Texts([\"1\"]))");
        assert!(shown.contains(&field), "{shown}");
    }
}

fn observer(settings: Settings) -> Arc<Observer> {
    Arc::new(Observer::new(settings, None, Box::default(), None))
}

/// Whether a request with these headers is sampled.
fn is_sampled(settings: &Settings, fields: &[(&'static str, &str)]) -> bool {
    let settings = Settings {
        reads: true,
        keeps_decision: true,
        ..settings.clone()
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    let start = RequestStart {
        is_logged: false,
        path: "/",
        headers: &headers,
        by_trusted_proxy: false,
        at: Instant::now(),
    };
    Request::begin(&observer(settings), &start).sampled
}

#[test]
fn a_sampler_follows_the_parent_or_does_not() {
    let parent =
        |flag: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flag}");
    for (rate, ignores_parents, sampled) in [
        (1.0, false, [true, true, false]),
        (0.0, false, [false, true, false]),
        (1.0, true, [true, true, true]),
        (0.0, true, [false, false, false]),
    ] {
        let settings = Settings {
            rate,
            ignores_parents,
            ..Settings::default()
        };
        let found = [
            is_sampled(&settings, &[]),
            is_sampled(&settings, &[("traceparent", &parent("01"))]),
            is_sampled(&settings, &[("traceparent", &parent("00"))]),
        ];
        assert_eq!(found, sampled, "{rate} {ignores_parents}");
    }
}

#[test]
fn without_a_decision_in_b3_the_rate_decides() {
    let ids = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1";
    for (rate, value, sampled) in [
        (1.0, ids, true),
        (0.0, ids, false),
        (1.0, "0", false),
        (0.0, "1", true),
        (0.0, "d", true),
    ] {
        let settings = Settings {
            rate,
            formats: context::Formats::parse(["b3"].into_iter()).unwrap(),
            ..Settings::default()
        };
        assert_eq!(
            is_sampled(&settings, &[("b3", value)]),
            sampled,
            "{rate} {value}"
        );
        let untrusted = Settings {
            trust: Trust::Never,
            ..settings
        };
        assert_eq!(is_sampled(&untrusted, &[("b3", value)]), rate > 0.0);
    }
}
