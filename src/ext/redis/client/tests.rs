//! Replies, and servers that do not behave.

mod addresses;
mod secrets;

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::cluster::{Redirect, redirect, slots};
use super::error::{Complaint, ConnectionError};
use super::reply::{MAX_BYTES, MAX_DEPTH, Replies};
use super::*;

fn parsed(bytes: &[u8]) -> Result<Option<Reply>, ConnectionError> {
    let mut replies = Replies::default();
    replies.buffer().extend_from_slice(bytes);
    replies.next()
}

fn text(text: &str) -> Reply {
    Reply::Text(text.into())
}

fn complaint(text: &str) -> Complaint {
    Complaint::new(text.as_bytes(), &Arc::default())
}

#[test]
fn replies_of_all_kinds_are_read() {
    for (bytes, expected) in [
        ("+OK\r\n", text("OK")),
        ("+\r\n", text("")),
        ("-ERR a\tb\r\n", Reply::Error(complaint("ERR a b"))),
        (":-12\r\n", Reply::Integer(-12)),
        ("$3\r\na\r\n\r\n", text("a\r\n")),
        ("$0\r\n\r\n", text("")),
        ("$-1\r\n", Reply::Nil),
        ("*-1\r\n", Reply::Nil),
        ("*0\r\n", Reply::Array(vec![])),
        (
            "*3\r\n*1\r\n:1\r\n*0\r\n$1\r\nx\r\n",
            Reply::Array(vec![
                Reply::Array(vec![Reply::Integer(1)]),
                Reply::Array(vec![]),
                text("x"),
            ]),
        ),
    ] {
        assert_eq!(parsed(bytes.as_bytes()), Ok(Some(expected)), "{bytes:?}");
    }
}

#[test]
fn bytes_that_are_not_a_reply_are_errors() {
    for bytes in [
        "\r\n",
        "+OK\n",
        "x\r\n",
        ":\r\n",
        ":1.5\r\n",
        ":99999999999999999999\r\n",
        "$-2\r\n",
        "*-2\r\n",
        "$x\r\n",
        "$1\r\nabc\r\n",
        "*1\r\n%1\r\n",
        // Types of RESP3, which nobody asked for.
        "%1\r\n",
        "~1\r\n",
        ">1\r\n",
        "|1\r\n",
        "_\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
    ] {
        let found = parsed(bytes.as_bytes());
        assert_eq!(found, Err(ConnectionError::Malformed), "{bytes:?}");
    }
}

#[test]
fn replies_have_a_limit_of_levels_and_of_bytes() {
    let nested = |levels| format!("{}:1\r\n", "*1\r\n".repeat(levels));
    assert!(parsed(nested(MAX_DEPTH).as_bytes()).unwrap().is_some());
    let deeper = parsed(nested(MAX_DEPTH + 1).as_bytes());
    assert_eq!(deeper, Err(ConnectionError::TooDeep));
    assert_eq!(
        parsed("*1\r\n".repeat(100_000).as_bytes()),
        Err(ConnectionError::TooDeep)
    );
    for bytes in [
        // Lengths and counts are rejected before anything of them arrives.
        format!("${}\r\n", MAX_BYTES + 1),
        format!("*{}\r\n", MAX_BYTES),
        "$9223372036854775807\r\n".to_owned(),
        "*9223372036854775807\r\n".to_owned(),
        // Lines without an end.
        format!("+{}", "a".repeat(MAX_BYTES)),
        format!("-{}", "a".repeat(MAX_BYTES)),
        format!("${}", "1".repeat(MAX_BYTES)),
        // Many small parts are one reply.
        format!("*2\r\n$600000\r\n{}\r\n$600000\r\n", "a".repeat(600_000)),
    ] {
        let found = parsed(bytes.as_bytes());
        assert_eq!(found, Err(ConnectionError::TooLarge), "{:.20}", bytes);
    }
    // A limit for each reply, not for the connection.
    let mut replies = Replies::default();
    for _ in 0..3 {
        let reply = format!("$600000\r\n{}\r\n", "a".repeat(600_000));
        replies.buffer().extend_from_slice(reply.as_bytes());
        assert!(replies.next().unwrap().is_some());
    }
}

/// Something like replies.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"*2\r\n".to_vec()),
        Just(b"*0\r\n".to_vec()),
        Just(b"$-1\r\n".to_vec()),
        Just(b"$3\r\nabc\r\n".to_vec()),
        Just(b":7\r\n".to_vec()),
        Just(b"+a\r\n".to_vec()),
        Just(b"-E\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn replies_do_not_depend_on_how_they_arrive(bytes in pieces()) {
        parse_anything(&bytes);
    }
}

#[test]
fn commands_are_arrays_of_bulk_strings() {
    let command = Command::script("EVALSHA", "abc", &["k", "l"], &["1"]);
    let expected =
        "*6\r\n$7\r\nEVALSHA\r\n$3\r\nabc\r\n$1\r\n2\r\n$1\r\nk\r\n$1\r\nl\r\n$1\r\n1\r\n";
    assert_eq!(command.0, expected);
}

#[test]
fn keys_have_the_slots_of_the_specification() {
    for (key, slot) in [
        ("123456789", 12_739),
        ("foo", 12_182),
        ("{foo}bar", 12_182),
        ("a{foo}{bar}", 12_182),
        ("foo{}{bar}", 8_363),
        ("", 0),
    ] {
        assert_eq!(command::slot(key.as_bytes()), slot, "{key}");
    }
}

#[test]
fn redirects_and_slots_name_members() {
    let from = Address::new("redis.example", 7000);
    let named = |host: &str, port| Address {
        certificate_name: Some("redis.example".to_owned()),
        ..Address::new(host, port)
    };
    for (text, expected) in [
        (
            "MOVED 3999 10.0.0.1:6381",
            Some(Redirect::Moved(named("10.0.0.1", 6381))),
        ),
        ("ASK 1 ::1:6381", Some(Redirect::Ask(named("::1", 6381)))),
        (
            "MOVED 1 b.example:1",
            Some(Redirect::Moved(Address::new("b.example", 1))),
        ),
        (
            "MOVED 1 :7001",
            Some(Redirect::Moved(Address::new("redis.example", 7001))),
        ),
        ("MOVED", None),
        ("MOVED x a:1", None),
        ("MOVED 1 a", None),
        ("MOVED 1 a:99999", None),
        ("ERR MOVED 1 a:1", None),
    ] {
        assert_eq!(redirect(text, &from), expected, "{text}");
    }
    let read = |reply: &str| slots(parsed(reply.as_bytes()).unwrap().unwrap(), &from);
    let whole = "*2\r\n*3\r\n:0\r\n:99\r\n*4\r\n$8\r\n10.0.0.1\r\n:1\r\n$2\r\nid\r\n*2\r\n$8\r\nhostname\r\n$1\r\nh\r\n\
                 *4\r\n:100\r\n:16383\r\n*3\r\n$-1\r\n:2\r\n$2\r\nid\r\n*3\r\n$1\r\nr\r\n:3\r\n$2\r\nid\r\n";
    let expected = vec![
        (0, 99, Address::new("h", 1)),
        (100, 16383, Address::new("redis.example", 2)),
    ];
    assert_eq!(read(whole), Some(expected));
    for wrong in [
        ":1\r\n",
        "*1\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:16384\r\n*3\r\n$1\r\na\r\n:1\r\n$1\r\ni\r\n",
        "*1\r\n*3\r\n:9\r\n:1\r\n*3\r\n$1\r\na\r\n:1\r\n$1\r\ni\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*3\r\n$1\r\na\r\n:70000\r\n$1\r\ni\r\n",
    ] {
        assert_eq!(read(wrong), None, "{wrong:?}");
    }
}

fn options() -> ClientOptions {
    ClientOptions {
        connections: 1,
        dial_timeout: Duration::from_secs(10),
        timeout: Duration::from_secs(10),
        backoff: (Duration::from_millis(5), Duration::from_millis(20)),
    }
}

/// A server that replies to each chunk of commands with what `reply` makes of it.
async fn fake(reply: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let reply = Arc::new(reply);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&reply)));
        }
    });
    port
}

async fn serve(mut stream: TcpStream, reply: Arc<impl Fn(&str) -> Vec<u8> + Send + Sync>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let asked = String::from_utf8_lossy(&buffer[..read]).into_owned();
        if stream.write_all(&reply(&asked)).await.is_err() {
            return;
        }
    }
}

fn one(port: u16) -> Client {
    let server = Server::new(ServerKind::One(Address::new("127.0.0.1", port)));
    let client = Client::new(server, options());
    client.connect();
    client
}

async fn get(client: &Client, key: &str) -> Result<Reply, CallError> {
    client
        .call(key, Command::new(&[b"GET", key.as_bytes()]))
        .await
}

/// Calls until there is a connection.
async fn got(client: &Client, key: &str) -> Reply {
    let limit = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match get(client, key).await {
            Ok(reply) => return reply,
            Err(error) => assert!(tokio::time::Instant::now() < limit, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn hostile_replies_fail_the_connection_with_a_reason() {
    let floods: [(&str, Vec<u8>, &str); 6] = [
        ("arrays", b"*1\r\n".repeat(100_000), "nested too deeply"),
        (
            "maps",
            b"%1\r\n".repeat(100_000),
            "does not come from a Redis",
        ),
        (
            "a line",
            [b"+".to_vec(), vec![b'a'; 4 * MAX_BYTES]].concat(),
            "too large",
        ),
        ("a length", b"$99999999999\r\n".to_vec(), "too large"),
        ("a count", b"*99999999999\r\n".to_vec(), "too large"),
        (
            "a web server",
            b"HTTP/1.1 400\r\n\r\n".to_vec(),
            "does not come from a Redis",
        ),
    ];
    for (name, flood, expected) in floods {
        for after in [0, 1] {
            // The flood is the first reply, or comes after a correct one.
            let flood = flood.clone();
            let port = fake(move |asked| {
                if asked.contains("PING") && after == 1 {
                    b"+PONG\r\n".to_vec()
                } else {
                    flood.clone()
                }
            })
            .await;
            let client = one(port);
            client.tried().await;
            if after == 1 {
                let failed = get(&client, "k").await;
                assert!(failed.is_err(), "{name}: {failed:?}");
            }
            let why = client.last_error();
            let why = why.unwrap_or_default();
            assert!(why.contains(expected), "{name} {after}: {why:?}");
        }
    }
}

#[tokio::test]
async fn unsolicited_replies_close_the_connection() {
    let port = fake(|_| b"+PONG\r\n+PONG\r\n".to_vec()).await;
    let client = one(port);
    client.tried().await;
    let limit = tokio::time::Instant::now() + Duration::from_secs(60);
    while client.last_error().is_none() {
        assert!(tokio::time::Instant::now() < limit);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        client
            .last_error()
            .unwrap()
            .contains("does not come from a Redis")
    );
}

#[tokio::test]
async fn a_server_that_does_not_reply_is_disconnected() {
    let port = fake(|asked| {
        if asked.contains("PING") {
            b"+PONG\r\n".to_vec()
        } else {
            Vec::new()
        }
    })
    .await;
    let client = one(port);
    client.tried().await;
    assert_eq!(get(&client, "k").await, Err(CallError::Lost));
    assert_eq!(client.last_error().unwrap(), "no response in time");
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_disconnected() {
    let port = fake(|asked| {
        if asked.contains("PING") {
            b"+PONG\r\n".to_vec()
        } else {
            b"-READONLY You can't write against a read only replica.\r\n".to_vec()
        }
    })
    .await;
    let client = one(port);
    client.tried().await;
    assert!(matches!(get(&client, "k").await, Err(CallError::Server(_))));
    assert!(client.last_error().unwrap().contains("replica"));
}

#[tokio::test]
async fn commands_of_a_cluster_follow_moved_and_asked_slots() {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let second = fake(|asked| {
        let reply = match asked {
            asked if asked.contains("PING") => "+PONG\r\n",
            asked if asked.contains("ASKING") => "+OK\r\n+asked\r\n",
            _ => "+moved\r\n",
        };
        reply.as_bytes().to_vec()
    })
    .await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let first = listener.local_addr().unwrap().port();
    drop(listener);
    let listener = TcpListener::bind(("127.0.0.1", first)).await.unwrap();
    let ranges = format!(
        "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n{}:{first}\r\n{}",
        bulk("127.0.0.1"),
        bulk("id")
    );
    let reply = Arc::new(move |asked: &str| {
        let reply = match asked {
            asked if asked.contains("PING") => "+PONG\r\n".to_owned(),
            asked if asked.contains("SLOTS") => ranges.clone(),
            asked if asked.contains("moving") => format!("-ASK 1 127.0.0.1:{second}\r\n"),
            asked if asked.contains("there") => format!("-MOVED 1 127.0.0.1:{second}\r\n"),
            asked if asked.contains("endless") => format!("-MOVED 1 127.0.0.1:{first}\r\n"),
            _ => "+here\r\n".to_owned(),
        };
        reply.into_bytes()
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&reply)));
        }
    });
    let members = vec![Address::new("127.0.0.1", first)];
    let client = Client::new(Server::new(ServerKind::Cluster(members)), options());
    client.connect();
    assert_eq!(got(&client, "here").await, text("here"));
    assert_eq!(get(&client, "there").await, Ok(text("moved")));
    assert_eq!(get(&client, "moving").await, Ok(text("asked")));
    let endless = get(&client, "endless").await;
    assert!(matches!(endless, Err(CallError::Server(_))), "{endless:?}");
}

#[tokio::test]
async fn a_sentinel_names_the_server() {
    let master = fake(|asked| match asked {
        asked if asked.contains("PING") => b"+PONG\r\n".to_vec(),
        asked if asked.contains("ROLE") => b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_vec(),
        _ => b"+here\r\n".to_vec(),
    })
    .await;
    let sentinel = fake(move |asked| match asked {
        asked if asked.contains("SENTINEL") && asked.contains("main") => {
            let port = master.to_string();
            format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len()).into_bytes()
        }
        asked if asked.contains("SENTINEL") => b"*-1\r\n".to_vec(),
        _ => b"+PONG\r\n".to_vec(),
    })
    .await;
    // The first sentinel does not exist.
    let url = |name: &str| {
        format!("redis-sentinel://127.0.0.1:1?node=127.0.0.1:{sentinel}&sentinelServiceName={name}")
    };
    let client = Client::new(Server::from_url(&url("main")).unwrap(), options());
    client.connect();
    assert_eq!(got(&client, "k").await, text("here"));
    let client = Client::new(Server::from_url(&url("other")).unwrap(), options());
    client.connect();
    client.tried().await;
    assert!(!client.is_connected());
    let why = client.last_error().unwrap();
    assert!(why.contains("does not know \"other\""), "{why}");
}

#[tokio::test]
async fn after_a_connection_that_worked_the_next_one_is_opened_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::new("127.0.0.1", listener.local_addr().unwrap().port());
    // Any pause would be longer than this test.
    let backoff = (Duration::from_secs(600), Duration::from_secs(600));
    let options = ClientOptions {
        backoff,
        ..options()
    };
    let client = Client::new(Server::new(ServerKind::One(address)), options);
    client.connect();
    for _ in 0..3 {
        let accepted = tokio::time::timeout(Duration::from_secs(60), listener.accept()).await;
        let (mut stream, _) = accepted.expect("no new connection").unwrap();
        let mut asked = [0; 256];
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        stream.write_all(b"+PONG\r\n").await.unwrap();
        while !client.is_connected() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
