use super::*;

async fn is_needed(place: &ConnectionSlot) -> bool {
    tokio::time::timeout(Duration::from_millis(1), place.is_needed())
        .await
        .is_ok()
}

#[tokio::test]
async fn the_longest_waiting_connection_is_closed_first() {
    let limit = ConnectionLimit::new(3, 100);
    let (first, second, working) = (
        limit.place().await,
        limit.place().await,
        limit.place().await,
    );
    second.waits_for_client();
    tokio::time::sleep(Duration::from_millis(5)).await;
    first.waits_for_client();
    limit.make_room();
    assert!(!is_needed(&second).await, "its request may have arrived");
    let newcomer = {
        let limit = Arc::clone(&limit);
        tokio::spawn(async move { limit.place().await })
    };
    second.is_needed().await;
    assert!(!is_needed(&first).await && !is_needed(&working).await);
    drop(second);
    drop(newcomer.await.unwrap());
}

#[tokio::test]
async fn a_client_that_never_sent_anything_is_closed_before_one_that_did() {
    let limit = ConnectionLimit::new(2, 100);
    let (asked, silent) = (limit.place().await, limit.place().await);
    asked.sent_head();
    asked.waits_for_client();
    silent.waits_for_client();
    tokio::time::sleep(Duration::from_millis(GRACE + 5)).await;
    limit.make_room();
    assert!(is_needed(&silent).await && !is_needed(&asked).await);
    limit.make_room();
    assert!(!is_needed(&asked).await, "a place is about to be free");
    // Even if its request arrives now, its response must be the last one.
    silent.sent_head();
    assert!(silent.must_close() && !asked.must_close());
}

#[tokio::test]
async fn what_has_arrived_is_read_before_a_connection_is_closed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    client.write_all(b"GET").await.unwrap();
    let limit = ConnectionLimit::new(1, 100);
    let place = limit.place().await;
    place.state.as_ref().unwrap().1.ask_to_close(1);
    let mut byte = [0];
    let is_read = tokio::select! {
        biased;
        read = accepted.read(&mut byte) => read.unwrap() == 1,
        () = place.is_needed() => false,
    };
    assert!(is_read);
}

#[tokio::test]
async fn a_client_that_stops_within_a_request_is_disconnected_after_a_while() {
    const TIMEOUT: Duration = Duration::from_millis(40);
    let limit = ConnectionLimit::new(2, 100);
    let (stalled, moving) = (limit.place().await, limit.place().await);
    let (mut first, mut second) = (stalled.watch().unwrap(), moving.watch().unwrap());
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(first.poll_stalled(&mut cx, TIMEOUT).is_pending());
    assert!(second.poll_stalled(&mut cx, TIMEOUT).is_pending());
    limit.make_room();
    assert!(first.poll_stalled(&mut cx, TIMEOUT).is_pending(), "at once");
    tokio::time::sleep(TIMEOUT * 2).await;
    second.moved();
    assert!(second.poll_stalled(&mut cx, TIMEOUT).is_pending());
    assert!(
        first.poll_stalled(&mut cx, TIMEOUT).is_pending(),
        "nobody asked"
    );
    limit.make_room();
    assert!(first.poll_stalled(&mut cx, TIMEOUT).is_ready());
    assert!(second.poll_stalled(&mut cx, TIMEOUT).is_pending());
}

#[tokio::test]
async fn a_long_queue_behind_quiet_clients_moves_on() {
    let limit = ConnectionLimit::new(2, 100);
    let began = Instant::now();
    let mut clients = Vec::new();
    // With a second for each pair of places this would take 20 s.
    for _ in 0..40 {
        let place = limit.place().await;
        place.sent_head();
        place.waits_for_client();
        clients.push(tokio::spawn(async move { place.is_needed().await }));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    // The first clients keep their connections for a while: they may be about to send the next request.
    assert!(took > Duration::from_millis(400), "{took:?}");
    for (all, next, least) in [
        (0, 0, 1000),
        (500, 0, 500),
        (1000, 0, 250),
        (9999, 100, 225),
        (9999, 999, 20),
        (500, 500, 250),
    ] {
        assert_eq!(Waited { all, next }.grace(GRACE), least);
    }
}

#[tokio::test]
async fn while_all_are_busy_a_new_connection_waits_for_the_first_that_ends() {
    let limit = ConnectionLimit::new(1, 100);
    let place = limit.place().await;
    let early = tokio::time::timeout(Duration::from_millis(120), limit.place()).await;
    assert!(early.is_err());
    assert!(!is_needed(&place).await);
    drop(place);
    limit.place().await;
    assert_eq!(limit.taken.load(Ordering::Relaxed), 0);
    assert!(limit.connections().is_empty());
}

#[tokio::test]
async fn if_another_limit_is_lower_no_connection_is_closed() {
    let limit = ConnectionLimit::new(100, 50);
    let place = limit.place().await;
    place.waits_for_client();
    limit.make_room();
    assert!(!is_needed(&place).await);
}
