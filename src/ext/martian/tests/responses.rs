use super::*;

#[test]
fn headers_of_a_response_are_changed() {
    let came = [("x-a", "1"), ("content-length", "4")];
    for (block, name, expected) in [
        (
            r#"{"header.Modifier": {"name": "X-A", "value": "new"}}"#,
            "x-a",
            vec!["new"],
        ),
        (
            r#"{"header.Append": {"name": "X-A", "value": "2"}}"#,
            "x-a",
            vec!["1", "2"],
        ),
        (
            r#"{"header.Copy": {"from": "X-A", "to": "X-B"}}"#,
            "x-b",
            vec!["1"],
        ),
        (r#"{"header.Blacklist": {"names": ["X-A"]}}"#, "x-a", vec![]),
        // The length is set by the upstream; the gateway may only omit it.
        (
            r#"{"header.Modifier": {"name": "Content-Length", "value": "9"}}"#,
            "content-length",
            vec!["4"],
        ),
        (
            r#"{"header.Append": {"name": "Content-Length", "value": "9"}}"#,
            "content-length",
            vec!["4"],
        ),
        (
            r#"{"header.Copy": {"from": "X-A", "to": "Content-Length"}}"#,
            "content-length",
            vec!["4"],
        ),
        (
            r#"{"header.Modifier": {"name": "Transfer-Encoding", "value": "identity"}}"#,
            "content-length",
            vec!["4"],
        ),
        (
            r#"{"header.Modifier": {"name": "Transfer-Encoding", "value": "chunked"}}"#,
            "content-length",
            vec![],
        ),
        (
            r#"{"header.Blacklist": {"names": ["Content-Length"]}}"#,
            "content-length",
            vec![],
        ),
    ] {
        let reply = answered(block, &request(&[]), reply(&came));
        assert_eq!(values(&reply.headers, name), expected, "{block}");
        assert!(reply.body.is_none() && reply.headers.get("transfer-encoding").is_none());
    }
}

#[test]
fn a_cookie_and_a_status_are_set() {
    let block = r#"{"fifo.Group": {"modifiers": [
        {"cookie.Modifier": {"name": "c", "value": "3", "path": "/p", "expires": "2030-01-02T05:04:05+02:00", "maxAge": 60,
            "secure": true, "httpOnly": true, "domain": "example.com"}},
        {"cookie.Modifier": {"name": "d", "expires": "0001-01-01T00:00:00Z"}},
        {"status.Modifier": {"statusCode": 418}}]}}"#;
    let reply = answered(block, &request(&[]), reply(&[("set-cookie", "a=1")]));
    assert_eq!(reply.status.as_u16(), 418);
    assert_eq!(
        values(&reply.headers, "set-cookie"),
        [
            "a=1",
            "c=3; Path=/p; Domain=example.com; Expires=Wed, 02 Jan 2030 03:04:05 GMT; Max-Age=60; HttpOnly; Secure",
            "d="
        ]
    );
}

#[test]
fn some_filters_check_the_response_and_others_its_request() {
    let sent = request(&[("x-a", "request"), ("cookie", "s=1")]);
    for (filter, expected) in [
        (
            r#""header.Filter": {"name": "X-A", "value": "answer","#,
            "yes",
        ),
        (
            r#""header.Filter": {"name": "X-A", "value": "request","#,
            "no",
        ),
        (r#""cookie.Filter": {"name": "t", "value": "2","#, "yes"),
        (r#""cookie.Filter": {"name": "s","#, "no"),
        (r#""querystring.Filter": {"name": "a","#, "yes"),
        (r#""url.RegexFilter": {"regex": "u%20v","#, "yes"),
    ] {
        let block = format!(
            r#"{{{filter} "modifier": {}, "else": {}}}}}"#,
            mark("yes"),
            mark("no")
        );
        let came = reply(&[("x-a", "answer"), ("set-cookie", "t=2; Path=/")]);
        let reply = answered(&block, &sent, came);
        assert_eq!(values(&reply.headers, "x-mark"), [expected], "{block}");
    }
    let block = format!(
        r#"{{"header.RegexFilter": {{"header": "X-A", "regex": "request", "modifier": {}}}}}"#,
        mark("yes")
    );
    let reply = answered(&block, &sent, reply(&[]));
    assert_eq!(values(&reply.headers, "x-mark"), ["yes"]);
}

#[test]
fn a_scope_is_limited_by_outer_scopes() {
    let group = |outer: &str, inner: &str| {
        let block = format!(
            r#"{{"fifo.Group": {{{outer} "modifiers": [
                {{"header.Modifier": {{{inner} "name": "X-Mark", "value": "1"}}}}]}}}}"#
        );
        let step = step(&block);
        let mut request = request(&[]);
        step.request(&mut request).unwrap();
        let mut reply = reply(&[]);
        step.response(&request, &mut reply).unwrap();
        let marked = reply.headers.contains_key("x-mark");
        assert_eq!(step.sees_responses(), marked, "{block}");
        (request.headers.contains_key("x-mark"), marked)
    };
    let (asks, tells) = (r#""scope": ["request"],"#, r#""scope": ["response"],"#);
    assert_eq!(group("", ""), (true, true));
    assert_eq!(group("", asks), (true, false));
    assert_eq!(group(tells, ""), (false, true));
    assert_eq!(group(tells, asks), (false, false));
    assert_eq!(group(r#""scope": [],"#, ""), (false, false));
}

#[test]
fn verifiers_have_no_effect() {
    for name in ["header", "url", "querystring", "status"] {
        let block = format!(
            r#"{{"{name}.Verifier": {{"scope": ["response"], "statusCode": 200, "odd": []}}}}"#
        );
        let step = step(&block);
        assert!(!step.sees_responses());
        assert!(matches!(
            step.request(&mut request(&[])),
            Ok(CallDecision::Send)
        ));
    }
}

const BODY: &str =
    r#"{"body.Modifier": {"contentType": "text/plain", "body": "MDEyMzQ1Njc4OQ=="}}"#;

#[test]
fn a_body_replaces_that_of_a_response() {
    let came = reply(&[
        ("content-encoding", "gzip"),
        ("content-type", "a/b"),
        ("content-length", "3"),
    ]);
    let reply = answered(BODY, &request(&[]), came);
    assert_eq!(reply.body.unwrap(), "0123456789");
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(values(&reply.headers, "content-type"), ["text/plain"]);
    assert_eq!(reply.headers.len(), 1);
}

#[test]
fn a_requested_part_of_a_body_is_sent() {
    for (range, status, body, part) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=-1", 206, "9", Some("bytes 9-9/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("bytes=0-1,3-4", 200, "0123456789", None),
        ("nonsense", 200, "0123456789", None),
    ] {
        for came in [200, 206, 416] {
            let mut theirs = reply(&[("content-range", "bytes 0-1/2")]);
            theirs.status = StatusCode::from_u16(came).unwrap();
            let reply = answered(BODY, &request(&[("range", range)]), theirs);
            assert_eq!(
                (reply.status.as_u16(), &*reply.body.unwrap()),
                (status, body.as_bytes())
            );
            assert_eq!(
                reply
                    .headers
                    .get("content-range")
                    .map(|v| v.to_str().unwrap()),
                part
            );
        }
    }
    let mut failed = reply(&[]);
    failed.status = StatusCode::BAD_GATEWAY;
    let reply = answered(BODY, &request(&[("range", "bytes=2-4")]), failed);
    assert_eq!(
        (reply.status.as_u16(), reply.body.unwrap().len()),
        (502, 10)
    );
}
