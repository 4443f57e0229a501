//! What a call waited for, if a deadline or a limit of its own ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis::internals::upstream::{
    CallErrorKind, Client, ConnectFailure, HostSet, HttpVersion, Outgoing, Proxies, Settings, Wait,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::discovery::table;
use crate::stub::{OPTIONS, client, get};

const SHORT: Duration = Duration::from_millis(300);

/// A peer that accepts, sends `first` after the first bytes it got, and nothing more.
async fn peer(first: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 1024];
            if !first.is_empty() && stream.read(&mut some).await.is_ok() {
                stream.write_all(first).await.unwrap();
            }
            open.push(stream);
        }
    });
    address
}

/// A peer that does not accept, and whose queue of connections is full: the system drops further ones.
async fn full() -> (SocketAddr, Vec<TcpStream>, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queue = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        queue.push(stream);
    }
    (address, queue, socket)
}

/// What the call waits for when it is cut.
async fn cut(set: &HostSet, out: Outgoing) -> Option<Wait> {
    let mut call = Box::pin(set.call(out, &OPTIONS));
    let done = tokio::time::timeout(SHORT, call.as_mut()).await;
    assert!(done.is_err(), "{:?}", done.unwrap());
    Wait::cut(call)
}

fn through(proxy: SocketAddr) -> Settings {
    Settings {
        proxies: Proxies::always(&format!("http://{proxy}")).unwrap(),
        ..Settings::default()
    }
}

fn http2() -> Settings {
    Settings {
        http_version: HttpVersion::H2,
        ..Settings::default()
    }
}

/// The settings of an HTTP/2 server, without any.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_wait_that_a_deadline_ends_has_its_name() {
    let silent = peer(b"").await;
    let (closed, _queue, _listening) = full().await;
    let names = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let dns = table(names.local_addr().unwrap().port());
    let named = Client::new(Settings::default(), dns).unwrap();
    let usual = || client(Settings::default());
    let cases: [(Wait, Arc<Client>, String); 8] = [
        (Wait::Dns, named, "http://backend.test:80".to_owned()),
        (Wait::Connect, usual(), format!("http://{closed}")),
        (
            Wait::Proxy,
            client(through(silent)),
            "https://backend.invalid".to_owned(),
        ),
        (Wait::Tls, usual(), format!("https://{silent}")),
        (Wait::Http2, client(http2()), format!("http://{silent}")),
        (
            Wait::Header,
            client(http2()),
            format!("http://{}", peer(SETTINGS).await),
        ),
        (Wait::Header, usual(), format!("http://{silent}")),
        (Wait::Body, usual(), format!("http://{}", peer(HALF).await)),
    ];
    for (want, client, host) in cases {
        let set = HostSet::fixed(&client, &[&host]);
        assert_eq!(cut(&set, get("/")).await, Some(want), "{host}");
    }
    // The host reads nothing of a large request.
    let mut large = get("/");
    large.method = http::Method::POST;
    large.body = vec![0; 64 << 20].into();
    let set = HostSet::fixed(&usual(), &[&format!("http://{silent}")]);
    assert_eq!(cut(&set, large).await, Some(Wait::Send));
}

#[tokio::test]
async fn each_limit_of_a_call_has_its_name() {
    let silent = peer(b"").await;
    let (closed, _queue, _listening) = full().await;
    let limited = |settings: Settings| {
        client(Settings {
            dialer_timeout: Some(SHORT),
            response_header_timeout: Some(SHORT),
            ..settings
        })
    };
    let connect = |wait| CallErrorKind::Connect(ConnectFailure::Timeout(wait));
    let cases = [
        (
            connect(Wait::Connect),
            limited(Settings::default()),
            format!("http://{closed}"),
        ),
        (
            connect(Wait::Proxy),
            limited(through(silent)),
            "https://backend.invalid".to_owned(),
        ),
        (
            connect(Wait::Tls),
            limited(Settings::default()),
            format!("https://{silent}"),
        ),
        (
            CallErrorKind::Late(Wait::Header),
            limited(Settings::default()),
            format!("http://{silent}"),
        ),
    ];
    for (want, client, host) in cases {
        let set = HostSet::fixed(&client, &[&host]);
        let error = set.call(get("/"), &OPTIONS).await.unwrap_err();
        assert_eq!(error.kind, want, "{error}");
    }
}
