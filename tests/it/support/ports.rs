//! Ports for processes that cannot get an open socket.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Socket, Type};

// Below Linux's range for outgoing connections, so that none of those can take a port between our check of
// it and the gateway's bind; five digits, because lengths of recorded responses depend on that.
const FIRST: u32 = 12_000;
const COUNT: u32 = 19_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port of 127.0.0.1 on which nothing listens, returned only once by this process.
pub fn free() -> u16 {
    for _ in 0..COUNT {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        // Test processes that run in parallel start far apart.
        let offset = std::process::id().wrapping_mul(7_919).wrapping_add(turn) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("the range ends below 65536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// A port that refuses connections for as long as this value lives.
pub struct Closed(Socket);

impl Closed {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        Self(socket)
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().as_socket().unwrap().port()
    }
}
