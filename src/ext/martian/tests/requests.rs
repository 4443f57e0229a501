use super::*;

#[test]
fn headers_are_set_added_copied_and_removed() {
    let sent = [("x-a", "1"), ("x-b", "2")];
    for (block, name, expected) in [
        (
            r#"{"header.Modifier": {"name": "x-A", "value": "new"}}"#,
            "x-a",
            vec!["new"],
        ),
        (
            r#"{"header.Modifier": {"name": "X-New"}}"#,
            "x-new",
            vec![""],
        ),
        (
            r#"{"header.Append": {"name": "X-A", "value": "more"}}"#,
            "x-a",
            vec!["1", "more"],
        ),
        (
            r#"{"header.Copy": {"from": "X-A", "to": "X-B"}}"#,
            "x-b",
            vec!["1"],
        ),
        (
            r#"{"header.Copy": {"from": "X-None", "to": "X-B"}}"#,
            "x-b",
            vec![""],
        ),
        (
            r#"{"header.Copy": {"from": "Host", "to": "X-B"}}"#,
            "x-b",
            vec!["h:81"],
        ),
        (
            r#"{"header.Blacklist": {"names": ["X-A", "X-None"]}}"#,
            "x-a",
            vec![],
        ),
        (r#"{"header.Blacklist": {"names": ["X.A"]}}"#, "x-a", vec![]),
        (r#"{"header.Blacklist": {}}"#, "x-a", vec!["1"]),
    ] {
        let request = changed(block, &sent);
        assert_eq!(values(&request.headers, name), expected, "{block}");
    }
}

#[test]
fn an_id_is_given_once() {
    let block = r#"{"header.Id": {}}"#;
    let ids: Vec<String> = (0..2)
        .map(|_| {
            let request = changed(block, &[]);
            values(&request.headers, "x-krakend-id")[0].to_owned()
        })
        .collect();
    assert!(ids[0] != ids[1] && ids[0].len() == 36 && ids[0].as_bytes()[14] == b'4');
    let request = changed(block, &[("x-krakend-id", "mine")]);
    assert_eq!(values(&request.headers, "x-krakend-id"), ["mine"]);
    let request = changed(r#"{"header.Id": {"header": "X-Trace"}}"#, &[]);
    assert_eq!(values(&request.headers, "x-trace").len(), 1);
}

#[test]
fn the_framing_of_a_message_depends_on_its_body() {
    let with_body = |block: &str, pairs: &[(&'static str, &str)]| {
        let mut request = request(pairs);
        request.body = Bytes::from_static(b"four");
        sent(block, &mut request).unwrap();
        request
    };
    let length = r#"{"header.Modifier": {"name": "Content-Length", "value": "99"}}"#;
    assert_eq!(
        values(&with_body(length, &[]).headers, "content-length"),
        ["4"]
    );
    assert!(changed(length, &[]).headers.get("content-length").is_none());
    let chunked = r#"{"header.Modifier": {"name": "Transfer-Encoding", "value": "chunked"}}"#;
    let request = with_body(chunked, &[("content-length", "4")]);
    assert!(request.headers.get("content-length").is_none());
    assert_eq!(values(&request.headers, "transfer-encoding"), ["chunked"]);
    // A value that the client chose is not used as the length either.
    let copy = r#"{"header.Copy": {"from": "X-L", "to": "Content-Length"}}"#;
    let request = with_body(copy, &[("x-l", "1"), ("content-length", "4")]);
    assert_eq!(values(&request.headers, "content-length"), ["4"]);
    let copy = r#"{"header.Copy": {"from": "Content-Length", "to": "X-L"}}"#;
    assert_eq!(values(&with_body(copy, &[]).headers, "x-l"), ["4"]);
}

#[test]
fn headers_of_a_connection_are_unchanged() {
    for name in [
        "Connection",
        "Keep-Alive",
        "Upgrade",
        "TE",
        "Trailer",
        "Proxy-Connection",
    ] {
        let block = format!(r#"{{"header.Modifier": {{"name": "{name}", "value": "x"}}}}"#);
        let request = changed(&block, &[]);
        assert!(request.headers.get(name).is_none(), "{name}");
        let reply = answered(&block, &request, reply(&[]));
        assert!(reply.headers.is_empty(), "{name}");
    }
    let block = r#"{"header.Blacklist": {"names": ["Connection"]}}"#;
    let reply = answered(block, &request(&[]), reply(&[("connection", "x-secret")]));
    assert_eq!(values(&reply.headers, "connection"), ["x-secret"]);
}

#[test]
fn a_host_must_be_valid() {
    let block = r#"{"header.Modifier": {"name": "Host", "value": "internal:8080"}}"#;
    assert_eq!(
        values(&changed(block, &[]).headers, "host"),
        ["internal:8080"]
    );
    let copy = r#"{"header.Copy": {"from": "X-Host", "to": "Host"}}"#;
    assert!(changed(copy, &[]).headers.get("host").is_none());
    for bad in ["a b", "a/b", "u@a", "a:b"] {
        let mut request = request(&[("x-host", bad)]);
        let failure = sent(copy, &mut request).unwrap_err();
        assert_eq!(failure.to_string(), "http: invalid Host header", "{bad}");
    }
}

#[test]
fn a_removed_user_agent_is_replaced_by_ours() {
    let block = r#"{"header.Blacklist": {"names": ["User-Agent"]}}"#;
    let request = changed(block, &[("user-agent", "client")]);
    assert!(values(&request.headers, "user-agent")[0].starts_with("Portcullis/"));
    let block = r#"{"header.Modifier": {"name": "User-Agent", "value": ""}}"#;
    let request = changed(block, &[("user-agent", "client")]);
    assert!(request.headers.get("user-agent").is_none());
}

#[test]
fn a_parameter_is_set_and_the_query_sorted() {
    let query = |block: &str, query: &str| {
        let mut request = request(&[]);
        request.query = (!query.is_empty()).then(|| query.into());
        sent(block, &mut request).unwrap();
        request.query.unwrap().to_string()
    };
    let block = r#"{"querystring.Modifier": {"name": "n", "value": "a b&ü"}}"#;
    assert_eq!(query(block, ""), "n=a+b%26%C3%BC");
    assert_eq!(query(block, "z=1&n=1&a=2&n=2"), "a=2&n=a+b%26%C3%BC&z=1");
    assert_eq!(query(block, "x=%zz&y;=1&q"), "n=a+b%26%C3%BC&q=");
}

#[test]
fn parts_of_a_url_are_replaced() {
    let url = |block: &str| {
        let request = changed(block, &[]);
        let host = values(&request.headers, "host").join(",");
        (request.url(), host)
    };
    let all = r#"{"url.Modifier": {"scheme": "https", "host": "other:8443", "path": "/a b/%", "query": "x=1 2"}}"#;
    assert_eq!(
        url(all),
        ("https://other:8443/a%20b/%25?x=1%202".into(), "h:81".into())
    );
    let path = r#"{"url.Modifier": {"path": "/p", "host": "", "scheme": ""}}"#;
    assert_eq!(url(path), ("http://h:81/p?b=2&a=1".into(), "".into()));
    let host = r#"{"url.Modifier": {"host": "other"}}"#;
    assert_eq!(
        url(host),
        ("http://other/u%20v?b=2&a=1".into(), "h:81".into())
    );
    let named = changed(host, &[("host", "mine")]);
    assert_eq!(values(&named.headers, "host"), ["mine"]);
    for (port, expected, host) in [
        (r#""port": 90"#, "http://h:90", "mine:90"),
        (r#""defaultForScheme": true"#, "http://h:80", "mine:80"),
        (r#""remove": true"#, "http://h", "mine"),
    ] {
        let request = changed(
            &format!(r#"{{"port.Modifier": {{{port}}}}}"#),
            &[("host", "mine:1")],
        );
        assert_eq!(request.origin.as_deref(), Some(expected));
        assert_eq!(values(&request.headers, "host"), [host]);
    }
}

#[test]
fn a_cookie_is_appended_to_those_of_the_client() {
    let block = r#"{"cookie.Modifier": {"name": "c", "value": "3", "path": "/p"}}"#;
    assert_eq!(values(&changed(block, &[]).headers, "cookie"), ["c=3"]);
    let request = changed(block, &[("cookie", "a=1"), ("cookie", "b=2")]);
    assert_eq!(values(&request.headers, "cookie"), ["a=1; b=2; c=3"]);
}

#[test]
fn a_body_replaces_the_clients_even_an_empty_one() {
    let block = r#"{"body.Modifier": {"contentType": "text/plain", "body": "aGVs\nbG8="}}"#;
    let mut request = request(&[("content-encoding", "gzip"), ("content-length", "9")]);
    assert!(sent(block, &mut request).unwrap());
    assert_eq!(request.body, "hello");
    assert_eq!(values(&request.headers, "content-type"), ["text/plain"]);
    assert_eq!(values(&request.headers, "content-length"), ["5"]);
    assert!(request.headers.get("content-encoding").is_none());
    assert!(sent(r#"{"body.Modifier": {}}"#, &mut request).unwrap());
    assert!(request.body.is_empty());
    assert!(request.headers.get("content-length").is_none());
    assert!(request.headers.get("content-type").is_none());
}

#[test]
fn the_url_is_stored_without_credentials() {
    let block = r#"{"stash.Modifier": {"headerName": "X-Url"}}"#;
    let mut request = request(&[]);
    request.origin = Some("http://user:secret@h:81".into());
    sent(block, &mut request).unwrap();
    assert_eq!(
        values(&request.headers, "x-url"),
        ["http://h:81/u%20v?b=2&a=1"]
    );
    let reply = answered(block, &request, reply(&[("x-url", "theirs")]));
    assert_eq!(
        values(&reply.headers, "x-url"),
        ["http://h:81/u%20v?b=2&a=1"]
    );
}

/// Whether the filter runs its modifier, for the request above with these headers.
fn holds(filter: &str, fields: &str, pairs: &[(&'static str, &str)]) -> bool {
    let (yes, no) = (mark("yes"), mark("no"));
    let block = format!(r#"{{"{filter}": {{{fields}, "modifier": {yes}, "else": {no}}}}}"#);
    let request = changed(&block, pairs);
    match values(&request.headers, "x-mark")[..] {
        ["yes"] => true,
        ["no"] => false,
        [] => panic!("{block} did nothing"),
        _ => unreachable!(),
    }
}

#[test]
fn filters_select_modifiers() {
    let sent = [
        ("x-a", "1"),
        ("x-a", "2"),
        ("cookie", "s=1; t=2"),
        ("host", "named"),
    ];
    for (filter, fields) in [
        ("header.Filter", r#""name": "X-A", "value": "2""#),
        ("header.Filter", r#""name": "Host", "value": "named""#),
        ("querystring.Filter", r#""name": "a", "value": "1""#),
        ("querystring.Filter", r#""name": "b""#),
        (
            "url.Filter",
            r#""scheme": "http", "host": "*", "path": "/u v", "query": "b=2&a=1""#,
        ),
        ("url.Filter", r#""host": "h:81""#),
        ("url.RegexFilter", r#""regex": "^http://h:81/u%20v\\?b=2""#),
        ("cookie.Filter", r#""name": "t""#),
        ("cookie.Filter", r#""name": "t", "value": "2""#),
    ] {
        assert!(holds(filter, fields, &sent), "{filter} {fields}");
    }
    for (filter, fields) in [
        ("header.Filter", r#""name": "X-A", "value": "3""#),
        ("header.Filter", r#""name": "X-A""#),
        ("querystring.Filter", r#""name": "a", "value": "2""#),
        ("querystring.Filter", r#""name": "c""#),
        ("url.Filter", r#""scheme": "https", "host": "*""#),
        ("url.Filter", r#""path": "/u%20v""#),
        ("url.RegexFilter", r#""regex": "^h:81""#),
        ("cookie.Filter", r#""name": "t", "value": "1""#),
    ] {
        assert!(!holds(filter, fields, &sent), "{filter} {fields}");
    }
}

#[test]
fn two_filters_have_no_else() {
    for (fields, expected) in [
        (r#""port.Filter": {"port": 81,"#, vec!["yes"]),
        (r#""port.Filter": {"port": 80,"#, vec![]),
        (
            r#""header.RegexFilter": {"header": "X-A", "regex": "b+","#,
            vec!["yes"],
        ),
        (
            r#""header.RegexFilter": {"header": "X-A", "regex": "^b+","#,
            vec![],
        ),
        (
            r#""header.RegexFilter": {"header": "X-Empty", "regex": "^$","#,
            vec![],
        ),
    ] {
        let block = format!(
            r#"{{{fields} "modifier": {}, "else": {}}}}}"#,
            mark("yes"),
            mark("no")
        );
        let request = changed(&block, &[("x-a", "abba"), ("x-a", "bb"), ("x-empty", "")]);
        assert_eq!(values(&request.headers, "x-mark"), expected, "{block}");
    }
}

#[test]
fn groups_run_in_order() {
    let append =
        |value: &str| format!(r#"{{"header.Append": {{"name": "X", "value": "{value}"}}}}"#);
    let list = ["1", "2", "3"].map(append).join(",");
    let request = changed(
        &format!(r#"{{"fifo.Group": {{"modifiers": [{list}]}}}}"#),
        &[],
    );
    assert_eq!(values(&request.headers, "x"), ["1", "2", "3"]);
    let list = [(1, "a"), (5, "b"), (1, "c"), (-1, "d"), (5, "e")]
        .map(|(priority, value)| {
            format!(
                r#"{{"priority": {priority}, "modifier": {}}}"#,
                append(value)
            )
        })
        .join(",");
    let request = changed(
        &format!(r#"{{"priority.Group": {{"modifiers": [{list}]}}}}"#),
        &[],
    );
    assert_eq!(values(&request.headers, "x"), ["e", "b", "c", "a", "d"]);
}

#[test]
fn the_first_failure_stops_a_group_unless_errors_are_aggregated() {
    let bad = r#"{"header.Copy": {"from": "X-Bad", "to": "Host"}}"#;
    let group = |more: &str| {
        let list = format!("{bad}, {}, {bad}", mark("ran"));
        format!(r#"{{"fifo.Group": {{"modifiers": [{list}]{more}}}}}"#)
    };
    let mut request = request(&[("x-bad", "a b")]);
    let failure = sent(&group(""), &mut request).unwrap_err();
    assert_eq!(failure.to_string().lines().count(), 1);
    assert!(request.headers.get("x-mark").is_none());
    let failure = sent(&group(r#", "aggregateErrors": true"#), &mut request).unwrap_err();
    assert_eq!(failure.to_string().lines().count(), 2);
    assert_eq!(values(&request.headers, "x-mark"), ["ran"]);
}
