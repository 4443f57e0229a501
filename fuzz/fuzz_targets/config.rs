#![no_main]

use portcullis::internals::config::load::{Format, parse};
use portcullis::internals::config::{Environment, Node, Report, Service};

// No text makes the loader panic, in any format, and the tree that it builds is read without a panic, too.
libfuzzer_sys::fuzz_target!(|text: &str| {
    let environment = Environment::of([("KRAKEND_PORT", "81"), ("NAME", "x${NAME}")]);
    for format in [Format::Json, Format::Yaml, Format::Toml] {
        let report = Report::new();
        if let Some(root) = parse(text, format, &environment, &report) {
            let _ = root.to_json();
            let _ = Service::read(Node::root(&root, &report));
        }
        for finding in report.into_findings() {
            let _ = finding.config_error.to_string();
        }
    }
});
