#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| portcullis::internals::jose::dpop::parse_anything(text));
