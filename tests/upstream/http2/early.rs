//! Responses that begin before the end of their requests.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use portcullis::internals::upstream::RequestBody;

use super::{Does, Server, says};
use crate::stub::{OPTIONS, call};

/// RFC 9113 §8.1: a response may be complete before its request is, and must not be discarded.
#[tokio::test]
async fn a_response_that_comes_before_the_end_of_the_request_ends_the_upload() {
    for (index, status) in [(8, 200), (12, 400), (14, 500)] {
        let server = Server::start(move |_, _| Does::EarlyResponse(index)).await;
        let hosts = server.hosts();
        let limit = Duration::from_secs(20);
        let whole = call(Method::POST, "/", &[], &"x".repeat(300 << 10));
        let came = tokio::time::timeout(limit, hosts.call(whole, &OPTIONS)).await;
        let came = came.expect("the response came early").unwrap();
        assert_eq!(
            (came.status.as_u16(), &came.body[..]),
            (status, &b"early"[..])
        );

        let head = call(Method::POST, "/", &[], "");
        let mut exchange = hosts.open(head, RequestBody::Chunked).await.unwrap();
        let came = tokio::time::timeout(limit, async {
            let mut written = 0;
            while !exchange.is_backed_up() && written < 10 {
                let piece = Bytes::from(vec![b'x'; 50 << 10]);
                if exchange.write_body(piece, false).await.is_err() {
                    break;
                }
                written += 1;
            }
            assert_eq!(exchange.read_header().await.unwrap().0, status);
            exchange.read_body().await.unwrap()
        });
        let came = came.await.expect("the response came early");
        assert_eq!(came.as_deref(), Some(&b"early"[..]));
    }
}

#[tokio::test]
async fn an_upload_continues_while_its_response_is_read() {
    let server = Server::start(|_, _| Does::EarlyHead).await;
    let body = "x".repeat(300 << 10);
    let response = says(&server.hosts(), Method::POST, &body).await;
    assert_eq!(response.unwrap(), "late");
    assert_eq!(server.bodies(), [body.into_bytes()]);
}
