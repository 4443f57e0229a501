#![no_main]

libfuzzer_sys::fuzz_target!(|input: (String, String)| {
    let target = portcullis::internals::runtime::template::render_anything(&input.0, &input.1);
    assert!(target.is_none_or(|target| target.bytes().all(|byte| byte.is_ascii_graphic())));
});
