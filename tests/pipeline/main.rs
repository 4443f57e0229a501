//! Composed endpoints over real sockets: what the pipeline says when real calls succeed, fail and do not come back.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use portcullis::internals::runtime::decode::{Decoder, Kind};
use portcullis::internals::runtime::encode::Encoding;
use portcullis::internals::runtime::forward::{HeaderRules, QueryRules};
use portcullis::internals::runtime::pipeline::{ClientCall, Ending, Upstream, run_with};
use portcullis::internals::runtime::request::Params;
use portcullis::internals::runtime::router::Pattern;
use portcullis::internals::runtime::service::{
    Backend, Composition, Endpoint, ErrorMode, Options, Order, Work,
};
use portcullis::internals::runtime::shape::Shape;
use portcullis::internals::runtime::template::Template;
use portcullis::internals::upstream::{Client, DnsTable, HostSet, Settings};
use tokio::time::Instant;

/// Answers each connection once, by path: `/ok` with JSON, `/hang` never, anything else with 404.
fn upstream() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut hanging = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]);
            let (status, body) = match head.split(' ').nth(1) {
                Some("/ok") => ("200 OK", r#"{"b": {"z":1}, "a": 1.10}"#),
                Some("/hang") => {
                    hanging.push(stream);
                    continue;
                }
                _ => ("404 Not Found", "none"),
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    format!("http://{address}")
}

fn backend(host: &str, url: &str) -> Backend {
    let dns = Arc::new(DnsTable::with_resolver(None));
    let client = Client::new(Settings::default(), dns).unwrap();
    Backend {
        index: 0,
        pattern: url.into(),
        method: Method::GET,
        url: Template::parse(url, &Pattern::parse("/m", true).unwrap()).unwrap(),
        hosts: Arc::new(HostSet::fixed(&client, &[host])),
        headers: None,
        query: None,
        decoder: Decoder {
            encoding: Kind::Json,
            is_collection: false,
        },
        shape: Shape::default(),
        errors: ErrorMode::Hide,
        steps: Box::default(),
        pipes: Box::default(),
        on_wire: None,
        credentials: None,
        cache: None,
        graphql: None,
        when: Default::default(),
        signer: None,
        send_body_on_redirect: false,
        compression: true,
        observer: None,
    }
}

fn options() -> Options {
    Options {
        version_header: HeaderValue::from_static("Portcullis 0"),
        user_agent: HeaderValue::from_static("Portcullis/0"),
        return_error_msg: true,
        max_request_body_bytes: 1 << 20,
        max_upstream_body_bytes: 1 << 20,
        ..Options::default()
    }
}

async fn ask(timeout: Duration, backends: impl IntoIterator<Item = Backend>) -> (u16, String) {
    let endpoint = Endpoint {
        pattern: "/m".into(),
        method: Method::GET,
        timeout,
        cache_control: None,
        steps: Box::default(),
        headers: HeaderRules::endpoint::<&str>(&[]).unwrap(),
        query: QueryRules::endpoint::<&str>(&[]),
        work: Work::Nothing,
        id: 0,
        observer: None,
        payload: Default::default(),
        response_edits: None,
    };
    let work = Composition {
        pipes: Box::default(),
        backends: backends.into_iter().collect(),
        shadows: Box::default(),
        order: Order::Parallel,
        flatmap: None,
        static_data: None,
        concurrent_calls: 1,
        encoding: Encoding::Json,
        signer: None,
    };
    let mut call = ClientCall {
        line: None,
        method: None,
        headers: HeaderMap::new(),
        query: None,
        params: Params::default(),
        claims: None,
        subject: None,
        affinity: None,
        client: std::net::IpAddr::from([127, 0, 0, 1]),
        accept: None,
        body: Bytes::new(),
        announce_length: false,
        made: false,
        peer: None,
        started: Instant::now(),
        kept: None,
    };
    let outcome = run_with(&Upstream, &options(), &endpoint, &work, &mut call).await;
    let Ending::Response(response) = outcome.ending else {
        panic!("a composed endpoint answers")
    };
    let body = String::from_utf8(response.body.to_vec()).unwrap();
    (response.status.as_u16(), body)
}

const AGES: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_response_keeps_its_numbers_and_inner_text() {
    let host = upstream();
    let seen = ask(AGES, [backend(&host, "/ok")]).await;
    assert_eq!(seen, (200, r#"{"a":1.10,"b":{"z":1}}"#.to_owned()));
}

#[tokio::test]
async fn failures_name_the_call_as_krakend_does() {
    let host = upstream();
    let seen = ask(AGES, [backend(&host, "/nope?x=1")]).await;
    let text = format!("invalid status code 404 [GET /nope?x=1]: {host}/nope?x=1");
    assert_eq!(seen, (500, text));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let seen = ask(AGES, [backend(&format!("http://{address}"), "/x")]).await;
    let text =
        format!("Get \"http://{address}/x\": dial tcp {address}: connect: connection refused");
    assert_eq!(seen, (500, text));
}

#[tokio::test]
async fn a_hanging_backend_costs_only_its_own_part_of_the_response() {
    let host = upstream();
    let soon = Duration::from_secs(2);
    let seen = ask(soon, [backend(&host, "/hang"), backend(&host, "/ok")]).await;
    assert_eq!(seen.0, 200);
    assert!(seen.1.starts_with(r#"{"a":1.10"#));
    let seen = ask(Duration::from_millis(50), [backend(&host, "/hang")]).await;
    assert_eq!(seen, (500, "context deadline exceeded".to_owned()));
}
