use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream as Socket};

use super::*;

fn is_usual(head: &str) -> bool {
    let bytes = Bytes::copy_from_slice(head.as_bytes());
    matches!(parse(&bytes, false), Head::Usual(_))
}

#[test]
fn a_head_is_usual_if_nothing_in_it_can_be_read_in_two_ways() {
    for (head, usual) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 204 No Content\r\n\r\nx", false),
        ("HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 101 \r\nContent-Length: 0\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551617\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 1\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nUpgrade: x\r\n\r\n",
            false,
        ),
    ] {
        assert_eq!(is_usual(head), usual, "{head}");
    }
}

/// A connection on which the upstream sends these pieces one after another, and closes it at the end.
async fn answering(pieces: Vec<Vec<u8>>) -> Box<Link> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = tokio::join!(Socket::connect(address), listener.accept());
    let mut theirs = theirs.unwrap().0;
    tokio::spawn(async move {
        for piece in pieces {
            theirs.set_nodelay(true).unwrap();
            // A response that is over closes the connection before the last piece.
            let _ = theirs.write_all(&piece).await;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    });
    let stream = TcpStream::from(ours.unwrap());
    Link::over(Box::new(stream)).unwrap()
}

/// Status, headers and body of a response, or the kind of the error.
type Read = Result<(u16, Vec<(String, Vec<u8>)>, Vec<u8>), String>;

fn told(error: &Error) -> String {
    format!("{:?} {:?}", error.etype(), error.retry)
}

async fn by_pingora(link: Box<Link>) -> Read {
    let mut session = Http1::new(link);
    loop {
        let read = session.read_response().await;
        read.map_err(|error| told(&error))?;
        if !session.resp_header().unwrap().status.is_informational() {
            break;
        }
    }
    let head = session.resp_header().unwrap();
    let head = (head.status.as_u16(), listed(&head.headers));
    let mut body = Vec::new();
    while let Some(piece) = session
        .read_body_bytes()
        .await
        .map_err(|error| told(&error))?
    {
        body.extend_from_slice(&piece);
    }
    Ok((head.0, head.1, body))
}

fn listed(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let field = |(name, value): (&HeaderName, &http::HeaderValue)| {
        (name.to_string(), value.as_bytes().to_vec())
    };
    headers.iter().map(field).collect()
}

async fn by_usual(link: Box<Link>, lends: bool) -> Read {
    let mut session = FastPath::new(link);
    let is_usual = session
        .read_head(false)
        .await
        .map_err(|error| told(&error))?;
    if !is_usual {
        return by_pingora(session.into_link()).await;
    }
    let (status, headers) = session.response().unwrap();
    let head = (status.as_u16(), listed(headers));
    let mut body = Vec::new();
    while !session.is_done() {
        if lends {
            let piece = session.read_slice().await.map_err(|error| told(&error))?;
            body.extend_from_slice(piece.unwrap());
        } else {
            let piece = session
                .read_piece(false)
                .await
                .map_err(|error| told(&error))?;
            body.extend_from_slice(&piece.unwrap());
        }
    }
    Ok((head.0, head.1, body))
}

#[tokio::test]
async fn every_response_is_read_as_pingora_reads_it() {
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\nX-A: {}\r\n\r\n{}",
        "a".repeat(9_000),
        "b".repeat(200_000)
    );
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX-A: \r\nx-a: \x08\t2 \r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX-A: \u{e4}  b\t\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\n\r\nto the end",
        "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
        "SSH-2.0-x\r\n\r\n",
        "",
        &long,
    ] {
        for cut in [
            0,
            1,
            16,
            30,
            response.len().saturating_sub(1),
            response.len(),
        ] {
            let (first, last) = response.as_bytes().split_at(cut.min(response.len()));
            let pieces = || {
                let pieces = [first, last].into_iter().filter(|piece| !piece.is_empty());
                pieces.map(<[u8]>::to_vec).collect()
            };
            let expected = by_pingora(answering(pieces()).await).await;
            for lends in [false, true] {
                let read = by_usual(answering(pieces()).await, lends).await;
                let shown = &response[..response.len().min(80)];
                assert_eq!(read, expected, "{shown:?} cut at {cut}");
            }
        }
    }
}

#[tokio::test]
async fn bytes_beyond_the_body_prevent_reuse() {
    let pieces = ["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "abcd"];
    let pieces = pieces.iter().map(|piece| piece.as_bytes().to_vec());
    let mut session = FastPath::new(answering(pieces.collect()).await);
    assert!(session.read_head(false).await.unwrap());
    assert_eq!(session.read_slice().await.unwrap(), Some(&b"abc"[..]));
    assert!(session.is_done() && session.has_surplus());
    let (_, is_reusable) = session.end();
    assert!(!is_reusable);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_a_head_or_not(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        let _ = parse(&bytes, false);
    }
}
