#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::internals::jose::token::parse_anything(bytes));
