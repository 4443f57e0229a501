#![no_main]

use httparse::{Status, parse_chunk_size};
use portcullis::internals::server::chunks::Chunks;

// The pieces in which a body arrives change nothing, and an accepted body ends where Pingora's parser of sizes ends it.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = Chunks::default().scan(bytes);
    let mut chunks = Chunks::default();
    let pieces = (0..bytes.len())
        .map(|at| {
            let end = chunks.scan(&bytes[at..at + 1]);
            end.map(|end| end.map(|count| at + count))
        })
        .find(|step| *step != Ok(None))
        .unwrap_or(Ok(None));
    assert_eq!(pieces, whole);
    let Ok(Some(end)) = whole else { return };
    let mut at = 0;
    loop {
        let size = parse_chunk_size(&bytes[at..end]).expect("a size that passed");
        let Status::Complete((line, size)) = size else {
            panic!("the body ended inside a size")
        };
        at += line;
        if size == 0 {
            break;
        }
        at += usize::try_from(size).expect("it is in memory");
        assert_eq!(&bytes[at..at + 2], b"\r\n");
        at += 2;
    }
    assert!(bytes[at..end].ends_with(b"\r\n"));
    let trailers = &bytes[at..end];
    assert!(trailers == b"\r\n" || trailers.ends_with(b"\r\n\r\n"));
});
