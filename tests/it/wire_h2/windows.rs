//! Streams of one connection, which may belong to different clients of a proxy.

use bytes::Bytes;

use super::*;
use crate::support::pause;

/// The backend of one stream does not read its body. Another stream of the connection still gets a response.
#[test]
fn an_unread_body_does_not_stop_the_other_streams() {
    let backend = Upstream::start(|mut call| {
        if call.head.starts_with("POST /stuck") {
            pause(Duration::from_secs(60));
            return Ok(());
        }
        call.body()?;
        call.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    });
    let endpoint = |path: &str| {
        json!({ "endpoint": path, "method": "POST", "output_encoding": "no-op", "timeout": "60s",
            "backend": [{ "host": [backend.url()], "url_pattern": path, "method": "POST",
                "encoding": "no-op" }] })
    };
    let file = json!({ "version": 3, "use_h2c": true,
        "extra_config": { "portcullis/limits": { "buffered": "4GiB" } },
        "endpoints": [endpoint("/stuck"), endpoint("/other")] });
    let gateway = Gateway::start(&file.to_string());
    let port = gateway.port();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let status = runtime.block_on(async move {
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .unwrap();
        let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let post = |path: &str| {
            let url = format!("http://gw{path}");
            http::Request::post(url).body(()).unwrap()
        };
        let (_response, mut stuck) = client.send_request(post("/stuck"), false).unwrap();
        // Until the buffers of the system and the window of the stream are full.
        loop {
            stuck.reserve_capacity(16 * 1024);
            let capacity = std::future::poll_fn(|cx| stuck.poll_capacity(cx));
            let waited = tokio::time::timeout(Duration::from_secs(1), capacity).await;
            let Ok(Some(Ok(capacity))) = waited else {
                break;
            };
            stuck
                .send_data(Bytes::from(vec![0; capacity]), false)
                .unwrap();
        }
        let (response, mut other) = client.send_request(post("/other"), false).unwrap();
        other.send_data(Bytes::from_static(b"{}"), true).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(20), response).await;
        response.expect("it is stopped").unwrap().status()
    });
    assert_eq!(status, 200);
}
