//! Headers and URL of one plain proxy call.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method};
use portcullis::internals::runtime::forward::{HeaderRules, complete, outgoing};
use portcullis::internals::runtime::request::{Head, Host, Notes, Params};
use portcullis::internals::runtime::router::Pattern;
use portcullis::internals::runtime::service::Options;
use portcullis::internals::runtime::template::Template;

const CLIENT: [(&str, &str); 8] = [
    ("host", "gateway.example.com"),
    ("user-agent", "curl/8.9"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, br"),
    ("authorization", "Bearer abc.def.ghi"),
    ("x-request-id", "0123456789abcdef"),
    ("cookie", "a=1; b=2"),
    ("content-type", "application/json"),
];

fn options() -> Options {
    Options {
        version_header: HeaderValue::from_static("Portcullis 1"),
        user_agent: HeaderValue::from_static("Portcullis/1"),
        ..Options::default()
    }
}

fn headers(c: &mut Criterion) {
    let mut client = HeaderMap::new();
    for (name, value) in CLIENT {
        client.insert(name, HeaderValue::from_static(value));
    }
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let head = Head {
        method: &Method::GET,
        path: "/a",
        query: None,
        headers: &client,
        host: Host::Given("gateway.example.com"),
        peer: address,
        client: address,
        secure: false,
        certificate: None,
    };
    let (options, notes) = (options(), Notes::default());
    for (name, list) in [
        ("default", &[][..]),
        ("listed", &["Authorization", "X-Request-Id", "Accept"]),
        ("all", &["*"]),
    ] {
        let rules = HeaderRules::endpoint(list).expect("good names");
        c.bench_function(&format!("headers/{name}"), |b| {
            b.iter(|| {
                let mut headers = outgoing(&rules, &options, black_box(&head), &notes);
                complete(&mut headers, &options, &http::Method::GET, true);
                headers
            });
        });
    }
}

fn urls(c: &mut Criterion) {
    let endpoint = Pattern::parse("/a/{id}", true).expect("a plain pattern");
    let params = Params(
        [(Arc::from("id"), "12345".to_owned())]
            .into_iter()
            .collect(),
    );
    for url in ["/users", "/users/{id}/orders?limit=10"] {
        let template = Template::parse(url, &endpoint).expect("a plain pattern");
        c.bench_function(&format!("url/{url}"), |b| {
            b.iter(|| {
                template
                    .render(black_box(&params), &[])
                    .map(|url| url.len())
            });
        });
    }
}

criterion_group!(benches, headers, urls);
criterion_main!(benches);
