#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| portcullis::jose::dpop::parse_anything(text));
