#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::jose::key_set::parse_anything(bytes));
