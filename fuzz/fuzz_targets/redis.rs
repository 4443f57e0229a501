#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::internals::ext::redis::parse_anything(bytes));
