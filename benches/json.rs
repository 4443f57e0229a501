//! The cost of composing without the network: parse, transform, merge and write bodies of a typical size.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use portcullis::internals::runtime::flatmap::Flatmap;
use portcullis::internals::runtime::json::{self, Depth, Style, Value};
use portcullis::internals::runtime::shape::{Shape, ShapeSpec};

/// A response like those of a product service: some scalars, a few nested objects, a list.
fn body(items: usize) -> Bytes {
    let item = |at: usize| {
        format!(
            r#"{{"id":{at},"sku":"sku-{at:06}","title":"A thing of some kind, no. {at}","price":{{"amount":"{at}.90","currency":"EUR"}},"tags":["new","caf\u00e9"],"stock":null}}"#
        )
    };
    let items: Vec<String> = (0..items).map(item).collect();
    Bytes::from(format!(
        r#"{{"page":1,"total":{},"next":"/items?page=2","owner":{{"id":7,"name":"Ann","email":"ann@example.com"}},"items":[{}]}}"#,
        items.len(),
        items.join(",")
    ))
}

fn shape(spec: ShapeSpec) -> Shape {
    Shape::compile(spec)
}

fn read_and_write(c: &mut Criterion) {
    for (name, items) in [("1k", 6), ("64k", 400)] {
        let body = body(items);
        let mut group = c.benchmark_group(format!("json/{name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        for (how, depth, style) in [
            ("slices", Depth::TopLevel, Style::Verbatim),
            ("tree", Depth::Full, Style::Verbatim),
            ("canonical", Depth::TopLevel, Style::Canonical),
        ] {
            group.bench_function(how, |b| {
                b.iter(|| {
                    let value = json::parse(black_box(&body), depth).unwrap_or_default();
                    json::to_bytes(&value, style)
                })
            });
        }
        group.finish();
    }
}

fn shapes(c: &mut Criterion) {
    let body = body(6);
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    let moved = ["items.*.price.amount", "items.*.amount"].map(str::to_owned);
    let flatmap = Flatmap::compile([("move", &moved[..])]).unwrap_or_default();
    let cases = [
        (
            "top level",
            ShapeSpec {
                allow: names(&["items", "total"]),
                mapping: vec![("total".to_owned(), "count".to_owned())],
                group: "g".to_owned(),
                ..ShapeSpec::default()
            },
        ),
        (
            "nested",
            ShapeSpec {
                deny: names(&["owner.email", "next"]),
                ..ShapeSpec::default()
            },
        ),
        (
            "flatmap",
            ShapeSpec {
                flatmap,
                ..ShapeSpec::default()
            },
        ),
    ];
    let mut group = c.benchmark_group("shape");
    for (name, spec) in cases {
        let shape = shape(spec);
        group.bench_function(name, |b| {
            b.iter(|| {
                let value = json::parse(black_box(&body), shape.depth()).unwrap_or_default();
                let value = shape.apply(value, &mut Default::default());
                json::to_bytes(&value.unwrap_or_default(), Style::Verbatim)
            })
        });
    }
    group.finish();
}

fn merge_three(c: &mut Criterion) {
    let bodies = [body(2), body(3), body(4)];
    let shapes = ["a", "b", "c"].map(|group| {
        shape(ShapeSpec {
            group: group.to_owned(),
            ..ShapeSpec::default()
        })
    });
    c.bench_function("merge three", |b| {
        b.iter(|| {
            let mut merged = json::Object::new();
            for (body, shape) in bodies.iter().zip(&shapes) {
                let value = json::parse(black_box(body), shape.depth()).unwrap_or_default();
                let value = shape.apply(value, &mut Default::default());
                if let Ok(Value::Object(object)) = value {
                    merged.extend(object);
                }
            }
            json::to_bytes(&Value::Object(merged), Style::Verbatim)
        })
    });
}

criterion_group!(benches, read_and_write, shapes, merge_three);
criterion_main!(benches);
