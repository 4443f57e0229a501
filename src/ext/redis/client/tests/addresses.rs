//! Names with several addresses, of which one does not work.

use super::*;
use crate::upstream::race::tests::{full_and_listener, two_listeners};

/// A client of a server with this name, and the server at this listener.
fn client(name: &str, listener: std::net::TcpListener) -> Client {
    let port = listener.local_addr().unwrap().port();
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::new(|_: &str| b"+here\r\n".to_vec())));
        }
    });
    let server = Server::new(ServerKind::One(Address::new(name, port)));
    let client = Client::new(server, options());
    client.connect();
    client
}

#[tokio::test]
async fn an_address_that_drops_packets_does_not_hide_the_next_one() {
    let (name, _full, second) = full_and_listener();
    let client = client(name, second);
    client.tried().await;
    assert_eq!(client.last_error(), None);
    assert_eq!(got(&client, "k").await, text("here"));
}

#[tokio::test]
async fn after_an_address_without_replies_the_next_one_has_its_turn() {
    let (name, _first, second) = two_listeners();
    let client = client(name, second);
    client.tried().await;
    assert_eq!(client.last_error().unwrap(), "no response in time");
    assert_eq!(got(&client, "k").await, text("here"));
}
