#![no_main]

use bytes::Bytes;
use portcullis::internals::runtime::json::{Depth, Style, parse, to_bytes};

// A body kept as slices and one parsed as a tree are the same body, and the written text is parsed to the same value.
libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    let shallow = parse(&body, Depth::TopLevel);
    let full = parse(&body, Depth::Full);
    match (shallow, full) {
        (Ok(shallow), Ok(full)) => {
            assert_eq!(shallow.expanded(), full);
            let canonical = to_bytes(&full, Style::Canonical);
            assert_eq!(to_bytes(&shallow, Style::Canonical), canonical);
            let verbatim = to_bytes(&shallow, Style::Verbatim);
            for written in [canonical, verbatim] {
                assert_eq!(parse(&written, Depth::Full).as_ref(), Ok(&full));
            }
        }
        (shallow, full) => assert_eq!(shallow, full),
    }
});
