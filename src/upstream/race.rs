//! Connections to a name with several addresses.
//!
//! An address that drops packets must not use up the time of the others, so the attempts overlap (RFC 8305 §5).

use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an attempt is alone before the next one begins (RFC 8305 §5, Connection Attempt Delay).
const DELAY: Duration = Duration::from_millis(250);

/// The most addresses that are tried for one connection.
const MAX_ADDRESSES: usize = 8;

/// Which address of a name is tried first: that of the resolver, until it turns out not to work. An address may accept
/// connections and never reply, which only the caller can find out.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    failures: AtomicUsize,
    /// The first choice of the resolver.
    first: OnceLock<SocketAddr>,
}

impl Turn {
    /// The connection did not work: the next one begins with another address.
    pub(crate) fn next(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The addresses in the order of this turn.
    fn ordered(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let Some(first) = addresses.first().copied() else {
            return addresses;
        };
        let first = *self.first.get_or_init(|| first);
        let failures = self.failures.load(Ordering::Relaxed);
        if failures > 0 {
            // Resolvers change the order too, and both changes together could lead to the same address for ever.
            addresses.sort_unstable();
            addresses.dedup();
            let place = addresses.binary_search(&first).unwrap_or_default();
            let start = place.wrapping_add(failures) % addresses.len();
            addresses.rotate_left(start);
        }
        addresses.truncate(MAX_ADDRESSES);
        addresses
    }
}

/// Opens a connection to `host`, a name or an address without brackets. Each address has 250 ms before the next one is
/// also tried. There is no other limit on the time.
///
/// # Errors
/// The name has no address, or none of them accepts the connection. It is the last of their errors.
pub(crate) async fn connect(host: &str, port: u16, turn: &Turn) -> io::Result<TcpStream> {
    let found = look_up(host, port).await?;
    first_of(&turn.ordered(found)).await
}

#[cfg(not(test))]
async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// In a test `127.0.0.2+127.0.0.1` is a name with these addresses, because tests cannot add names.
#[cfg(test)]
async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    for part in host.split('+') {
        found.extend(tokio::net::lookup_host((part, port)).await?);
    }
    Ok(found)
}

/// The first connection to one of these addresses. The other attempts end with it.
///
/// # Errors
/// There are no addresses, or the last error of them.
async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let none = "could not resolve to any address";
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, none);
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    loop {
        attempts.extend(waiting.next().map(TcpStream::connect));
        let ended = if waiting.len() > 0 {
            timeout(DELAY, attempts.next()).await
        } else {
            Ok(attempts.next().await)
        };
        match ended {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(error))) => last = error,
            Ok(None) => return Err(last),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// See [`look_up`].
    const TWO: &str = "127.0.0.2+127.0.0.1";

    /// An address that drops packets.
    pub(crate) struct Full {
        pub(crate) address: SocketAddr,
        _held: (socket2::Socket, Vec<std::net::TcpStream>),
    }

    /// Nobody accepts the connections to this port of 127.0.0.2, and their queue is full. With port 0 it is any port.
    pub(crate) fn full(port: u16) -> Full {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let asked = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
        socket.bind(&asked.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let connect = || std::net::TcpStream::connect_timeout(&address, DELAY);
        let queue = std::iter::from_fn(|| connect().ok()).collect();
        Full {
            address,
            _held: (socket, queue),
        }
    }

    fn address(last: u8) -> SocketAddr {
        (Ipv4Addr::new(10, 0, 0, last), 1).into()
    }

    /// A name with two addresses, and a listener at each of them.
    pub(crate) fn two_listeners() -> (&'static str, TcpListener, TcpListener) {
        loop {
            let first = TcpListener::bind("127.0.0.2:0").unwrap();
            let port = first.local_addr().unwrap().port();
            // Another process may have this port.
            if let Ok(second) = TcpListener::bind(("127.0.0.1", port)) {
                for listener in [&first, &second] {
                    listener.set_nonblocking(true).unwrap();
                }
                return (TWO, first, second);
            }
        }
    }

    /// A name with two addresses: the first one drops packets, and the second one has this listener.
    pub(crate) fn full_and_listener() -> (&'static str, Full, TcpListener) {
        let (name, first, second) = two_listeners();
        let port = first.local_addr().unwrap().port();
        drop(first);
        (name, full(port), second)
    }

    #[test]
    fn each_turn_begins_with_another_address_whatever_the_order_of_the_resolver() {
        let orders = [
            vec![address(3), address(1), address(2)],
            vec![address(1), address(2), address(3)],
        ];
        let turn = Turn::default();
        assert_eq!(turn.ordered(orders[0].clone()), orders[0]);
        // Without a failure the order is that of the resolver.
        assert_eq!(turn.ordered(orders[1].clone()), orders[1]);
        for (order, first) in [(1, 1), (0, 2), (0, 3), (1, 1)] {
            turn.next();
            let ordered = turn.ordered(orders[order].clone());
            assert_eq!((ordered[0], ordered.len()), (address(first), 3));
        }
        assert!(turn.ordered(Vec::new()).is_empty());
    }

    #[test]
    fn all_of_many_addresses_have_their_turn() {
        let many: Vec<_> = (1..=20).map(address).collect();
        let turn = Turn::default();
        assert_eq!(turn.ordered(many.clone()), many[..MAX_ADDRESSES]);
        for first in &many[1..] {
            turn.next();
            let ordered = turn.ordered(many.clone());
            assert_eq!((ordered[0], ordered.len()), (*first, MAX_ADDRESSES));
        }
    }

    #[tokio::test]
    async fn an_address_that_drops_packets_does_not_hide_the_next_one() {
        let full = full(0);
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = good.local_addr().unwrap();
        for dead in [1, MAX_ADDRESSES - 1] {
            let mut addresses = vec![full.address; dead];
            addresses.push(good);
            let opened = timeout(Duration::from_secs(20), first_of(&addresses)).await;
            let stream = opened.expect("no connection in time").unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
        }
    }

    #[tokio::test]
    async fn a_refused_attempt_is_followed_by_the_next_one_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (good, closed) = (listener.local_addr().unwrap(), closed());
        let mut addresses = vec![closed; MAX_ADDRESSES];
        let refused = first_of(&addresses).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        addresses.push(good);
        let began = tokio::time::Instant::now();
        let stream = first_of(&addresses).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(began.elapsed() < DELAY * 8, "{:?}", began.elapsed());
        assert!(first_of(&[]).await.is_err());
    }

    /// An address that refuses connections.
    fn closed() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }
}
