//! Ports for processes that cannot get an open socket.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

use socket2::{Domain, Socket, Type};

// Below Linux's range for outgoing connections, so that none of those can take a port between our check of
// it and the gateway's bind; five digits, because lengths of recorded responses depend on that.
const FIRST: u32 = 12_000;
const BLOCKS: u32 = 38;
const BLOCK: u32 = 500;

/// The ports that this process may use, so that no test program that runs in parallel takes one between our check of it
/// and the gateway's bind.
struct Block {
    first: u32,
    used: u32,
    /// Its name is that of the block; it is bound as long as this process lives.
    _name: UnixListener,
}

impl Block {
    fn take() -> Self {
        for turn in 0..BLOCKS {
            let number = std::process::id().wrapping_add(turn) % BLOCKS;
            let name = format!("portcullis-test-ports-{number}");
            let name = SocketAddr::from_abstract_name(name)
                .and_then(|name| UnixListener::bind_addr(&name));
            if let Ok(name) = name {
                return Self {
                    first: FIRST + number * BLOCK,
                    used: 0,
                    _name: name,
                };
            }
        }
        panic!("all ports from {FIRST} are taken by other test programs");
    }
}

static BLOCKS_TAKEN: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 on which nothing listens, returned only once by this process.
pub fn free() -> u16 {
    let mut blocks = BLOCKS_TAKEN
        .lock()
        .unwrap_or_else(|error| error.into_inner());
    loop {
        if let Some(block) = blocks.last_mut() {
            while block.used < BLOCK {
                block.used += 1;
                let port = u16::try_from(block.first + block.used - 1);
                let port = port.expect("the range ends below 65536");
                if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                    return port;
                }
            }
        }
        blocks.push(Block::take());
    }
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
