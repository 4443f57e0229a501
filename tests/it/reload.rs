//! Reload and stop under load: no request is lost.

mod tls;

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Client, Gateway, Signer, Stub, Upstream, eventually, pause, ports, tokens};

const RESPONSES: &str = r#"[
    {"path": "/endless", "delay_ms": 60000, "headers": {"Content-Type": "application/json"}, "body": {"ok": true}},
    {"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}
]"#;

fn config(backend: &str, more: &[&str]) -> Value {
    let names = ["/a", "/endless"].iter().chain(more);
    let endpoint = |path: &&str| json!({ "endpoint": path, "timeout": "60s", "backend": [{ "host": [backend], "url_pattern": path }] });
    json!({ "version": 3, "endpoints": names.map(endpoint).collect::<Vec<_>>() })
}

/// Clients that send requests on kept-alive connections until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    workers: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(port: u16, clients: usize) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let workers = (0..clients)
            .map(|_| {
                let (stop, done) = (stop.clone(), done.clone());
                std::thread::spawn(move || ask(port, &stop, &done))
            })
            .collect();
        Self {
            stop,
            done,
            workers,
        }
    }

    fn requests(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// Waits until the clients have made this many more requests.
    fn go_on(&self, requests: usize) {
        let target = self.requests() + requests;
        eventually("the load goes on", Duration::from_secs(60), || {
            self.requests() >= target
        });
    }

    /// Stops the clients and returns their errors.
    fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.workers
            .into_iter()
            .flat_map(|w| w.join().unwrap())
            .collect()
    }
}

/// One client. It ends when told to, or when nothing listens any more.
fn ask(port: u16, stop: &AtomicBool, done: &AtomicUsize) -> Vec<String> {
    let mut lost = Vec::new();
    let mut kept: Option<Client> = None;
    while !stop.load(Ordering::SeqCst) {
        let reused = kept.is_some();
        let Some(mut client) = kept.take().or_else(|| Client::connect(port).ok()) else {
            break;
        };
        let response = client
            .send(request("GET", "/a", &[]))
            .and_then(|()| client.response("GET"));
        match response {
            Ok(response) if response.status == 200 && response.text().contains("true") => {
                done.fetch_add(1, Ordering::SeqCst);
                if response.header("connection") != Some("close") {
                    kept = Some(client);
                }
            }
            Ok(response) => lost.push(format!("status {}: {}", response.status, response.text())),
            // An idle connection may be closed at any time: nothing was lost, and the client tries again.
            Err(e) if reused && is_a_close(e.kind()) => {}
            // Accepted by the kernel and never by the process: only while it stops.
            Err(e) if is_a_close(e.kind()) && Client::connect(port).is_err() => break,
            Err(e) => lost.push(format!("no answer: {e}")),
        }
    }
    lost
}

fn is_a_close(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

fn status(gateway: &Gateway, path: &str) -> u16 {
    gateway.get(path).status
}

#[test]
fn a_reload_under_load_loses_nothing_and_takes_effect() {
    let stub = Stub::with(RESPONSES);
    let gateway = Gateway::start(&config(&stub.url(), &[]).to_string());
    assert_eq!(status(&gateway, "/b"), 404);
    let load = Load::start(gateway.port(), 8);
    for round in 0..5 {
        let extra: &[&str] = if round % 2 == 0 { &["/b"] } else { &[] };
        let want = if round % 2 == 0 { 200 } else { 404 };
        fs::write(
            gateway.config_path(),
            config(&stub.url(), extra).to_string(),
        )
        .unwrap();
        gateway.signal("HUP");
        eventually("the new file rules", Duration::from_secs(30), || {
            status(&gateway, "/b") == want
        });
        load.go_on(50);
    }
    assert_eq!(load.finish(), Vec::<String>::new());
}

#[test]
fn an_invalid_file_changes_nothing_and_is_reported() {
    let stub = Stub::with(RESPONSES);
    let gateway = Gateway::start(&config(&stub.url(), &[]).to_string());
    let load = Load::start(gateway.port(), 4);
    let mut negative = config(&stub.url(), &["/b"]);
    negative["timeout"] = json!("2 sec");
    for bad in ["{ \"version\": 3, ", &negative.to_string()] {
        let before = gateway.mark();
        fs::write(gateway.config_path(), bad).unwrap();
        gateway.signal("HUP");
        eventually("the refusal is told", Duration::from_secs(30), || {
            gateway
                .output_since(before)
                .to_lowercase()
                .contains("error")
        });
        load.go_on(50);
        assert_eq!(status(&gateway, "/b"), 404);
    }
    assert_eq!(load.finish(), Vec::<String>::new());
    // A valid one afterwards is applied.
    fs::write(
        gateway.config_path(),
        config(&stub.url(), &["/b"]).to_string(),
    )
    .unwrap();
    gateway.signal("HUP");
    eventually("the good file rules", Duration::from_secs(30), || {
        status(&gateway, "/b") == 200
    });
}

#[test]
fn a_rejected_reload_does_not_affect_the_next_one() {
    let signer = Signer::es256("k");
    let routes = json!([
        { "path": "/keys", "headers": { "Content-Type": "application/json" },
          "body": { "keys": [signer.jwk()] } },
        { "headers": { "Content-Type": "application/json" }, "body": { "ok": true } }
    ]);
    let stub = Stub::with(&routes.to_string());
    let gateway = Gateway::start(&config(&stub.url(), &[]).to_string());
    let mut guarded = config(&stub.url(), &["/b"]);
    guarded["endpoints"][2]["extra_config"] = json!({ "auth/validator": {
        "alg": "ES256", "audience": ["api"], "jwk_url": format!("{}/keys", stub.url()), "disable_jwk_security": true
    } });
    // The listener cannot change: rejected after key sets and their task were created.
    let mut moved = guarded.clone();
    moved["idle_timeout"] = json!("7s");
    fs::write(gateway.config_path(), moved.to_string()).unwrap();
    let before = gateway.mark();
    gateway.signal("HUP");
    eventually("the refusal is told", Duration::from_secs(30), || {
        gateway.output_since(before).contains("Reload rejected")
    });
    fs::write(gateway.config_path(), guarded.to_string()).unwrap();
    gateway.signal("HUP");
    let token = format!("Bearer {}", signer.token(&tokens::claims("api")));
    eventually("the keys are fetched", Duration::from_secs(30), || {
        let sent = [("Authorization", &*token)];
        gateway.get_with("/b", &sent).status == 200
    });
}

/// Starts a request and waits until the backend has it.
fn in_flight(gateway: &Gateway, stub: &Stub, path: &str) -> Client {
    let mut client = gateway.client();
    client.send(request("GET", path, &[])).unwrap();
    // The stub notes a request before it waits.
    eventually(
        "the backend has the request",
        Duration::from_secs(30),
        || stub.take_seen().iter().any(|seen| seen.path == path),
    );
    client
}

#[test]
fn a_stop_waits_for_the_request_in_flight_and_no_longer() {
    for signal in ["TERM", "INT"] {
        let stub = Stub::with(RESPONSES);
        // The slow backend responds when the test says so.
        let (respond, turn) = mpsc::channel::<()>();
        let turn = Mutex::new(turn);
        let slow = Upstream::start(move |mut call| {
            let turn = turn.lock().unwrap();
            turn.recv_timeout(Duration::from_secs(60))
                .map_err(std::io::Error::other)?;
            call.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        });
        let mut file = config(&stub.url(), &["/slow"]);
        file["endpoints"][2]["backend"][0]["host"] = json!([slow.url()]);
        let gateway = Gateway::start(&file.to_string());
        let mut idle = gateway.client();
        idle.send(request("GET", "/a", &[])).unwrap();
        assert_eq!(idle.response("GET").unwrap().status, 200);
        let mut client = gateway.client();
        client.send(request("GET", "/slow", &[])).unwrap();
        eventually("the backend has it", Duration::from_secs(30), || {
            slow.calls() == 1
        });
        gateway.signal(signal);
        eventually(
            "new connections are refused",
            Duration::from_secs(30),
            || Client::connect(gateway.port()).is_err(),
        );
        respond.send(()).unwrap();
        let response = client.response("GET").unwrap();
        assert_eq!(response.status, 200, "{signal}");
        // The request came before the signal, the response after it.
        assert_eq!(response.header("connection"), Some("close"), "{signal}");
        let start = Instant::now();
        let ended = gateway.wait(Duration::from_secs(30)).expect("it ends");
        assert!(ended.success(), "{signal}: {ended}");
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "{signal}: lingered {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_client_may_send_one_more_request_before_it_knows_of_the_shutdown() {
    let stub = Stub::with(RESPONSES);
    let gateway = Gateway::start(&config(&stub.url(), &[]).to_string());
    let mut client = gateway.client();
    client.send(request("GET", "/a", &[])).unwrap();
    assert_eq!(client.response("GET").unwrap().status, 200);
    let start = Instant::now();
    gateway.signal("TERM");
    eventually("it is leaving", Duration::from_secs(30), || {
        gateway.output().contains("Signal intercepted")
    });
    let sent = client.send(request("GET", "/a", &[]));
    let response = sent.and_then(|()| client.response("GET"));
    if start.elapsed() > Duration::from_millis(200) {
        eprintln!("not tested: this machine is too slow to be in time");
        return;
    }
    let response = response.unwrap();
    assert_eq!(
        (response.status, response.header("connection")),
        (200, Some("close"))
    );
}

/// Ends the gateway, and waits longer than it waits for idle clients.
fn stop_and_wait(gateway: &Gateway) {
    gateway.signal("TERM");
    eventually("it does not listen", Duration::from_secs(30), || {
        Client::connect(gateway.port()).is_err()
    });
    pause(Duration::from_secs(1));
}

#[test]
fn a_stop_waits_for_heads_that_have_begun() {
    let stub = Stub::with(RESPONSES);
    let gateway = Gateway::start(&config(&stub.url(), &[]).to_string());
    let (mut first, mut second) = (gateway.client(), gateway.client());
    second.send(request("GET", "/a", &[])).unwrap();
    assert_eq!(second.response("GET").unwrap().status, 200);
    let whole = request("GET", "/a", &[]);
    let (half, rest) = whole.split_at(10);
    for client in [&mut first, &mut second] {
        client.send(half).unwrap();
    }
    // Who has this response knows that the halves have arrived.
    assert_eq!(status(&gateway, "/a"), 200);
    stop_and_wait(&gateway);
    for client in [&mut first, &mut second] {
        client.send(rest).unwrap();
        let response = client.response("GET").unwrap();
        assert_eq!(
            (response.status, response.header("connection")),
            (200, Some("close"))
        );
    }
    let ended = gateway.wait(Duration::from_secs(30)).expect("it ends");
    assert!(ended.success(), "{ended}");
    assert!(!gateway.output().contains("aborted"));
}

#[test]
fn a_stop_waits_for_the_requests_of_an_admin_listener() {
    let stub = Stub::with(RESPONSES);
    let mut file = config(&stub.url(), &[]);
    let port = ports::free();
    file["extra_config"]["portcullis/metrics"]["listen"] = json!(format!("127.0.0.1:{port}"));
    let gateway = Gateway::start(&file.to_string());
    let mut scraper = Client::connect(port).unwrap();
    let whole = request("GET", "/metrics", &[]);
    let (half, rest) = whole.split_at(10);
    scraper.send(half).unwrap();
    // Who has this response knows that the half has arrived.
    let mut other = Client::connect(port).unwrap();
    other.send(&whole).unwrap();
    assert_eq!(other.response("GET").unwrap().status, 200);
    stop_and_wait(&gateway);
    scraper.send(rest).unwrap();
    let page = scraper.response("GET").unwrap();
    assert_eq!(
        (page.status, page.header("connection")),
        (200, Some("close"))
    );
    let ended = gateway.wait(Duration::from_secs(30)).expect("it ends");
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_stop_under_load_loses_nothing() {
    let stub = Stub::with(RESPONSES);
    let gateway = Gateway::start(&config(&stub.url(), &[]).to_string());
    let load = Load::start(gateway.port(), 8);
    load.go_on(100);
    gateway.signal("TERM");
    let ended = gateway.wait(Duration::from_secs(30)).expect("it ends");
    assert!(ended.success(), "{ended}");
    assert_eq!(load.finish(), Vec::<String>::new());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let stub = Stub::with(RESPONSES);
    let gateway = Gateway::start(&config(&stub.url(), &[]).to_string());
    let _client = in_flight(&gateway, &stub, "/endless");
    gateway.signal("TERM");
    eventually(
        "new connections are refused",
        Duration::from_secs(30),
        || Client::connect(gateway.port()).is_err(),
    );
    assert!(gateway.ended().is_none(), "it waits for the request");
    let start = Instant::now();
    gateway.signal("TERM");
    assert!(
        gateway.wait(Duration::from_secs(30)).is_some(),
        "it still waits"
    );
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_port_in_use_is_an_error_at_once() {
    let taken = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let gateway = Gateway::spawn(
        port,
        &config("http://127.0.0.1:1", &[]).to_string(),
        &[],
        &["-p", &port.to_string()],
    );
    let ended = gateway.wait(Duration::from_secs(30)).expect("it ends");
    assert_eq!(ended.code(), Some(1), "{}", gateway.output());
    gateway.tells(&port.to_string());
}

#[test]
fn a_bad_file_or_command_ends_with_its_own_status() {
    let gateway = Gateway::spawn(ports::free(), "{", &[], &[]);
    assert_eq!(
        gateway
            .wait(Duration::from_secs(30))
            .expect("it ends")
            .code(),
        Some(1)
    );
    let code = |args: &[&str]| {
        crate::support::gateway::command()
            .args(args)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(code(&["nonsense"]), Some(2));
    assert_eq!(code(&["run"]), Some(2), "no configuration given");
    assert_eq!(code(&["check", "-c", "/nonexistent.json"]), Some(1));
    assert_eq!(code(&["version"]), Some(0));
}

#[test]
fn a_stop_does_not_wait_for_a_rendering() {
    let stub = Stub::with(RESPONSES);
    let good = config(&stub.url(), &[]).to_string();
    let gateway = Gateway::start_in(&[("FC_ENABLE", "1")], &good);
    let slow = "{{ range until 100000 }}{{ $x := bcrypt \"x\" }}{{ end }}";
    fs::write(gateway.config_path(), format!("{slow}{good}")).unwrap();
    gateway.signal("HUP");
    // Meanwhile it serves, and a stop ends it, long before the rendering's ten seconds are over.
    pause(Duration::from_millis(500));
    assert_eq!(status(&gateway, "/a"), 200);
    let begun = Instant::now();
    assert!(gateway.stop(Duration::from_secs(30)).is_some());
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
}
