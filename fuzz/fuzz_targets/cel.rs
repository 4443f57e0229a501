//! Any text as an expression, evaluated with any claims.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (text, claims) = match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &b"{}"[..]),
    };
    if let Ok(text) = std::str::from_utf8(text) {
        portcullis::internals::ext::cel::judge_anything(text, claims);
    }
});
