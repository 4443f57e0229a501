#![no_main]

use portcullis::internals::server::proxy_protocol::parse;

// A header is decided once: the bytes after it change nothing, and it is never longer than the input.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    if let Ok(Some(preamble)) = whole {
        assert!(preamble.length <= bytes.len());
        assert_eq!(parse(&bytes[..preamble.length]), whole);
    }
    for end in 0..bytes.len().min(600) {
        let early = parse(&bytes[..end]);
        if early != Ok(None) {
            assert_eq!(early, whole, "decided after {end} bytes");
        }
    }
});
