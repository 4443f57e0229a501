use std::io::Cursor;

use bytes::BytesMut;
use futures::FutureExt as _;
use pingora_proxy::Session;
use proptest::prelude::*;

use super::*;
use crate::server::rewrite::usual_form;

fn read(head: &str) -> Result<Option<HeadFacts>, BadHead> {
    HeadReader::new(16 * 1024, 256).advance(head.as_bytes())
}

fn rejected(head: &str) -> BadHead {
    match read(head) {
        Err(bad) => bad,
        Ok(facts) => panic!("{head:?} passed: {facts:?}"),
    }
}

#[test]
fn a_plain_get_passes_and_ends_at_the_empty_line() {
    let head = "GET /a?b=%zz HTTP/1.1\r\nHost: x:80\r\nX-A:  v\t\r\n\r\n";
    let facts = read(&format!("{head}rest")).unwrap().unwrap();
    assert_eq!(facts.length, head.len());
    assert_eq!(facts.body, BodyFraming::None);
}

#[test]
fn an_incomplete_head_needs_more_bytes() {
    assert_eq!(read("GET / HTTP/1.1\r\nHost: x\r\n"), Ok(None));
}

#[test]
fn ambiguous_framing_is_rejected() {
    let with = |fields: &str| rejected(&format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
    assert_eq!(
        with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        BadHead::TransferEncoding
    );
    assert_eq!(
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        BadHead::TransferEncoding
    );
    assert_eq!(
        with("Transfer-Encoding: gzip, chunked\r\n"),
        BadHead::TransferEncoding
    );
    assert_eq!(
        with("Content-Length: 1\r\nContent-Length: 1\r\n"),
        BadHead::ContentLength
    );
    for value in ["+1", "-1", "0x1", "1,1", "", "1 1", "18446744073709551616"] {
        assert_eq!(
            with(&format!("Content-Length: {value}\r\n")),
            BadHead::ContentLength,
            "{value}"
        );
    }
    assert_eq!(with("A: b\r\n c\r\n"), BadHead::Fold);
    assert_eq!(with("A : b\r\n"), BadHead::Field);
    assert_eq!(with("A: b\nB: c\r\n"), BadHead::LineEnding);
    assert_eq!(with("A: b\rc\r\n"), BadHead::LineEnding);
    assert_eq!(with("A: b\0c\r\n"), BadHead::Field);
    assert_eq!(with("Host: y\r\n"), BadHead::Host);
    assert_eq!(rejected("GET / HTTP/1.1\r\n\r\n"), BadHead::HostMissing);
    assert_eq!(
        rejected("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        BadHead::TransferEncoding
    );
    assert_eq!(rejected("GET /a b HTTP/1.1\r\n"), BadHead::RequestLine);
    assert_eq!(rejected("GET /%zz HTTP/1.1\r\n"), BadHead::Target);
    assert_eq!(rejected("GET / HTTP/2.0\r\n"), BadHead::Version);
    assert_eq!(rejected("GET /\r\n"), BadHead::RequestLine);
}

#[test]
fn size_and_count_are_limited() {
    let long = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
        "a".repeat(20_000)
    );
    assert_eq!(rejected(&long), BadHead::TooLarge);
    let many = format!(
        "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "A: b\r\n".repeat(256)
    );
    assert_eq!(rejected(&many), BadHead::TooMany);
    let most = format!(
        "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "A: b\r\n".repeat(255)
    );
    assert!(read(&most).unwrap().is_some());
}

#[test]
fn heads_that_need_rewriting_are_reported() {
    let head = |line: &str| read(&format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
    assert!(head("GET http://other:81/obj").unwrap().absolute);
    for target in ["/a?q={\"a\":1}", "/a<b>", "/a`"] {
        assert!(
            head(&format!("GET {target}")).unwrap().raw_target,
            "{target}"
        );
    }
    for target in ["/a?q=%22", "/é", "/a{b}|^[]\\"] {
        assert!(
            !head(&format!("GET {target}")).unwrap().raw_target,
            "{target}"
        );
    }
    let two = read("GET / HTTP/1.1\r\nHost: x\r\nConnection: a\r\nConnection: b\r\n\r\n");
    assert!(two.unwrap().unwrap().many_connections);
    assert_eq!(rejected("CONNECT x:1 HTTP/1.1\r\n"), BadHead::Connect);
    assert!(head("CONNECT /a").is_some());
}

#[test]
fn a_target_longer_than_a_uri_may_be_is_too_large() {
    let get = |target: String| {
        let head = format!("GET /{target} HTTP/1.1\r\nHost: x\r\n\r\n");
        HeadReader::new(1 << 20, 256).advance(head.as_bytes())
    };
    assert!(get("a".repeat(MAX_TARGET_BYTES - 1)).is_ok());
    assert_eq!(get("a".repeat(MAX_TARGET_BYTES)), Err(BadHead::TooLarge));
    assert_eq!(get("\"".repeat(30_000)), Err(BadHead::TooLarge));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic_and_pieces_give_the_same_result(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300,
    ) {
        let whole = HeadReader::new(200, 256).advance(&bytes);
        let mut reader = HeadReader::new(200, 256);
        let first = reader.advance(&bytes[..cut.min(bytes.len())]);
        if let Ok(None) = first {
            prop_assert_eq!(reader.advance(&bytes), whole);
        }
    }
}

/// What the session reads of a request that the front loop has accepted, if it accepts it.
fn session_reads(request: &[u8]) -> Option<(String, bool)> {
    let facts = HeadReader::new(16 * 1024, 256).advance(request).ok()??;
    let usual = usual_form(request.get(..facts.length)?, &facts);
    let request = usual.as_deref().unwrap_or(request);
    let mut session = Session::new_h1(Box::new(Cursor::new(Vec::new())));
    session.set_pipelined_prefix(BytesMut::from(request));
    let read = session.read_request().now_or_never();
    let is_read = matches!(read, Some(Ok(true)));
    Some((String::from_utf8_lossy(request).into_owned(), is_read))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Otherwise a client would get the response of the HTTP library.
    #[test]
    fn a_head_that_passes_is_read_by_the_session(
        method in prop_oneof![
            4 => "GET|POST", 1 => "CONNECT|OPTIONS", 1 => "[!#-'A-Z^-z]{1,30}"
        ],
        target in prop_oneof![
            4 => "/[ -~]{0,20}",
            2 => "//?[/\\\\a:@.*]{0,12}",
            2 => "https?:/{0,3}[a-z:@.\\[\\]%/\\\\*]{0,12}",
            1 => Just("*".to_owned()),
            2 => "/\\PC{0,10}",
        ],
        version in prop_oneof![4 => Just("1.1"), 1 => Just("1.0")],
        host in prop_oneof![4 => Just("a".to_owned()), 2 => "[a-z:.\\[\\]%*@/]{0,12}", 1 => "\\PC{0,6}"],
        fields in proptest::collection::vec(
            prop_oneof![
                "[!#-'*+.^-z|~A-Z0-9-]{1,12}:[ -~\t]{0,20}",
                "[a-z]{1,4}: \\PC{0,8}",
                "(Content-Length|Transfer-Encoding|Connection|Upgrade|Expect|TE|Trailer): ?[a-z0-9, -]{0,14}",
                "(content-length: 0?[0-9]{1,3}|transfer-encoding: chunked|connection: upgrade)",
            ],
            0..4,
        ),
    ) {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let head = format!("{method} {target} HTTP/{version}\r\nHost: {host}\r\n{fields}\r\n");
        if let Some((request, is_read)) = session_reads(head.as_bytes()) {
            prop_assert!(is_read, "{request:?}");
        }
    }
}
