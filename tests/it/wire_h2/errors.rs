//! What the gateway tells about the errors of HTTP/2 clients.

use crate::support::http::request;
use crate::support::{eventually, pause, ports};

use super::*;

/// What a client sends, what the log says, and what the metric counts.
fn cases() -> [(Vec<u8>, &'static str, &'static str); 5] {
    let head = |more| frame(HEADERS, END_STREAM | END_HEADERS, 1, &with(&GET, more));
    let many = [
        frame(HEADERS, END_HEADERS, 1, &block(&POST)),
        frame(DATA, 0, 1, &[]).repeat(1200),
    ];
    [
        (
            head(("connection", "close")),
            "reset a stream of the HTTP/2 connection of ",
            "h2_protocol_error",
        ),
        (
            head(("host", "b")),
            "rejected a request from ",
            "h2_malformed",
        ),
        (
            frame(DATA, 0, 0, b"x"),
            "ended the HTTP/2 connection of ",
            "h2_protocol_error",
        ),
        (
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff; 12]),
            "ended the HTTP/2 connection of ",
            "h2_protocol_error",
        ),
        (
            many.concat(),
            "ended the HTTP/2 connection of ",
            "h2_enhance_your_calm too_many_data_frames",
        ),
    ]
}

#[test]
fn errors_that_a_client_is_told_are_in_the_log_and_counted() {
    let stub = stub();
    let mut file = file(&stub);
    let page = ports::free();
    file["use_h2c"] = json!(true);
    file["extra_config"] =
        json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{page}") } });
    let gateway = Gateway::start(&file.to_string());
    for (bytes, text, reason) in cases() {
        let label = reason.split(' ').next().unwrap();
        let line = format!("portcullis_http_bad_requests_total{{reason=\"{label}\"}} ");
        let count = || {
            let mut client = Client::connect(page).unwrap();
            client.send(request("GET", "/metrics", &[])).unwrap();
            let page = client.response("GET").unwrap().text();
            let value = page.lines().find_map(|found| found.strip_prefix(&*line));
            value.map_or(0, |value| value.parse::<u64>().unwrap())
        };
        let (before, mark) = (count(), gateway.mark());
        let mut connection = Connection::open(&gateway);
        let _ = connection.0.send(bytes);
        eventually("the error is counted", Duration::from_secs(20), || {
            count() > before
        });
        eventually("the reason is logged", Duration::from_secs(20), || {
            let output = gateway.output_since(mark);
            output
                .lines()
                .any(|line| line.contains(text) && line.ends_with(reason))
        });
    }
    assert!(serves(&gateway));
}

#[test]
fn a_head_has_a_time_also_over_http2() {
    let stub = stub();
    let mut file = file(&stub);
    file["use_h2c"] = json!(true);
    file["read_header_timeout"] = json!("300ms");
    let gateway = Gateway::start(&file.to_string());
    let get = block(&GET);
    let whole = frame(HEADERS, END_STREAM | END_HEADERS, 1, &get);
    let settings = frame(SETTINGS, 0, 0, &[]);
    let open = frame(HEADERS, END_STREAM, 1, &get);
    for (what, sent) in [
        ("only the preface", vec![]),
        ("a block without an end", [&settings[..], &open].concat()),
        (
            "half a frame",
            [&settings[..], &whole[..whole.len() / 2]].concat(),
        ),
        ("a second head", [&settings[..], &whole, &open].concat()),
    ] {
        let mark = gateway.mark();
        let mut connection = Connection(gateway.client());
        connection.0.send([PREFACE, &sent].concat()).unwrap();
        assert!(floods::ends(&mut connection), "{what}");
        eventually("the reason is logged", Duration::from_secs(20), || {
            gateway.output_since(mark).contains("slow_head")
        });
    }
    // A client that has sent its settings may wait with its first request.
    let mut connection = Connection::open(&gateway);
    pause(Duration::from_millis(900));
    connection
        .send(HEADERS, END_STREAM | END_HEADERS, 1, &get)
        .unwrap();
    assert_eq!(connection.outcome(1), Outcome::Ok);
}
