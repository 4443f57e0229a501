//! SRV records from a name server of the test's own.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use http::HeaderMap;
use portcullis::internals::upstream::{Call, Client, DnsTable, HostRules, HostSet, Settings};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::stub::{OPTIONS, Stub, get};

/// Priority, weight and port of a target on `localhost`.
type Record = (u16, u16, u16);

/// Answers each SRV question with its records, with SERVFAIL once it has none, and with nothing at all when the name
/// begins with `hang`.
#[derive(Default)]
struct NameServer {
    records: Mutex<Vec<Record>>,
    /// The address of every name, and its time to live in seconds. At 0, names are looked up every second.
    address: Mutex<Option<Ipv4Addr>>,
    ttl: AtomicU8,
    /// How often it was asked for names that it answers, and for others.
    asked: [AtomicUsize; 2],
}

impl NameServer {
    /// Starts it; its port comes along.
    async fn start(records: Vec<Record>) -> (Arc<Self>, u16) {
        let server = Arc::new(Self {
            records: Mutex::new(records),
            ..Self::default()
        });
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let answering = Arc::clone(&server);
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((size, from)) = socket.recv_from(&mut question).await {
                let hangs = question[13..].starts_with(b"hang");
                answering.asked[usize::from(hangs)].fetch_add(1, Ordering::SeqCst);
                if !hangs {
                    let question = &question[..size];
                    let response = match question[size_of_name(question) + 1] {
                        33 => respond(question, &answering.records.lock().unwrap()),
                        kind => {
                            let address = *answering.address.lock().unwrap();
                            let ttl = answering.ttl.load(Ordering::SeqCst);
                            resolve(question, kind, address.map(|address| (address, ttl)))
                        }
                    };
                    socket.send_to(&response, from).await.unwrap();
                }
            }
        });
        (server, port)
    }

    fn asked(&self) -> [usize; 2] {
        [0, 1].map(|which| self.asked[which].load(Ordering::SeqCst))
    }

    async fn asked_at_least(&self, times: usize) {
        let limit = Duration::from_secs(30);
        let enough = async {
            while self.asked()[0] < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(limit, enough).await.unwrap();
    }
}

/// Keeps the table fresh, as the gateway's background service does.
fn keep(dns: &Arc<DnsTable>) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (stop, stopped) = watch::channel(false);
    let dns = Arc::clone(dns);
    (stop, tokio::spawn(async move { dns.run(stopped).await }))
}

/// Where the name in a question ends.
fn size_of_name(question: &[u8]) -> usize {
    12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 1
}

/// Answers a question for addresses; there are none of IPv6.
fn resolve(question: &[u8], kind: u8, address: Option<(Ipv4Addr, u8)>) -> Vec<u8> {
    let address = address.filter(|_| kind == 1);
    let mut response = question[..2].to_vec();
    response.extend([0x81, 0x80, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    response.extend(&question[12..size_of_name(question) + 4]);
    if let Some((address, ttl)) = address {
        response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4]);
        response.extend(address.octets());
    }
    response
}

fn respond(question: &[u8], records: &[Record]) -> Vec<u8> {
    let name_end = size_of_name(question);
    let mut response = question[..2].to_vec();
    let flags: u16 = if records.is_empty() { 0x8182 } else { 0x8180 };
    response.extend(flags.to_be_bytes());
    response.extend(1_u16.to_be_bytes());
    response.extend(u16::try_from(records.len()).unwrap().to_be_bytes());
    response.extend([0; 4]);
    response.extend(&question[12..name_end + 4]);
    for (priority, weight, port) in records {
        response.extend([0xc0, 12]);
        // Worth keeping for 300 seconds, by its own word.
        response.extend([0, 33, 0, 1, 0, 0, 1, 44]);
        response.extend(17_u16.to_be_bytes());
        for number in [priority, weight, port] {
            response.extend(number.to_be_bytes());
        }
        response.extend(b"\x09localhost\x00");
    }
    response
}

pub(crate) fn table(port: u16) -> Arc<DnsTable> {
    let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
    server.connections[0].port = port;
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().attempts = 1;
    Arc::new(DnsTable::with_resolver(Some(builder)))
}

#[tokio::test]
async fn calls_follow_srv_records_and_outlive_their_name_server() {
    let (a, b, worse) = (
        Stub::saying("a").await,
        Stub::saying("b").await,
        Stub::saying("worse").await,
    );
    let (server, port) = NameServer::start(vec![
        (1, 20, a.address.port()),
        (1, 10, b.address.port()),
        (9, 10, worse.address.port()),
    ])
    .await;
    let dns = table(port);
    let client = Client::new(Settings::default(), Arc::clone(&dns)).unwrap();
    let refresh = Duration::from_secs(1);
    let hosts = HostSet::service(&client, "_http._tcp.svc.test", "http", refresh);
    for _ in 0..6 {
        hosts.call(get("/"), &OPTIONS).await.unwrap();
    }
    let counts = [&a, &b, &worse].map(|stub| stub.seen().len());
    assert_eq!(counts, [4, 2, 0]);

    server.records.lock().unwrap().clear();
    let (stop, keeper) = keep(&dns);
    server.asked_at_least(2).await;
    assert!(hosts.call(get("/"), &OPTIONS).await.is_ok());
    stop.send(true).unwrap();
    keeper.await.unwrap();
}

#[tokio::test]
async fn names_are_looked_up_before_the_first_call_and_as_often_as_configured() {
    let (old, new) = (Stub::saying("old").await, Stub::saying("new").await);
    let (server, port) = NameServer::start(vec![(1, 1, old.address.port())]).await;
    let dns = table(port);
    let client = Client::new(Settings::default(), Arc::clone(&dns)).unwrap();
    let second = Duration::from_secs(1);
    let hosts = HostSet::service(&client, "_http._tcp.svc.test", "http", second);
    let _keeper = keep(&dns);
    server.asked_at_least(1).await;
    hosts.call(get("/"), &OPTIONS).await.unwrap();
    assert_eq!(old.seen().len(), 1);

    // Twice more: the answer to the first may have been the old one.
    *server.records.lock().unwrap() = vec![(1, 1, new.address.port())];
    let asked = server.asked()[0];
    server.asked_at_least(asked + 2).await;
    hosts.call(get("/"), &OPTIONS).await.unwrap();
    assert_eq!(new.seen().len(), 1);
}

#[tokio::test]
async fn a_name_that_hangs_holds_up_no_other() {
    let (server, port) = NameServer::start(vec![(1, 1, 80)]).await;
    let dns = table(port);
    let client = Client::new(Settings::default(), Arc::clone(&dns)).unwrap();
    let second = Duration::from_secs(1);
    let _hosts = ["hang.test", "_http._tcp.svc.test"]
        .map(|name| HostSet::service(&client, name, "http", second));
    let _keeper = keep(&dns);
    server.asked_at_least(4).await;
    let [answered, hung] = server.asked();
    assert!(hung > 0 && hung < answered, "{hung} and {answered}");
}

#[tokio::test]
async fn an_srv_name_without_records_has_no_hosts() {
    let dns = table(NameServer::start(Vec::new()).await.1);
    let client = Client::new(Settings::default(), dns).unwrap();
    let hosts = HostSet::service(&client, "_http._tcp.none.test", "http", Duration::ZERO);
    let error = hosts.call(get("/"), &OPTIONS).await.unwrap_err();
    assert_eq!(error.to_string(), "no hosts available");
}

#[tokio::test]
async fn a_name_follows_its_record_although_the_old_address_still_responds() {
    let old = Stub::saying("old").await;
    let port = old.address.port();
    // The same port on another address of this machine.
    let new = Stub::at(format!("127.0.0.2:{port}"), "new").await;
    let (server, name_server) = NameServer::start(Vec::new()).await;
    *server.address.lock().unwrap() = Some(Ipv4Addr::LOCALHOST);
    let dns = table(name_server);
    let client = Client::new(Settings::default(), Arc::clone(&dns)).unwrap();
    let hosts = HostSet::fixed(&client, &[format!("http://svc.test:{port}")]);
    let _keeper = keep(&dns);
    assert_eq!(&*hosts.call(get("/"), &OPTIONS).await.unwrap().body, b"old");
    *server.address.lock().unwrap() = Some(Ipv4Addr::new(127, 0, 0, 2));
    let followed = async {
        while hosts.call(get("/"), &OPTIONS).await.unwrap().body != "new" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), followed)
        .await
        .unwrap();
    assert!(!new.seen().is_empty());
}

#[tokio::test]
async fn a_name_that_no_longer_exists_keeps_its_last_address() {
    let stub = Stub::saying("still there").await;
    let (server, name_server) = NameServer::start(Vec::new()).await;
    *server.address.lock().unwrap() = Some(Ipv4Addr::LOCALHOST);
    let dns = table(name_server);
    let client = Client::new(Settings::default(), Arc::clone(&dns)).unwrap();
    let url = format!("http://svc.test:{}", stub.address.port());
    let hosts = HostSet::fixed(&client, &[url]);
    let _keeper = keep(&dns);
    hosts.call(get("/"), &OPTIONS).await.unwrap();
    *server.address.lock().unwrap() = None;
    let asked = server.asked()[0];
    server.asked_at_least(asked + 2).await;
    assert!(hosts.call(get("/"), &OPTIONS).await.is_ok());
}

/// A listener that accepts nothing itself: the kernel completes this many connections, and ignores further ones.
fn silent(connections: u32) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(connections).unwrap()
}

/// Connects until no further connection is completed.
async fn fill(listener: &TcpListener) -> Vec<TcpStream> {
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    let wait = Duration::from_millis(200);
    while let Ok(connected) = tokio::time::timeout(wait, TcpStream::connect(address)).await {
        held.push(connected.unwrap());
    }
    held
}

/// How a name is called.
#[derive(Clone, Copy)]
enum Kind {
    Call,
    Handshake,
}

/// Waits for a response of the new address of a name, much less long than its record may be kept.
async fn follows_from(old: &TcpListener, kind: Kind) {
    let port = old.local_addr().unwrap().port();
    let _new = Stub::at(format!("127.0.0.2:{port}"), "new").await;
    let (server, name_server) = NameServer::start(Vec::new()).await;
    server.ttl.store(200, Ordering::SeqCst);
    *server.address.lock().unwrap() = Some(Ipv4Addr::LOCALHOST);
    let dns = table(name_server);
    let client = Client::new(Settings::default(), Arc::clone(&dns)).unwrap();
    let timeout = Duration::from_millis(500);
    let hosts = HostSet::fixed(&client, &[format!("http://svc.test:{port}")]);
    let hosts = hosts.ruled(HostRules {
        timeout: Some(timeout),
        ..HostRules::default()
    });
    let _keeper = keep(&dns);
    // Whether there is a response. The stub rejects handshakes, which is one.
    let responds = async || {
        let called = async {
            match kind {
                Kind::Call => hosts.call(get("/"), &OPTIONS).await.is_ok(),
                Kind::Handshake => {
                    let none = HeaderMap::new();
                    hosts.upgrade(Call::whole(get("/")), &none).await.is_ok()
                }
            }
        };
        tokio::time::timeout(timeout, called).await.unwrap_or(false)
    };
    assert!(!responds().await);
    *server.address.lock().unwrap() = Some(Ipv4Addr::new(127, 0, 0, 2));
    let followed = async {
        while !responds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), followed)
        .await
        .expect("the name was not looked up again");
}

#[tokio::test]
async fn a_name_whose_address_swallows_connections_is_looked_up_at_once() {
    let old = silent(0);
    let _held = fill(&old).await;
    follows_from(&old, Kind::Call).await;
}

#[tokio::test]
async fn a_name_whose_address_never_responds_is_looked_up_at_once() {
    follows_from(&silent(128), Kind::Call).await;
}

#[tokio::test]
async fn a_name_whose_address_swallows_websockets_is_looked_up_at_once() {
    let old = silent(0);
    let _held = fill(&old).await;
    follows_from(&old, Kind::Handshake).await;
}

#[tokio::test]
async fn a_name_whose_address_never_answers_handshakes_is_looked_up_at_once() {
    follows_from(&silent(128), Kind::Handshake).await;
}
