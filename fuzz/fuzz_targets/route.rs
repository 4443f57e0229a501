#![no_main]

libfuzzer_sys::fuzz_target!(|path: &str| {
    let location = portcullis::internals::runtime::router::route_anything(path);
    assert!(location.is_none_or(|to| !to.as_bytes().starts_with(b"//")));
});
