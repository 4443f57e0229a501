//! Calls through a proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Method;
use portcullis::internals::upstream::{
    CallErrorKind, Client, DnsTable, HostSet, HttpVersion, Proxies, Settings,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::stub::{OPTIONS, Reply, Stub, call, dead_port, get};

/// Connects everybody to the same host, or says what it is told, and remembers the heads.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(to: SocketAddr, response: &'static str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            heads: Arc::default(),
        };
        let heads = Arc::clone(&proxy.heads);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let heads = Arc::clone(&heads);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await.unwrap());
                    }
                    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                    client.write_all(response.as_bytes()).await.unwrap();
                    let mut host = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut host).await;
                });
            }
        });
        proxy
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

const OPEN: &str = "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n";

fn hosts(proxy: &str, version: HttpVersion, host: &str) -> HostSet {
    let settings = Settings {
        http_version: version,
        proxies: Proxies::always(proxy).unwrap(),
        ..Settings::default()
    };
    let client = Client::new(settings, Arc::new(DnsTable::default())).unwrap();
    HostSet::fixed(&client, &[host])
}

#[tokio::test]
async fn a_proxy_gets_the_whole_url_and_our_credentials() {
    let proxy = Stub::saying("by the proxy").await;
    let url = format!("http://us:secret@{}", proxy.address);
    let hosts = hosts(&url, HttpVersion::H1, "http://backend.invalid:8000");
    for method in [Method::GET, Method::POST] {
        let out = call(method, "/x?a=1", &[("x-a", "1")], "");
        let incoming = hosts.call(out, &OPTIONS).await.unwrap();
        assert_eq!(&*incoming.body, b"by the proxy");
    }
    let seen = &proxy.seen()[0];
    assert_eq!(seen.path(), "http://backend.invalid:8000/x?a=1");
    assert!(
        seen.has("Host: backend.invalid:8000") && seen.has("X-A: 1"),
        "{}",
        seen.head
    );
    assert!(
        seen.has("Proxy-Authorization: Basic dXM6c2VjcmV0"),
        "{}",
        seen.head
    );
    assert_eq!(proxy.connections(), 1, "connections to a proxy are kept");
}

#[tokio::test]
async fn a_proxy_opens_a_tunnel_for_http2_and_for_other_protocols() {
    let host = Stub::saying("x").await;
    let proxy = Proxy::start(host.address, OPEN).await;
    let url = format!("http://us:secret@{}", proxy.address);
    let plain = hosts(&url, HttpVersion::H1, "http://backend.invalid");
    let (session, target) = plain.dial().await.unwrap();
    assert_eq!(target.authority, "backend.invalid");
    drop(session);
    let http2 = hosts(&url, HttpVersion::H2, "http://backend.invalid:81");
    // The stub speaks no HTTP/2, but this far it comes.
    assert!(http2.call(get("/"), &OPTIONS).await.is_err());
    let heads = proxy.heads();
    assert!(
        heads[0].starts_with("CONNECT backend.invalid:80 HTTP/1.1\r\nHost: backend.invalid:80\r\n")
    );
    assert!(heads[0].contains("\r\nProxy-Authorization: Basic dXM6c2VjcmV0\r\n"));
    assert!(
        heads[1].starts_with("CONNECT backend.invalid:81 HTTP/1.1\r\n"),
        "{heads:?}"
    );
}

#[tokio::test]
async fn a_failing_proxy_is_named_without_its_password() {
    let rejecting = Proxy::start(
        dead_port().await,
        "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
    )
    .await;
    let dead = dead_port().await;
    for (at, text) in [
        (
            rejecting.address,
            "407 Proxy Authentication Required".to_owned(),
        ),
        (
            dead,
            format!("dial tcp {dead}: connect: connection refused"),
        ),
    ] {
        let url = format!("http://us:secret@{at}");
        let hosts = hosts(&url, HttpVersion::H1, "https://backend.invalid");
        let error = hosts.call(get("/"), &OPTIONS).await.unwrap_err();
        assert!(matches!(error.kind, CallErrorKind::Connect(_)));
        let expected = format!("Get \"https://backend.invalid/\": proxyconnect tcp: {text}");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn a_forward_proxy_that_wants_another_password_is_a_failure() {
    let text = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno";
    let rejecting = Stub::start(|_| Reply::Keep(text.into())).await;
    let url = format!("http://us:secret@{}", rejecting.address);
    let hosts = hosts(&url, HttpVersion::H1, "http://backend.invalid:80");
    let error = hosts.call(get("/"), &OPTIONS).await.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::Connect(_)));
    let expected =
        "Get \"http://backend.invalid:80/\": proxyconnect tcp: 407 Proxy Authentication Required";
    assert_eq!(error.to_string(), expected);
    // The same status of a backend is a response.
    let client = Client::new(Settings::default(), Arc::new(DnsTable::default())).unwrap();
    let direct = HostSet::fixed(&client, &[&format!("http://{}", rejecting.address)]);
    let incoming = direct.call(get("/"), &OPTIONS).await.unwrap();
    assert_eq!(incoming.status, 407);
}

#[tokio::test]
async fn socks_carries_plain_requests() {
    let host = Stub::saying("behind socks").await;
    let to = host.address;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 4];
        client.read_exact(&mut greeting).await.unwrap();
        client.write_all(&[5, 2]).await.unwrap();
        let mut user = [0; 11];
        client.read_exact(&mut user).await.unwrap();
        client.write_all(&[1, 0]).await.unwrap();
        let mut request = [0; 22];
        client.read_exact(&mut request).await.unwrap();
        client
            .write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80])
            .await
            .unwrap();
        let mut host = TcpStream::connect(to).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut host).await });
        (greeting, user, request)
    });
    let url = format!("socks5://us:secret@{address}");
    let hosts = hosts(&url, HttpVersion::H1, "http://backend.invalid:9");
    let incoming = hosts.call(get("/x"), &OPTIONS).await.unwrap();
    assert_eq!(&*incoming.body, b"behind socks");
    assert_eq!(host.seen()[0].path(), "/x");
    let (greeting, user, request) = proxy.await.unwrap();
    assert_eq!(greeting, [5, 2, 0, 2]);
    assert_eq!(&user, b"\x01\x02us\x06secret");
    assert_eq!(&request, b"\x05\x01\x00\x03\x0fbackend.invalid\x00\x09");
}
