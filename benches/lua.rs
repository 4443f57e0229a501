//! The cost of a script: setting a header, changing data, and entering the interpreter alone.
//!
//! `cargo bench --bench lua`

#![allow(clippy::unwrap_used, reason = "the inputs are our own")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method};
use portcullis::internals::compile::{self, Inputs};
use portcullis::internals::config::Environment;
use portcullis::internals::config::load::Format;
use portcullis::internals::ext::ReloadState;
use portcullis::internals::runtime::json::{Depth, parse};
use portcullis::internals::runtime::pipe::{PipeRequest, PipeResponse, PipeStep};
use portcullis::internals::runtime::request::Params;
use portcullis::internals::runtime::service::{Service, Work};
use portcullis::internals::upstream::{Clients, DnsTable};
use serde_json::{Value, json};

fn service(script: Value) -> Arc<Service> {
    let file = json!({
        "version": 3,
        "endpoints": [{
            "endpoint": "/m/{id}",
            "extra_config": { "modifier/lua-proxy": script },
            "backend": [{ "host": ["http://localhost:8080"], "url_pattern": "/u/{id}" }]
        }]
    });
    let clients = Arc::new(Clients::new(Arc::new(DnsTable::with_resolver(None))));
    let inputs = Inputs {
        environment: &Environment::default(),
        clients: &clients,
        before: &ReloadState::default(),
        port: None,
        debug: false,
    };
    let outcome = compile::text(&file.to_string(), Format::Json, ".".as_ref(), &inputs);
    outcome.compiled.unwrap().service
}

fn step(service: &Service) -> &dyn PipeStep {
    match &service.endpoints[0].work {
        Work::Compose(work) => &*work.pipes[0],
        _ => panic!("it composes"),
    }
}

fn request() -> PipeRequest {
    let mut headers = HeaderMap::new();
    for name in [
        "accept",
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-host",
    ] {
        headers.insert(name, HeaderValue::from_static("some value"));
    }
    PipeRequest {
        peer: None,
        method: Method::GET,
        origin: None,
        path: "/m/7".into(),
        query: None,
        params: Params::default(),
        headers,
        body: Bytes::new(),
        claims: None,
        client: std::net::IpAddr::from([127, 0, 0, 1]),
        deadline: tokio::time::Instant::now() + Duration::from_secs(3600),
    }
}

fn scripts(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut group = c.benchmark_group("lua");
    let header = "local r = request.load(); r:headers('X-Lua', r:headers('Accept') .. '!')";
    for (name, script) in [
        ("nothing", json!({ "pre": "local x = 1" })),
        ("header", json!({ "pre": header })),
        (
            "header, open libs",
            json!({ "pre": header, "allow_open_libs": true }),
        ),
        (
            "header, pcall",
            json!({ "pre": format!("pcall(function() {header} end)") }),
        ),
    ] {
        let service = service(script);
        let (step, request) = (step(&service), request());
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut request = request.clone();
                runtime.block_on(step.before(&mut request)).unwrap();
                black_box(request)
            });
        });
    }
    let service = service(json!({
        "post": "local d = response.load():data(); d:set('sum', d:get('a') + d:get('b')); d:del('c')"
    }));
    let (step, request) = (step(&service), request());
    let body = Bytes::from_static(br#"{"a":1,"b":2,"c":[1,2,3],"d":{"e":"f"}}"#);
    group.bench_function("data", |b| {
        b.iter(|| {
            let mut response = PipeResponse {
                data: parse(&body, Depth::TopLevel).unwrap(),
                complete: true,
                reply: None,
                meta: Default::default(),
                held: Default::default(),
            };
            let after = step.after(None, &request, &mut response);
            runtime.block_on(after).unwrap();
            black_box(response)
        });
    });
}

criterion_group!(benches, scripts);
criterion_main!(benches);
