//! Limits in a Redis that responds late, or pauses.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{ANY, config, passing, status};
use crate::support::http::request;
use crate::support::{Client, Gateway, Redis, Stub, pause};

/// A slow connection to Redis: every byte is delayed by this time.
struct SlowWay {
    port: u16,
    delay: Arc<AtomicU64>,
}

impl SlowWay {
    fn to(redis: &Redis) -> SlowWay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let delay = Arc::new(AtomicU64::new(0));
        let (target, shared) = (redis.port(), Arc::clone(&delay));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
                    continue;
                };
                let _ = client.set_nodelay(true);
                let _ = server.set_nodelay(true);
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                pump(client, server, Arc::default());
                pump(back.0, back.1, Arc::clone(&shared));
            }
        });
        SlowWay { port, delay }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn takes(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.delay.store(millis, Ordering::SeqCst);
    }
}

/// Copies from one to the other. Bytes in flight do not delay those after them.
fn pump(mut from: TcpStream, mut to: TcpStream, delay: Arc<AtomicU64>) {
    let (send, receive) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (due, bytes) in receive {
            pause(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let due = Instant::now() + Duration::from_millis(delay.load(Ordering::SeqCst));
            if send.send((due, buffer[..read].to_vec())).is_err() {
                return;
            }
        }
    });
}

/// Sends about `per_second` requests to each gateway for this time. Returns how many passed in each fifth of a second.
fn steady(ports: [u16; 2], per_second: u32, lasting: Duration) -> Vec<u64> {
    const CONNECTIONS: u32 = 8;
    let slots: Vec<AtomicU64> = (0..=lasting.as_millis() / 200)
        .map(|_| AtomicU64::new(0))
        .collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for port in ports
            .into_iter()
            .flat_map(|port| [port; CONNECTIONS as usize])
        {
            let slots = &slots;
            scope.spawn(move || {
                let mut client = Client::connect(port).unwrap();
                for turn in 0.. {
                    let due = start + Duration::from_secs(1) * turn * CONNECTIONS / per_second;
                    pause(due.saturating_duration_since(Instant::now()));
                    let passed = start.elapsed();
                    if passed >= lasting {
                        return;
                    }
                    client
                        .send(request("GET", "/a", &[("X-Who", "a")]))
                        .unwrap();
                    if client.response("GET").unwrap().status == 200 {
                        let slot = (passed.as_millis() / 200) as usize;
                        slots[slot].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    slots
        .iter()
        .map(|slot| slot.load(Ordering::Relaxed))
        .collect()
}

/// Does this while another thread measures how long the test, these gateways and Redis did not respond. A gateway that has
/// not heard from Redis for half a second counts by itself, so what was measured around such a stall says nothing about a
/// slow Redis. `None` then.
pub(super) fn unless_stalled<T>(
    gateways: &[Gateway],
    redis: Option<&Redis>,
    work: impl FnOnce() -> T,
) -> Option<T> {
    let done = AtomicBool::new(false);
    let (result, longest) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            while !done.load(Ordering::SeqCst) {
                pause(Duration::from_millis(10));
                for gateway in gateways {
                    gateway.get("/__health");
                }
                if let Some(redis) = redis {
                    redis.command("PING");
                }
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            longest
        });
        // A stall that began before is seen, too.
        pause(Duration::from_secs(1));
        let result = work();
        done.store(true, Ordering::SeqCst);
        (result, watch.join().unwrap())
    });
    (longest < Duration::from_millis(300)).then_some(result)
}

/// The first of these measurements during which nothing stalled.
pub(super) fn undisturbed<T>(mut measure: impl FnMut() -> Option<T>) -> T {
    let mut turns = (0..20).filter_map(|turn| {
        // The gateways count in Redis again.
        pause(Duration::from_secs(if turn == 0 { 0 } else { 2 }));
        measure()
    });
    turns.next().expect("the machine stalls all the time")
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn no_more_requests_pass_than_the_limit_with_a_slow_redis() {
    let Some(redis) = Redis::start() else { return };
    let stub = Stub::with(ANY);
    let way = SlowWay::to(&redis);
    for limit in [
        json!({ "max_rate": 40, "capacity": 40 }),
        json!({ "client_max_rate": 40, "client_capacity": 40, "strategy": "header", "key": "X-Who" }),
    ] {
        let file = config(&stub, &json!({ "url": way.url() }), &limit);
        let gateways = [Gateway::start(&file), Gateway::start(&file)];
        let ports = gateways.each_ref().map(Gateway::port);
        for delay in [0, 20, 50] {
            way.takes(Duration::from_millis(delay));
            let time = Duration::from_secs(5);
            let (passed, lost) = undisturbed(|| {
                let before = gateways.each_ref().map(Gateway::mark);
                let passed = unless_stalled(&gateways, Some(&redis), || {
                    steady(ports, 100, time).iter().sum::<u64>()
                });
                let mut since = gateways.iter().zip(before);
                let lost = since.any(|(gateway, mark)| {
                    let new = gateway.output_since(mark);
                    new.contains("not available")
                });
                passed.map(|passed| (passed, lost))
            });
            assert!(!lost, "Redis was given up");
            // One burst, the rate for the time, and some slack for late responses on a busy machine.
            let most = 40 * time.as_secs() + 2 * 40 + 4;
            let least = 40 * time.as_secs() * 8 / 10;
            assert!(
                (least..=most).contains(&passed),
                "{limit} {delay} ms: {passed} passed"
            );
        }
        way.takes(Duration::ZERO);
    }
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn a_short_silence_of_redis_does_not_fill_buckets() {
    let Some(redis) = Redis::start() else { return };
    let stub = Stub::with(ANY);
    let limit = json!({ "client_max_rate": 5, "client_capacity": 100, "strategy": "header", "key": "X-Who" });
    let file = config(&stub, &json!({ "url": redis.url() }), &limit);
    let (all, took) = undisturbed(|| {
        assert!(redis.command("FLUSHALL").starts_with("+OK"));
        let gateways = [Gateway::start(&file), Gateway::start(&file)];
        let ports = gateways.each_ref().map(Gateway::port);
        let start = Instant::now();
        unless_stalled(&gateways, Some(&redis), || {
            let before = passing(&gateways.each_ref(), "a", 150);
            let passed: u64 = std::thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..5 {
                        redis.signal("STOP");
                        pause(Duration::from_millis(30));
                        redis.signal("CONT");
                        pause(Duration::from_millis(200));
                    }
                });
                steady(ports, 100, Duration::from_millis(1500)).iter().sum()
            });
            (before as f64 + passed as f64, start.elapsed())
        })
    });
    // If each gateway began with its own bucket, there would be 200 more.
    let most = 100.0 + 2.0 * 5.0 * took.as_secs_f64() + 20.0;
    assert!(all < most, "{all} passed, at most {most:.0} were due");
}

/// Sends this many requests of one client at once, to the gateways in turn. Returns how many passed.
fn burst(gateways: &[Gateway], who: &str, count: usize) -> usize {
    let passed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..24 {
            let passed = &passed;
            scope.spawn(move || {
                for n in (thread..count).step_by(24) {
                    let ok = status(&gateways[n % gateways.len()], who) == 200;
                    passed.fetch_add(u64::from(ok), Ordering::Relaxed);
                }
            });
        }
    });
    usize::try_from(passed.into_inner()).unwrap()
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn a_burst_of_a_new_client_gets_one_bucket_however_late_redis_is() {
    let Some(redis) = Redis::start() else { return };
    let stub = Stub::with(ANY);
    let way = SlowWay::to(&redis);
    for limit in [
        json!({ "max_rate": 10, "capacity": 10, "every": "1000h" }),
        json!({ "client_max_rate": 10, "client_capacity": 10, "every": "1000h", "strategy": "header", "key": "X-Who" }),
    ] {
        for (count, delay) in [(1, 6), (1, 20), (2, 20), (3, 50)] {
            let passed = undisturbed(|| {
                assert!(redis.command("FLUSHALL").starts_with("+OK"));
                way.takes(Duration::ZERO);
                let file = config(&stub, &json!({ "url": way.url() }), &limit);
                let gateways: Vec<Gateway> = (0..count).map(|_| Gateway::start(&file)).collect();
                way.takes(Duration::from_millis(delay));
                unless_stalled(&gateways, Some(&redis), || burst(&gateways, "a", 60))
            });
            assert_eq!(passed, 10, "{limit}, {count} gateways, {delay} ms");
        }
    }
}

#[test]
#[ignore = "needs Redis: scripts/test runs it"]
fn no_more_requests_pass_than_the_limit_while_redis_pauses() {
    let Some(redis) = Redis::start() else { return };
    let stub = Stub::with(ANY);
    let limit = json!({ "max_rate": 40, "capacity": 40 });
    for (millis, every) in [(400, 1500), (900, 2500)] {
        let file = config(&stub, &json!({ "url": redis.url() }), &limit);
        let time = Duration::from_secs(8);
        let passed = undisturbed(|| {
            assert!(redis.command("FLUSHALL").starts_with("+OK"));
            let gateways = [Gateway::start(&file), Gateway::start(&file)];
            let ports = gateways.each_ref().map(Gateway::port);
            unless_stalled(&gateways, None, || {
                let end = Instant::now() + time;
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        while Instant::now() < end {
                            pause(Duration::from_millis(every));
                            redis.command(&format!("CLIENT PAUSE {millis} ALL"));
                        }
                    });
                    steady(ports, 100, time).iter().sum::<u64>()
                })
            })
        });
        // The last requests end up to a tenth of a second after the time.
        let most = 40 * time.as_secs() + 40 + 4;
        assert!(passed <= most, "{millis} ms: {passed} passed of {most}");
        assert!(passed >= most / 2, "{millis} ms: only {passed} passed");
    }
}
