#![no_main]

use portcullis::internals::runtime::decode::{Kind, decode_anything};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let _ = decode_anything(Kind::Rss, body);
});
