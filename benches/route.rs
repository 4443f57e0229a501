//! One lookup among few and among many routes: it should cost the same.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::Method;
use portcullis::internals::runtime::router::{Options, Pattern, Router};

fn router(routes: usize) -> Router<usize> {
    let mut builder = Router::builder(Options::default());
    for n in 0..routes {
        let path = format!("/api/v1/service{n}/users/{{id}}/orders/{{order}}");
        let pattern = Pattern::parse(&path, true).expect("a plain pattern");
        builder.add(Method::GET, pattern, n).expect("a new pattern");
        let path = format!("/static/page{n}");
        let pattern = Pattern::parse(&path, true).expect("a plain pattern");
        builder.add(Method::GET, pattern, n).expect("a new pattern");
    }
    builder.build()
}

fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for routes in [5, 500, 5_000] {
        let router = router(routes);
        let n = routes - 1;
        for (name, path) in [
            (
                "params",
                format!("/api/v1/service{n}/users/12345/orders/67890"),
            ),
            ("fixed", format!("/static/page{n}")),
            ("missing", format!("/api/v1/service{n}/nothing/here")),
        ] {
            group.bench_with_input(BenchmarkId::new(name, 2 * routes), &path, |b, path| {
                b.iter(|| router.route(&Method::GET, black_box(path), None, None));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, lookups);
criterion_main!(benches);
