//! How much a server may send before the client reads it.

use super::*;

/// A server whose `/long` sends more than any window, on as many connections as it is asked for.
async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let body = respond.send_response(http::Response::new(()), false);
                    let pieces = if request.uri().path() == "/long" {
                        64
                    } else {
                        1
                    };
                    tokio::spawn(send(body.unwrap(), pieces));
                }
            });
        }
    });
    (address, connections)
}

/// Sends this many pieces of a megabyte. The library keeps what the window does not allow.
async fn send(mut body: h2::SendStream<Bytes>, pieces: usize) {
    for number in 1..=pieces {
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        if body.send_data(piece, number == pieces).is_err() {
            return;
        }
    }
    std::future::poll_fn(|cx| body.poll_reset(cx)).await.ok();
}

#[tokio::test]
async fn unread_streams_do_not_stop_the_others_of_their_connection() {
    let (address, connections) = server().await;
    let settings = Settings {
        http_version: HttpVersion::H2,
        ..Settings::default()
    };
    let hosts = HostSet::fixed(&client(settings), &[format!("http://{address}")]);
    let mut unread = Vec::new();
    for _ in 0..4 {
        let mut exchange = hosts.open(get("/long"), RequestBody::Empty).await.unwrap();
        exchange.read_header().await.unwrap();
        unread.push(exchange);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..3 {
        let limit = Duration::from_secs(20);
        let response = tokio::time::timeout(limit, hosts.call(get("/short"), &OPTIONS)).await;
        let response = response.expect("the others are stopped").unwrap();
        assert_eq!(response.body.len(), 1 << 20);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
