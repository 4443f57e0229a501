# The lanes of the project. `just` lists them.

_default:
    @just --list

# Units and property tests: needs nothing but Rust.
unit:
    cargo test --locked --lib

# One integration test, for example `just it reload`.
it NAME *ARGS:
    cargo test --locked --test {{NAME}} {{ARGS}}

# All tests that need nothing but Rust.
quick:
    cargo test --locked

# Everything, with the real parts (Node, Redis, promtool).
test:
    scripts/test

# Format and lints, as continuous integration sees them.
lint:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings

# Every combination of features that leaves something out.
features:
    cargo check --locked --no-default-features
    cargo check --locked --no-default-features --features lua
    cargo check --locked --no-default-features --features cel,json-schema
    cargo check --locked --features nats
    cargo check --locked --features amqp

# The API documentation of the library.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# Writes docs/configuration.md anew from the tables of keys.
keys:
    UPDATE_DOCS=1 cargo test --locked --test it config::

# One fuzz target for a minute, for example `just fuzz token`.
fuzz TARGET:
    fuzz/run {{TARGET}} -max_total_time=60

# Instructions per request, against their budget; needs valgrind.
instructions *ARGS:
    cargo build --locked --profile measure --no-default-features --features mimalloc
    benches/instructions --check {{ARGS}} target/measure/portcullis

# Atomic instructions on cache lines that all workers share, against their budget; needs x86-64 and the right to trace.
atomics *ARGS:
    cargo build --locked --profile measure --no-default-features --features mimalloc
    benches/atomics --check {{ARGS}} target/measure/portcullis

# What continuous integration runs.
ci:
    .ci/run

# The documents as a site, with search; needs mdbook.
book:
    mdbook build

# Archives of a release, into dist/.
release:
    scripts/release

# The plain Kubernetes manifests, from the chart.
manifests:
    scripts/manifests
