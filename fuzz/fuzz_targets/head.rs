#![no_main]

use portcullis::runtime::listen::MAX_FIELDS;
use portcullis::server::head::{HeadReader, origin_form};

const MAX_BYTES: usize = 4096;

// The pieces in which a head comes change nothing; what passes is read to the same end by Pingora's parser; and a head
// brought into origin form passes again, with the same body.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = HeadReader::new(MAX_BYTES, MAX_FIELDS).advance(bytes);
    let mut reader = HeadReader::new(MAX_BYTES, MAX_FIELDS);
    let pieces = (1..=bytes.len())
        .map(|end| reader.advance(&bytes[..end]))
        .find(|step| *step != Ok(None))
        .unwrap_or(Ok(None));
    match whole {
        // Which of two faults is met first may depend on the pieces; that there is one may not.
        Err(_) => assert!(pieces.is_err()),
        _ => assert_eq!(pieces, whole),
    }
    let Ok(Some(facts)) = whole else { return };
    let head = &bytes[..facts.length];
    // A target that is no text Pingora escapes before it parses again.
    if head.is_ascii() {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let whole = httparse::Request::new(&mut fields).parse(bytes);
        assert_eq!(whole, Ok(httparse::Status::Complete(facts.length)));
    }
    if facts.absolute {
        let origin = origin_form(head).expect("an absolute form that passed");
        let again = HeadReader::new(2 * MAX_BYTES, MAX_FIELDS + 1).advance(&origin);
        let again = again.expect("it passes again").expect("it is whole");
        assert!(!again.absolute);
        assert_eq!((again.length, again.body), (origin.len(), facts.body));
    }
});
