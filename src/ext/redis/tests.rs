use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::Method;
use smallvec::{SmallVec, smallvec};

use super::{
    Ask, ListAsk, ListPlace, SERVICE, Server as RedisServer, Shared, SharedStore, SharedVerdict,
    Store, StoreOptions, Taken,
};
use crate::ext::rate_limit::{Rate, Verdict};
use crate::ext::testing::File;
use crate::runtime::clock::Clock;

/// A Redis server on its own port, killed at the end of the test.
struct Server {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// `None`, with a message, if Redis is not installed. This never happens on a build machine.
    fn start() -> Option<Server> {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let spawned = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .args(["--requirepass", "secret", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn();
        let process = match spawned {
            Ok(process) => process,
            Err(error) if std::env::var("CI").as_deref() == Ok("true") => {
                panic!("redis-server: {error}")
            }
            Err(error) => {
                eprintln!("skipped: redis-server: {error}");
                return None;
            }
        };
        let server = Server {
            process,
            port,
            _folder: folder,
        };
        server.wait_until_it_listens();
        Some(server)
    }

    fn wait_until_it_listens(&self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "redis-server does not listen"
            );
            std::thread::yield_now();
        }
    }

    /// The number of its connections, including the one that asks.
    fn clients(&self) -> usize {
        let response = self.command(&["INFO", "clients"]);
        let count = response
            .lines()
            .find_map(|line| line.strip_prefix("connected_clients:"));
        count.unwrap().trim().parse().unwrap()
    }

    /// Sends one command on a connection of its own, and returns all that arrives.
    fn command(&self, words: &[&str]) -> String {
        let mut asking = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let lines = format!("AUTH secret\r\n{}\r\nQUIT\r\n", words.join(" "));
        asking.write_all(lines.as_bytes()).unwrap();
        let mut response = String::new();
        asking.read_to_string(&mut response).unwrap();
        response
    }

    fn url(&self) -> String {
        format!("redis://:secret@127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn store(url: &str, connections: usize, timeout: Duration, clock: Clock) -> Store {
    let server = RedisServer::from_url(url).unwrap();
    Store::new(server, StoreOptions::new(connections, timeout), clock)
}

/// A connected store with a timeout that suits a busy machine.
async fn connected(url: &str) -> Arc<Store> {
    let store = Arc::new(store(url, 2, Duration::from_secs(10), Clock::system()));
    connect(&store, &[ask("first", 1.0, 1)]).await;
    store
}

/// Connects, and repeats this query until there is a response.
async fn connect(store: &Arc<Store>, asks: &[Ask]) {
    let connecting = Arc::clone(store);
    tokio::spawn(async move { connecting.connect().await });
    responds(store, asks).await;
}

async fn responds(store: &Store, asks: &[Ask]) {
    let started = Instant::now();
    // The first query waits for the connection.
    while told(store.take(asks.into()).await).is_none() {
        assert!(started.elapsed() < Duration::from_secs(20), "no response");
        tokio::task::yield_now().await;
    }
}

fn told(taken: Taken) -> Option<SharedVerdict> {
    match taken {
        Taken::Verdict(verdict) => Some(verdict),
        Taken::Late(_) | Taken::Failed => None,
    }
}

fn ask(key: &str, per_second: f64, capacity: u64) -> Ask {
    Ask {
        key: key.to_owned(),
        rate: Rate::new(per_second, capacity),
        keep: Duration::from_secs(60),
    }
}

async fn passing(store: &Store, ask: &Ask) -> usize {
    for n in 0..100 {
        let verdict = told(store.take(smallvec![ask.clone()]).await).expect("an answer");
        if matches!(verdict.0[0], Verdict::Rejected { .. }) {
            return n;
        }
    }
    panic!("no limit")
}

#[tokio::test]
async fn several_gateways_share_one_bucket() {
    let Some(server) = Server::start() else {
        return;
    };
    let (one, two) = (
        connected(&server.url()).await,
        connected(&server.url()).await,
    );
    let shared = ask("a", 0.001, 3);
    let mut passed = 0;
    for store in [&one, &two, &one, &two, &one] {
        let verdict = told(store.take(smallvec![shared.clone()]).await).unwrap();
        passed += usize::from(matches!(verdict.0[0], Verdict::Allowed { .. }));
    }
    assert_eq!(passed, 3);
    assert_eq!(passing(&two, &ask("b", 0.001, 3)).await, 3);
}

#[tokio::test]
async fn a_shared_bucket_never_gives_more_than_its_capacity_and_its_rate() {
    let Some(server) = Server::start() else {
        return;
    };
    let store = connected(&server.url()).await;
    assert_eq!(passing(&store, &ask("idle", 0.001, 2)).await, 2);
    // One token is left of five, then the bucket is full again, and no more than that.
    let fast = ask("fast", 100.0, 5);
    for _ in 0..4 {
        told(store.take(smallvec![fast.clone()]).await).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let verdict = told(store.take(smallvec![fast]).await).unwrap();
    assert_eq!(verdict.0.to_vec(), [Verdict::Allowed { left: 4 }]);
    let slow = ask("slow", 0.001, 1);
    let both = || smallvec![slow.clone(), ask("other", 0.001, 5)];
    let first = told(store.take(both()).await).unwrap();
    assert_eq!(
        first.0.to_vec(),
        [Verdict::Allowed { left: 0 }, Verdict::Allowed { left: 4 }]
    );
    // A rejection by the first costs nothing in the second.
    let second = told(store.take(both()).await).unwrap();
    let [Verdict::Rejected { retry_after }] = second.0[..] else {
        panic!("{second:?}")
    };
    assert!(retry_after > Duration::from_secs(900) && retry_after <= Duration::from_secs(1000));
    assert_eq!(passing(&store, &ask("other", 0.001, 5)).await, 4);
}

fn list(add: &[String], after: Option<ListPlace>) -> ListAsk {
    ListAsk {
        key: "list".to_owned(),
        add: add.iter().map(|text| text.as_str().into()).collect(),
        only_missing: false,
        after,
        keep: Duration::from_secs(60),
    }
}

/// All that is in the list after this place, the last place, and the number of replies.
async fn read(
    store: &Store,
    mut after: Option<ListPlace>,
) -> (Vec<String>, Option<ListPlace>, usize) {
    let (mut found, mut replies) = (Vec::new(), 0);
    loop {
        let listed = store.list(list(&[], after.clone())).await.unwrap();
        found.extend(listed.elements);
        after = listed.place.or(after);
        replies += 1;
        if !listed.has_more {
            return (found, after, replies);
        }
    }
}

#[tokio::test]
async fn a_list_of_long_elements_is_returned_in_several_replies() {
    let Some(server) = Server::start() else {
        return;
    };
    let store = connected(&server.url()).await;
    let long = |n: usize| format!("{n:03}{}", "x".repeat(9_000));
    for n in 0..150 {
        store.list(list(&[long(n)], None)).await.unwrap();
    }
    let (found, _, replies) = read(&store, None).await;
    assert_eq!(found, (0..150).map(long).collect::<Vec<_>>());
    assert_eq!(replies, 3);
}

#[tokio::test]
async fn a_reader_of_a_list_gets_each_element_once_and_in_order() {
    let Some(server) = Server::start() else {
        return;
    };
    let store = connected(&server.url()).await;
    let names = |from: usize, to: usize| (from..to).map(|n| n.to_string()).collect::<Vec<_>>();
    store.list(list(&names(0, 5_001), None)).await.unwrap();
    let (found, place, replies) = read(&store, None).await;
    assert_eq!((found, replies), (names(0, 5_001), 3));
    let (found, place, replies) = read(&store, place).await;
    assert_eq!((found.len(), replies), (0, 1), "nothing is read again");
    // Smaller than the place, in the order of texts.
    let added = store
        .list(list(&names(10_000, 10_003), place.clone()))
        .await;
    assert_eq!(added.unwrap().elements, names(10_000, 10_003));
    // The element of the place is added again.
    store.list(list(&names(5_000, 5_001), None)).await.unwrap();
    let (found, place, _) = read(&store, place).await;
    assert_eq!(found, ["10000", "10001", "10002", "5000"]);
    let missing = ListAsk {
        only_missing: true,
        ..list(&names(4_999, 5_002), place)
    };
    let listed = store.list(missing).await.unwrap();
    assert_eq!((listed.added, listed.elements), (1, names(5_001, 5_002)));
    assert!(!listed.lost);
}

#[tokio::test]
async fn a_reader_of_a_list_that_has_lost_its_end_gets_all_of_it() {
    let Some(server) = Server::start() else {
        return;
    };
    let store = connected(&server.url()).await;
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| word.to_string())
            .collect::<Vec<_>>()
    };
    store.list(list(&words(&["a", "b"]), None)).await.unwrap();
    let (_, place, _) = read(&store, None).await;
    server.command(&["ZREM", "list", "b"]);
    let listed = store.list(list(&[], place.clone())).await.unwrap();
    assert_eq!((listed.lost, listed.elements), (true, words(&["a"])));
    server.command(&["DEL", "list"]);
    let listed = store.list(list(&[], place)).await.unwrap();
    assert_eq!((listed.lost, listed.place), (true, None));
}

#[tokio::test]
async fn the_order_of_a_list_survives_a_clock_that_is_set_back() {
    let Some(server) = Server::start() else {
        return;
    };
    let store = connected(&server.url()).await;
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| word.to_string())
            .collect::<Vec<_>>()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ahead = |time: u64| (u64::try_from(now.as_millis()).unwrap() + time).to_string();
    server.command(&["ZADD", "list", &ahead(60_000), "z"]);
    let (_, place, _) = read(&store, None).await;
    let listed = store.list(list(&words(&["b", "a"]), place)).await.unwrap();
    assert_eq!(listed.elements, words(&["b", "a"]));
    // So far ahead that it would be kept for long.
    server.command(&["ZADD", "list", &ahead(86_400_000), "far"]);
    let (_, place, _) = read(&store, None).await;
    let listed = store.list(list(&words(&["c"]), place)).await.unwrap();
    assert!(listed.lost);
    let mut all = listed.elements;
    all.sort();
    assert_eq!(all, words(&["a", "b", "c", "far", "z"]));
    let (_, place, _) = read(&store, None).await;
    assert_eq!(place.unwrap().element, "c", "the last one again");
}

#[tokio::test]
async fn a_flushed_script_is_loaded_again() {
    let Some(server) = Server::start() else {
        return;
    };
    let store = connected(&server.url()).await;
    let one = || smallvec![ask("a", 0.001, 9)];
    assert!(told(store.take(one()).await).is_some());
    let flushed = Command::new("redis-cli")
        .args([
            "-p",
            &server.port.to_string(),
            "-a",
            "secret",
            "--no-auth-warning",
        ])
        .args(["script", "flush"])
        .output();
    if flushed.is_ok_and(|output| output.status.success()) {
        assert!(told(store.take(one()).await).is_some());
    }
}

#[tokio::test]
async fn a_stalled_store_is_not_called_after_several_failures_and_a_silence() {
    let Some(server) = Server::start() else {
        return;
    };
    let clock = Clock::manual();
    let timeout = Duration::from_millis(20);
    let store = Arc::new(store(&server.url(), 1, timeout, clock.clone()));
    let one = || -> SmallVec<[Ask; 2]> { smallvec![ask("a", 0.001, 100)] };
    connect(&store, &one()).await;
    let signal = |name: &str| {
        let pid = server.process.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        assert!(sent.unwrap().success());
    };
    signal("-STOP");
    let mut late = Vec::new();
    for _ in 0..9 {
        match store.take(one()).await {
            Taken::Late(response) => late.push(response),
            _ => panic!("given up too early"),
        }
        assert!(store.is_ready(), "silent for no time at all");
    }
    assert_eq!(store.late_wait(), Duration::from_millis(500));
    clock.advance(Duration::from_millis(400));
    assert_eq!(store.silent_for(), Some(Duration::from_millis(400)));
    assert_eq!(store.late_wait(), Duration::from_millis(100));
    clock.advance(Duration::from_millis(100));
    assert!(matches!(store.take(one()).await, Taken::Failed));
    assert!(!store.is_ready());
    clock.advance(Duration::from_secs(1));
    assert!(store.is_ready(), "it is asked again from time to time");
    assert!(matches!(store.take(one()).await, Taken::Failed));
    assert!(!store.is_ready());
    signal("-CONT");
    // The query gets its response, which resets the state.
    assert!(late.pop().unwrap().await.is_some());
    assert!(store.is_ready());
    assert_eq!(store.silent_for(), None);
}

#[tokio::test]
async fn a_lost_connection_is_a_silence_until_the_next_response() {
    let Some(server) = Server::start() else {
        return;
    };
    let clock = Clock::manual();
    let timeout = Duration::from_secs(10);
    let store = Arc::new(store(&server.url(), 1, timeout, clock.clone()));
    let one = || -> SmallVec<[Ask; 2]> { smallvec![ask("a", 0.001, 100)] };
    connect(&store, &one()).await;
    assert_eq!(store.silent_for(), None);
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    let started = Instant::now();
    while store.silent_for().is_none() {
        assert!(started.elapsed() < Duration::from_secs(20), "not lost");
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_millis(400));
    // The beginning is rounded to a nanosecond, so that it is not 0.
    assert!(store.silent_for() >= Some(Duration::from_millis(399)) && store.is_reopening());
    // Late responses of the new connection are worth the whole wait.
    assert_eq!(store.late_wait(), Duration::from_millis(500));
    responds(&store, &one()).await;
    assert_eq!((store.silent_for(), store.is_reopening()), (None, false));
}

#[tokio::test]
async fn a_store_that_is_dropped_closes_its_connections() {
    let Some(server) = Server::start() else {
        return;
    };
    let store = connected(&server.url()).await;
    assert!(server.clients() > 1);
    drop(store);
    let started = Instant::now();
    while server.clients() > 1 {
        assert!(started.elapsed() < Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_unreachable_store_reports_the_reason() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.url().replace("secret", "geheim");
    let store = Arc::new(store(&url, 1, Duration::from_millis(5), Clock::system()));
    let connecting = Arc::clone(&store);
    tokio::spawn(async move { connecting.connect().await });
    let started = Instant::now();
    while !store.not_connected().contains("WRONGPASS") {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{}",
            store.not_connected()
        );
        tokio::task::yield_now().await;
    }
    assert!(!store.is_ready());
    assert!(!store.not_connected().contains("geheim"));
}

#[tokio::test]
async fn a_store_without_a_server_is_not_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("redis://127.0.0.1:{port}");
    drop(listener);
    let store = Arc::new(store(&url, 1, Duration::from_millis(5), Clock::system()));
    let connecting = Arc::clone(&store);
    tokio::spawn(async move { connecting.connect().await });
    // The first query waits for the failure, but no longer.
    let started = Instant::now();
    let taken = store.take(smallvec![ask("a", 1.0, 1)]).await;
    assert!(matches!(taken, Taken::Failed) && !store.is_ready());
    // It has no state to wait for: each gateway counts by itself.
    assert_eq!((store.silent_for(), store.is_reopening()), (None, false));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn keys_of_endpoints_are_distinct() {
    let mut file = File::new(r#"{"url": "redis://127.0.0.1:6379", "namespace": "a:b"}"#);
    file.service(&SERVICE);
    let shared = file.fact::<SharedStore>().unwrap();
    let prefix = shared.prefix(&Method::GET, "/a/{id}");
    assert_eq!(prefix, "portcullis:{a%3Ab:GET:/a/%7Bid%7D}:");
    assert_ne!(prefix, shared.prefix(&Method::GET, "/a/%7Bid%7D"));
    assert_eq!(file.into_tasks().len(), 1);
}

#[test]
fn an_invalid_address_stops_the_start_without_being_shown() {
    for block in ["{}", r#"{"url": "http://:geheim@x"}"#, r#"{"url": 7}"#] {
        let mut file = File::new(block);
        file.service(&SERVICE);
        assert_eq!(file.config_errors(), 1, "{block}");
        assert!(!file.findings().contains("geheim"));
    }
}
