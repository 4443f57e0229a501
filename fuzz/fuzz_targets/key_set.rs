#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::internals::jose::key_set::parse_anything(bytes));
