use super::*;
use crate::telemetry::timestamp;
use std::borrow::Cow;
use std::net::IpAddr;

const WHEN: Duration = Duration::from_millis(1_795_472_528_000);

fn event<'a>(path: &'a str, query: Option<&'a str>) -> AccessEvent<'a> {
    AccessEvent {
        since_1970: WHEN,
        latency: Duration::from_nanos(33_099),
        status: 429,
        client: IpAddr::from([127, 0, 0, 1]),
        method: "GET",
        path,
        query,
        endpoint: Some("/rl/{id}"),
        rejected: Some("rate_limited"),
        request_id: None,
        upstream: None,
        upstream_time: Some(Duration::from_micros(1500)),
        bytes_in: 0,
        bytes_out: 12,
        scheme: Some("http"),
        host: Some("h"),
        protocol: Some("HTTP/1.1"),
        user_agent: None,
        upstream_status: Some(200),
        grpc_status: None,
        trace: None,
        headers: None,
        claims: None,
        errors: &[],
    }
}

fn gin(event: &AccessEvent<'_>) -> String {
    let mut out = Vec::new();
    push_gin(event, Query::Keep, &mut out);
    String::from_utf8(out).unwrap()
}

fn date() -> String {
    timestamp::local(WHEN)
        .format("%Y/%m/%d - %H:%M:%S")
        .to_string()
}

#[test]
fn the_line_has_exactly_the_bytes_of_krakend() {
    assert_eq!(
        gin(&event("/rl/cl", None)),
        format!(
            "[GIN] {} | 429 | 33.099µs |       127.0.0.1 | GET      \"/rl/cl\"\n",
            date()
        )
    );
}

#[test]
fn columns_grow_if_necessary() {
    let line = gin(&AccessEvent {
        latency: Duration::from_nanos(1_378_999),
        client: "2001:db8::1:2:3:4".parse().unwrap(),
        method: "PROPFIND",
        ..event("/a", None)
    });
    let expected = " | 429 |   1.37ms | 2001:db8::1:2:3:4 | PROPFIND  \"/a\"\n";
    assert!(line.ends_with(expected), "{line}");
}

#[test]
fn the_path_is_decoded_and_tokens_are_not_shown() {
    let line = gin(&event("/a%20%22b%0A", Some("x=%20&access_token=secret")));
    let expected = r#"GET      "/a \"b\n?x=%20&access_token=***""#;
    assert!(line.trim_end().ends_with(expected), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn long_texts_are_cut() {
    let path = format!("/{}", "a".repeat(1_000_000));
    let query = format!("token={}", "s".repeat(1_000_000));
    let errors = [Cow::Owned("e".repeat(5_000_000))];
    let event = AccessEvent {
        user_agent: Some(Cow::Borrowed(&path)),
        errors: &errors,
        ..event(&path, Some(&query))
    };
    assert!(event.is_long());
    let shown = |format: AccessFormat| {
        let settings = Settings {
            format,
            ..Settings::default()
        };
        let mut line = Vec::new();
        event.with_cut_texts(|event| match &settings.format {
            AccessFormat::Json => push_object(event, &settings, &mut line),
            _ => push_gin(event, Query::Keep, &mut line),
        });
        String::from_utf8(line).unwrap()
    };
    let gin = shown(AccessFormat::Gin);
    assert!(gin.contains("a… (991809 bytes more)?token=***"));
    assert!(gin.ends_with("e… (4983616 bytes more)\n"));
    let json = shown(AccessFormat::Json);
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    for line in gin.lines().chain(json.lines()) {
        assert!(line.len() < 50_000, "{}", line.len());
    }
}

#[test]
fn errors_follow_on_separate_lines() {
    let errors = [
        "Token not found".into(),
        "second\nline".into(),
        "script: /a?key=SECRET".into(),
    ];
    let line = gin(&AccessEvent {
        errors: &errors,
        ..event("/a", None)
    });
    let lines: Vec<&str> = line.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "Error #01: Token not found",
            "Error #02: second\\nline",
            "Error #03: script: /a?key=***"
        ]
    );
}

#[test]
fn a_json_line_is_valid_json_for_any_client_input() {
    let errors = ["\"quoted\"".into()];
    let event = AccessEvent {
        method: "G\"ET",
        user_agent: Some("bot (+http://bot.example/?access_token=secret)".into()),
        errors: &errors,
        ..event("/a%20b", Some("token=x&b=\"\u{1b}"))
    };
    let mut out = Vec::new();
    push_object(&event, &Settings::default(), &mut out);
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["method"], "G\"ET");
    assert_eq!(json["query"], "token=***&b=\"\u{1b}");
    assert_eq!(
        json["user_agent"],
        "bot (+http://bot.example/?access_token=***)"
    );
    assert_eq!(json["status"], 429);
    assert_eq!(json["upstream_ms"], 1.5);
    assert_eq!(json["errors"][0], "\"quoted\"");
    assert!(json.get("request_id").is_none());
    let mut out = Vec::new();
    let settings = Settings {
        query: Query::Drop,
        fields: ["status", "query", "claim"].into(),
        claim: Some("sub".into()),
        ..Settings::default()
    };
    push_object(&event, &settings, &mut out);
    assert_eq!(out, b"{\"status\":429}\n");
    assert!(!String::from_utf8(out).unwrap().contains("query"));
}

#[test]
fn a_sample_is_even_and_contains_all_failures() {
    let settings = Settings {
        sample: 0.25,
        ..Settings::default()
    };
    let log = AccessLog::over(settings, Output::Writer(Box::new(io::sink()))).unwrap();
    let ok = event("/a", None);
    assert_eq!((0..100).filter(|_| log.is_sampled(&ok)).count(), 25);
    let failed = AccessEvent { status: 502, ..ok };
    assert!((0..10).all(|_| log.is_sampled(&failed)));
}
