use super::*;

/// Pointers and texts of all errors in a definition.
fn found(block: &str) -> Vec<String> {
    let mut file = File::new(block);
    let part = file.backend(&BACKEND, "{}");
    assert!(matches!(part, BackendPart::Nothing), "{block} is used");
    file.config_error_lines()
}

#[test]
fn an_invalid_definition_stops_the_start() {
    for (block, expected) in [
        ("{}", ": a modifier is missing"),
        ("[]", ": found a list of 0, but an object is expected"),
        (
            r#"{"header.Modifier": {"name": "A"}, "header.Append": {"name": "A"}}"#,
            ": exactly one modifier is expected, but there are \"header.Modifier\" and \"header.Append\"",
        ),
        (
            r#"{"header.modifier": {}}"#,
            "/header.modifier: unknown modifier: header.modifier",
        ),
        (
            r#"{"header.Modifier": []}"#,
            "/header.Modifier: found a list of 0, but an object is expected",
        ),
        (
            r#"{"header.Modifier": {}}"#,
            "/header.Modifier: the key \"name\" is missing",
        ),
        (
            r#"{"header.Modifier": {"name": "a b"}}"#,
            "/header.Modifier/name: \"a b\" is not the name of a header",
        ),
        (
            r#"{"header.Append": {"name": "A", "value": "a\nb"}}"#,
            "/header.Append/value: [redacted] cannot be the value of a header",
        ),
        (
            r#"{"header.Modifier": {"name": "Host", "value": "a/b"}}"#,
            "/header.Modifier/value: [redacted] is not a valid host: a host, perhaps with a port is expected",
        ),
        (
            r#"{"header.Modifier": {"name": "Content-Length", "value": "-1"}}"#,
            "/header.Modifier/value: [redacted] is not a valid content-length: a number is expected",
        ),
        (
            r#"{"header.Modifier": {"name": "Transfer-Encoding", "value": "gzip"}}"#,
            "/header.Modifier/value: [redacted] is not a valid transfer-encoding: \"chunked\" or \"identity\" is expected",
        ),
        (
            r#"{"header.Blacklist": {"names": ["A", ":"]}}"#,
            "/header.Blacklist/names/1: \":\" is not the name of a header",
        ),
        (
            r#"{"header.Copy": {"from": "A"}}"#,
            "/header.Copy: the key \"to\" is missing",
        ),
        (
            r#"{"header.Id": {"header": "Host"}}"#,
            "/header.Id/header: \"Host\" cannot be used for this",
        ),
        (
            r#"{"header.Id": {"scope": ["response"]}}"#,
            "/header.Id/scope/0: header.Id cannot act on a response",
        ),
        (
            r#"{"status.Modifier": {"statusCode": 200, "scope": ["request"]}}"#,
            "/status.Modifier/scope/0: status.Modifier cannot act on a request",
        ),
        (
            r#"{"header.Id": {"scope": ["reqest"]}}"#,
            "/header.Id/scope/0: \"reqest\" is none of request, response",
        ),
        (
            r#"{"status.Modifier": {}}"#,
            "/status.Modifier: the key \"statusCode\" is missing",
        ),
        (
            r#"{"status.Modifier": {"statusCode": 101}}"#,
            "/status.Modifier/statusCode: 101 is not in the range 200 to 999",
        ),
        (
            r#"{"status.Modifier": {"statusCode": "OK"}}"#,
            "/status.Modifier/statusCode: \"OK\" is a string, but an integer is expected",
        ),
        (
            r#"{"header.RegexFilter": {"header": "A", "regex": "(", "modifier": {"header.Id": {}}}}"#,
            "/header.RegexFilter/regex: not a regular expression:",
        ),
        (
            r#"{"url.RegexFilter": {"regex": "a"}}"#,
            "/url.RegexFilter: the key \"modifier\" is missing",
        ),
        (
            r#"{"url.Modifier": {"scheme": "ftp"}}"#,
            "/url.Modifier/scheme: \"ftp\" is not http or https",
        ),
        (
            r#"{"url.Modifier": {"host": "http://a"}}"#,
            "/url.Modifier/host: \"http://a\" is not a host, perhaps with a port",
        ),
        (
            r#"{"url.Modifier": {"host": "u:PW@a"}}"#,
            "/url.Modifier/host: \"[redacted]@a\" is not a host, perhaps with a port",
        ),
        (
            r#"{"url.Modifier": {"path": "a"}}"#,
            "/url.Modifier/path: \"a\" is not a path that begins with \"/\"",
        ),
        (
            r#"{"port.Modifier": {"port": 1, "remove": true}}"#,
            "/port.Modifier: exactly one of \"port\", \"defaultForScheme\" and \"remove\" is expected",
        ),
        (
            r#"{"port.Modifier": {"port": 70000}}"#,
            "/port.Modifier/port: 70000 is not in the range 1 to 65535",
        ),
        (
            r#"{"port.Filter": {"modifier": {"header.Id": {}}}}"#,
            "/port.Filter: the key \"port\" is missing",
        ),
        (
            r#"{"cookie.Modifier": {"name": "a;"}}"#,
            "/cookie.Modifier/name: \"a;\" is not the name of a cookie",
        ),
        (
            r#"{"cookie.Modifier": {"name": "a", "value": "b;c"}}"#,
            "/cookie.Modifier/value: [redacted] cannot be the value of a cookie",
        ),
        (
            r#"{"cookie.Modifier": {"name": "a", "path": "/;Secure"}}"#,
            "/cookie.Modifier/path: \"/;Secure\" cannot be part of a cookie",
        ),
        (
            r#"{"cookie.Modifier": {"name": "a", "expires": "tomorrow"}}"#,
            "/cookie.Modifier/expires: \"tomorrow\" is not a time",
        ),
        (
            r#"{"body.Modifier": {"body": "{}"}}"#,
            "/body.Modifier/body: not Base64:",
        ),
        (
            r#"{"stash.Modifier": {"headerName": "A", "scope": ["response"]}}"#,
            "/stash.Modifier/scope: there is nothing to add to a response if the request stores nothing",
        ),
        (
            r#"{"stash.Modifier": {"headerName": "Content-Length"}}"#,
            "/stash.Modifier/headerName: \"Content-Length\" cannot be used for this",
        ),
        (
            r#"{"static.Modifier": {"rootPath": "/usr", "scope": ["response"]}}"#,
            "/static.Modifier/scope: a file replaces the call and its response",
        ),
        (
            r#"{"static.Modifier": {"rootPath": "/not/there"}}"#,
            "/static.Modifier/rootPath: /not/there: not a folder",
        ),
        (
            r#"{"static.Modifier": {"rootPath": "/usr", "explicitPaths": {"/a": "../b"}}}"#,
            "/static.Modifier/explicitPaths/~1a: \"../b\" is not a file below \"rootPath\"",
        ),
    ] {
        let lines = found(block);
        assert!(
            lines.len() == 1 && lines[0].starts_with(expected),
            "{block}: {lines:?}"
        );
    }
}

#[test]
fn every_error_is_reported_with_its_location() {
    let block = r#"{"fifo.Group": {"modifiers": [
        {"header.Filter": {"name": "A", "modifier": {"header.Modifier": {"name": ":"}}, "else": {"nope": {}}}},
        {"priority.Group": {"modifiers": [{"priority": "high", "modifier": {"header.Id": {}}}, {"priority": 1}]}},
        {"header.Copy": {"from": " ", "to": " "}}]}}"#;
    let group = "/fifo.Group/modifiers";
    let expected = [
        format!(
            "{group}/0/header.Filter/modifier/header.Modifier/name: \":\" is not the name of a header"
        ),
        format!("{group}/0/header.Filter/else/nope: unknown modifier: nope"),
        format!(
            "{group}/1/priority.Group/modifiers/0/priority: \"high\" is a string, but an integer is expected"
        ),
        format!("{group}/1/priority.Group/modifiers/1: the key \"modifier\" is missing"),
        format!("{group}/2/header.Copy/from: \" \" is not the name of a header"),
        format!("{group}/2/header.Copy/to: \" \" is not the name of a header"),
    ];
    let mut lines = found(block);
    for line in &expected {
        let before = lines.len();
        lines.retain(|found| found != line);
        assert_eq!(lines.len() + 1, before, "{line} is not in {lines:?}");
    }
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn comments_are_not_modifiers_and_unknown_members_are_a_warning() {
    let mut file = File::new(
        r#"{"@comment": "x", "header.Modifier": {"name": "A", "vaule": "b"}, "$schema": "y"}"#,
    );
    assert!(matches!(
        file.backend(&BACKEND, "{}"),
        BackendPart::OnWire(_)
    ));
    assert_eq!(file.config_errors(), 0);
    assert!(file.findings().contains("vaule"));
}
