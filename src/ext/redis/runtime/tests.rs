//! Responses of a slow server.

use std::time::Instant;

use smallvec::smallvec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

/// The port of a server that responds to each script with 5 remaining tokens, when `released` says so.
async fn slow_server(mut released: UnboundedReceiver<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
            let scripts = text.matches("EVALSHA").count();
            for _ in 0..scripts {
                released.recv().await;
                stream.write_all(b"*2\r\n:1\r\n:5\r\n").await.unwrap();
            }
            if scripts == 0 {
                stream.write_all(b"+OK\r\n").await.unwrap();
            }
        }
    });
    port
}

async fn slow_store(released: UnboundedReceiver<()>, clock: Clock) -> Store {
    let port = slow_server(released).await;
    let server = Server::from_url(&format!("redis://127.0.0.1:{port}")).unwrap();
    let options = StoreOptions::new(1, Duration::from_millis(5));
    let store = Store::new(server, options, clock);
    store.connect().await;
    store
}

async fn take(store: &Store) -> Taken {
    let one = Ask {
        key: "a".to_owned(),
        rate: Rate::new(1.0, 6),
        keep: Duration::from_secs(60),
    };
    store.take(smallvec![one]).await
}

/// The response that such a server still owes to the store, and the time of the query.
async fn late(released: UnboundedReceiver<()>) -> (Store, Late, Instant) {
    let store = slow_store(released, Clock::manual()).await;
    let asked = Instant::now();
    match take(&store).await {
        Taken::Late(late) => (store, late, asked),
        Taken::Verdict(_) | Taken::Failed => panic!("no late response"),
    }
}

#[tokio::test]
async fn a_late_response_is_used() {
    let (release, released) = unbounded_channel();
    let (_store, late, _) = late(released).await;
    release.send(()).unwrap();
    let expected = SharedVerdict(smallvec![Verdict::Allowed { left: 5 }]);
    assert_eq!(late.await, Some(expected));
}

#[tokio::test]
async fn the_wait_for_a_response_ends_when_the_silent_connection_is_closed() {
    let (_release, released) = unbounded_channel();
    let (_store, late, asked) = late(released).await;
    assert_eq!(late.await, None);
    // Earlier ones are used.
    assert!(asked.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn the_response_to_the_query_that_gave_the_store_up_is_noticed() {
    let (release, released) = unbounded_channel();
    let clock = Clock::manual();
    let store = slow_store(released, clock.clone()).await;
    // Nobody waits for these.
    for _ in 0..4 {
        assert!(matches!(take(&store).await, Taken::Late(_)));
    }
    clock.advance(Duration::from_millis(500));
    assert!(matches!(take(&store).await, Taken::Failed));
    assert!(!store.is_ready());
    for _ in 0..5 {
        release.send(()).unwrap();
    }
    let began = Instant::now();
    while !store.is_ready() {
        assert!(began.elapsed() < Duration::from_secs(20), "not noticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
