#![no_main]

use portcullis::internals::runtime::listen::MAX_FIELDS;
use portcullis::internals::server::head::HeadReader;
use portcullis::internals::server::rewrite::usual_form;

const MAX_BYTES: usize = 4096;

// The pieces in which a head arrives change nothing. An accepted head, in its usual form, is parsed to the same end by
// Pingora's parser. A head in that form is accepted again unchanged, with the same body.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = HeadReader::new(MAX_BYTES, MAX_FIELDS).advance(bytes);
    let mut reader = HeadReader::new(MAX_BYTES, MAX_FIELDS);
    let pieces = (1..=bytes.len())
        .map(|end| reader.advance(&bytes[..end]))
        .find(|step| *step != Ok(None))
        .unwrap_or(Ok(None));
    match whole {
        // Which of two errors is found first may depend on the pieces; whether there is one may not.
        Err(_) => assert!(pieces.is_err()),
        _ => assert_eq!(pieces, whole),
    }
    let Ok(Some(facts)) = whole else { return };
    let head = &bytes[..facts.length];
    let usual = usual_form(head, &facts);
    let read = usual.as_deref().unwrap_or(head);
    // Pingora escapes a target that is not UTF-8 before it parses it again.
    if read.is_ascii() {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS + 1];
        let whole = httparse::Request::new(&mut fields).parse(read);
        assert_eq!(whole, Ok(httparse::Status::Complete(read.len())));
    }
    if let Some(usual) = &usual {
        let again = HeadReader::new(4 * MAX_BYTES, MAX_FIELDS + 1).advance(usual);
        let again = again.expect("it passes again").expect("it is whole");
        assert!(usual_form(usual, &again).is_none());
        assert_eq!((again.length, again.body), (usual.len(), facts.body));
    }
});
