use super::*;
use http::HeaderName;

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
