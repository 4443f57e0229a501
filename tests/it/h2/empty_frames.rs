//! Frames without data, on connections that many clients share.

use super::*;

#[test]
fn empty_data_frames_do_not_end_a_connection() {
    block_on(async {
        let gateway = grpc_gateway(backend().await, &[h2_endpoint("/flush", backend().await)]);
        let mut client = connect(gateway.port()).await;
        for _ in 0..150 {
            let request = ask(gateway.port(), "POST", "/flush", &[]);
            let (response, mut stream) = client.send_request(request, false).unwrap();
            for (piece, end) in [("", false), ("a", false), ("", false), ("", true)] {
                let piece = Bytes::from_static(piece.as_bytes());
                // The backend may respond before, which ends the stream (RFC 9113 section 8.1).
                let _ = stream.send_data(piece, end);
            }
            let told = read(response.await.unwrap()).await;
            assert_eq!((told.status.as_u16(), &*told.body), (200, &b"body"[..]));
        }
    });
}
