//! Clients that are silent within a body.

use crate::support::pause;

use super::*;

/// Endpoints that read bodies in every way, with this time for a silence.
fn gateway(stub: &Stub, silence: &str, streamed: u16) -> Gateway {
    let to = |extra: Value| json!({ "host": [stub.url()], "url_pattern": "/json", "method": "POST", "extra_config": extra });
    let plain = || to(json!({}));
    let endpoint = |path: &str, encoding: &str, backends: Value, extra: Value| {
        json!({ "endpoint": path, "method": "POST", "output_encoding": encoding, "backend": backends,
            "extra_config": extra })
    };
    let script = json!({ "pre": "local r = request.load(); r:body(r:body())" });
    let query = json!({ "type": "mutation", "query": "mutation { a }" });
    let endpoints = [
        endpoint("/one", "json", json!([plain()]), json!({})),
        endpoint("/two", "json", json!([plain(), plain()]), json!({})),
        endpoint(
            "/kept",
            "no-op",
            json!([to(
                json!({ "backend/http/client": { "send_body_on_redirect": true } })
            )]),
            json!({}),
        ),
        endpoint("/stream", "no-op", json!([plain()]), json!({})),
        endpoint(
            "/lua",
            "json",
            json!([plain()]),
            json!({ "modifier/lua-proxy": script }),
        ),
        endpoint(
            "/graphql",
            "json",
            json!([to(json!({ "backend/graphql": query }))]),
            json!({}),
        ),
        endpoint(
            "/schema",
            "json",
            json!([plain()]),
            json!({ "validation/json-schema": { "type": "object" } }),
        ),
        h2_endpoint("/chat", streamed),
    ];
    let file = json!({
        "version": 3, "use_h2c": true, "timeout": "30s", "read_timeout": silence, "endpoints": endpoints
    });
    Gateway::start(&file.to_string())
}

#[test]
fn a_client_that_is_silent_in_its_body_gets_408_and_its_stream_alone_is_reset() {
    block_on(async {
        let stub = Stub::with(
            r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#,
        );
        let gateway = gateway(&stub, "300ms", backend().await);
        let mut client = connect(gateway.port()).await;
        for path in [
            "/one", "/two", "/kept", "/stream", "/lua", "/graphql", "/schema",
        ] {
            for begun in [true, false] {
                let fields: &[_] = if begun {
                    &[("content-length", "10")]
                } else {
                    &[]
                };
                let request = ask(gateway.port(), "POST", path, fields);
                let (response, mut stream) = client.send_request(request, false).unwrap();
                if begun {
                    stream.send_data(Bytes::from_static(b"{"), false).unwrap();
                }
                let told = read(response.await.unwrap()).await;
                assert_eq!(told.status, 408, "{path}: {}", gateway.output());
                let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                assert_eq!(reset.unwrap(), h2::Reason::NO_ERROR, "{path}");
            }
        }
        let request = ask(gateway.port(), "POST", "/stream", &[]);
        let (response, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"{}"), true).unwrap();
        assert_eq!(read(response.await.unwrap()).await.status, 200);
    });
}

#[test]
fn once_the_response_has_begun_a_client_may_be_silent() {
    block_on(async {
        let stub = Stub::with("[{}]");
        let gateway = gateway(&stub, "2s", backend().await);
        let mut client = connect(gateway.port()).await;
        let request = ask(gateway.port(), "POST", "/chat", &[GRPC]);
        let (response, mut stream) = client.send_request(request, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        for message in ["one", "two"] {
            pause(Duration::from_millis(2500));
            stream.send_data(Bytes::from(message), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), message);
        }
    });
}
