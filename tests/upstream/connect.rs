//! Hosts that fail, and redirects.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use http::Method;
use portcullis::internals::upstream::{
    CallErrorKind, CallOptions, ConnectFailure, HostRules, HostSet, Redirects, RequestBody,
    Settings,
};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::stub::{OPTIONS, Reply, Stub, call, client, dead_port, get, ok, response};

/// An endpoint's timeout, which is longer than a machine stalls.
const TIMEOUT: Duration = Duration::from_secs(3);

fn patient() -> HostRules {
    HostRules {
        timeout: Some(TIMEOUT),
        ..HostRules::default()
    }
}

fn hosts(urls: &[String]) -> HostSet {
    HostSet::fixed(&client(Settings::default()), urls).ruled(patient())
}

/// Calls as often under the endpoint's timeout, and counts the calls that failed and those that took half of it.
async fn failed_and_slow(hosts: &HostSet, times: usize, method: Method) -> (usize, usize) {
    let (mut failed, mut slow) = (0, 0);
    for _ in 0..times {
        let began = Instant::now();
        let out = call(method.clone(), "/", &[], "");
        let response = tokio::time::timeout(TIMEOUT, hosts.call(out, &OPTIONS)).await;
        failed += usize::from(!matches!(response, Ok(Ok(_))));
        slow += usize::from(began.elapsed() > TIMEOUT / 2);
    }
    (failed, slow)
}

/// A host whose queue is full: the kernel drops further SYNs.
struct Swallowing {
    address: SocketAddr,
    _listener: StdListener,
    _waiting: Vec<Socket>,
}

impl Swallowing {
    fn start() -> Swallowing {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let listener = StdListener::from(socket);
        let address = listener.local_addr().unwrap();
        let waiting = (0..4).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        });
        Swallowing {
            address,
            _waiting: waiting.collect(),
            _listener: listener,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Resets each connection once a request has come.
async fn resetting() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 16]).await;
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    });
    url
}

#[tokio::test]
async fn hosts_that_swallow_connections_cost_a_share_of_the_timeout_and_only_once() {
    let (a, b) = (Stub::saying("a").await, Stub::saying("b").await);
    let (c, d) = (Swallowing::start(), Swallowing::start());
    let hosts = hosts(&[c.url(), a.url(), d.url(), b.url()]);
    let (failed, slow) = failed_and_slow(&hosts, 60, Method::GET).await;
    assert_eq!(failed, 0);
    assert!(slow <= 2, "{slow} of 60 calls were slow");
}

#[tokio::test]
async fn hosts_that_never_respond_are_skipped() {
    let (a, b) = (Stub::saying("a").await, Stub::saying("b").await);
    let (c, d) = (
        Stub::start(|_| Reply::Hang).await,
        Stub::start(|_| Reply::Hang).await,
    );
    let hosts = hosts(&[c.url(), a.url(), d.url(), b.url()]);
    let (failed, _) = failed_and_slow(&hosts, 40, Method::POST).await;
    // Two each: one alone may have been a slow request.
    assert!(failed <= 4, "{failed} of 40 calls failed");
    assert!(c.seen().len() <= 2 && d.seen().len() <= 2);
}

/// A response that announces more than it has.
fn half() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec()
}

#[tokio::test]
async fn hosts_that_stop_within_their_bodies_are_skipped() {
    let (a, b) = (Stub::saying("a").await, Stub::saying("b").await);
    let (c, d) = (
        Stub::start(|_| Reply::Trickle(half(), vec![b'x'; 10], Duration::from_secs(20))).await,
        Stub::start(|_| Reply::Close(half())).await,
    );
    let hosts = hosts(&[c.url(), a.url(), d.url(), b.url()]);
    let (failed, _) = failed_and_slow(&hosts, 40, Method::GET).await;
    assert!(failed <= 4, "{failed} of 40 calls failed");
    assert!(c.seen().len() <= 2 && d.seen().len() <= 2);
}

#[tokio::test]
async fn a_host_whose_streams_break_off_is_skipped() {
    let good = Stub::saying("whole").await;
    let broken = Stub::start(|_| Reply::Close(half())).await;
    let hosts = hosts(&[broken.url(), good.url()]);
    let mut failed = 0;
    for _ in 0..20 {
        let mut stream = hosts.open(get("/"), RequestBody::Empty).await.unwrap();
        stream.read_header().await.unwrap();
        loop {
            match stream.read_body().await {
                Ok(Some(_)) => {}
                Ok(None) => break stream.release().await,
                Err(_) => break failed += 1,
            }
        }
    }
    assert_eq!(failed, 2);
}

#[tokio::test]
async fn hosts_that_reset_or_refuse_connections_are_skipped() {
    let (a, b) = (Stub::saying("a").await, Stub::saying("b").await);
    let dead = format!("http://{}", dead_port().await);
    let hosts = hosts(&[resetting().await, a.url(), dead, b.url()]);
    let (failed, slow) = failed_and_slow(&hosts, 40, Method::GET).await;
    assert!(failed <= 2, "{failed} of 40 calls failed");
    assert_eq!(slow, 0);
}

#[tokio::test]
async fn when_all_hosts_fail_all_are_tried() {
    let stub = Stub::start(|seen| match seen.connection {
        1..=4 => Reply::Close(Vec::new()),
        _ => Reply::Keep(ok("back")),
    })
    .await;
    let dead = format!("http://{}", dead_port().await);
    let hosts = hosts(&[dead, stub.url()]);
    let (failed, _) = failed_and_slow(&hosts, 10, Method::GET).await;
    assert_eq!(failed, 4, "it is called again as soon as it answers");
}

#[tokio::test]
async fn a_post_whose_connection_was_refused_goes_to_another_host() {
    let stub = Stub::saying("alive").await;
    let dead = format!("http://{}", dead_port().await);
    let hosts = hosts(&[dead, stub.url()]);
    for _ in 0..4 {
        let out = call(Method::POST, "/", &[], "once");
        assert!(hosts.call(out, &OPTIONS).await.is_ok());
    }
    let bodies: Vec<_> = stub.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, vec![b"once".to_vec(); 4], "each once");
}

#[tokio::test]
async fn a_client_that_closes_early_is_not_a_failure_of_the_host() {
    let slow = Stub::start(|_| Reply::Hang).await;
    let fast = Stub::saying("fast").await;
    let hosts = hosts(&[slow.url(), fast.url()]);
    for _ in 0..12 {
        let before = slow.seen().len();
        // The client closes as soon as the slow host has its request.
        let has_come = async {
            while slow.seen().len() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = hosts.call(get("/"), &OPTIONS) => {}
            () = has_come => {}
        }
    }
    assert_eq!(slow.seen().len(), 6, "it keeps its turn");
}

#[tokio::test]
async fn a_keep_alive_period_below_a_second_works() {
    let stub = Stub::saying("x").await;
    let settings = Settings {
        dialer_keep_alive: Some(Duration::from_millis(500)),
        ..Settings::default()
    };
    let hosts = HostSet::fixed(&client(settings), &[stub.url()]);
    assert!(hosts.call(get("/"), &OPTIONS).await.is_ok());
}

#[tokio::test]
async fn a_followed_redirect_keeps_its_connection() {
    let stub = Stub::start(|seen| {
        Reply::Keep(match seen.path() {
            "/a" => response(302, "Location: /b\r\n", "moved"),
            "/chunked" => b"HTTP/1.1 302 Found\r\nLocation: /b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
            _ => ok("here"),
        })
    })
    .await;
    let hosts = stub.hosts();
    for path in ["/a", "/chunked", "/a", "/chunked"] {
        let incoming = hosts.call(get(path), &OPTIONS).await.unwrap();
        assert_eq!(&*incoming.body, b"here");
    }
    assert_eq!(stub.connections(), 1);
}

#[tokio::test]
async fn a_307_keeps_the_content_type_and_a_302_does_not() {
    let stub = Stub::start(|seen| {
        Reply::Keep(match seen.path() {
            "/307" => response(307, "Location: /v\r\n", ""),
            "/302" => response(302, "Location: /v\r\n", ""),
            _ => ok("v"),
        })
    })
    .await;
    for path in ["/307", "/302"] {
        let out = call(Method::GET, path, &[("content-type", "text/x")], "");
        stub.hosts().call(out, &OPTIONS).await.unwrap();
    }
    let seen = stub.seen();
    assert!(seen[1].has("Content-Type: text/x"));
    assert!(!seen[3].head.contains("Content-Type"), "{}", seen[3].head);
}

#[tokio::test]
async fn rules_decide_whether_and_how_a_redirect_is_followed() {
    let other = Stub::saying("other").await;
    let away = format!("Location: {}/x\r\n", other.url());
    let stub = Stub::start(move |seen| {
        Reply::Keep(match seen.path() {
            "/here" => response(302, "Location: /x\r\n", ""),
            "/away" => response(307, &away, ""),
            _ => ok("x"),
        })
    })
    .await;
    let resending = CallOptions {
        send_body_on_redirect: true,
        ..OPTIONS
    };
    let client = client(Settings::default());
    let status = async |rules: HostRules, path: &str, body: &str| {
        let hosts = HostSet::fixed(&client, &[stub.url()]).ruled(rules);
        let out = call(
            Method::POST,
            path,
            &[("authorization", "x"), ("x-a", "1")],
            body,
        );
        hosts.call(out, &resending).await.unwrap().status.as_u16()
    };
    let with = |redirects| HostRules {
        redirects,
        ..HostRules::default()
    };
    assert_eq!(status(with(Redirects::None), "/here", "").await, 302);
    assert_eq!(status(with(Redirects::SameOrigin), "/here", "").await, 200);
    assert_eq!(status(with(Redirects::SameOrigin), "/away", "").await, 307);
    assert_eq!(status(with(Redirects::Follow), "/away", "").await, 200);
    assert_eq!(status(with(Redirects::Follow), "/away", "body").await, 307);
    let open = HostRules {
        body_to_other_origins: true,
        ..HostRules::default()
    };
    assert_eq!(status(open, "/away", "body").await, 200);
    let seen = other.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].body, b"body");
    for seen in seen {
        assert!(
            seen.has("X-A: 1") && !seen.head.contains("Authorization"),
            "{}",
            seen.head
        );
    }
}

#[tokio::test]
async fn a_single_host_that_refuses_connections_is_an_error_at_once() {
    let dead = format!("http://{}", dead_port().await);
    let error = hosts(&[dead]).call(get("/"), &OPTIONS).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Connect(ConnectFailure::Refused));
}
