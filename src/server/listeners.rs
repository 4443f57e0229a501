//! The listening sockets: bound here, or taken over from the previous process.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// The requested length of the accept queue. The system may use a lower limit.
const BACKLOG: i32 = 65_535;

/// How long a process that has ended may still have its addresses: the system closes its sockets one after the other.
const ENDING: Duration = Duration::from_secs(2);
/// How often to try again meanwhile.
const POLL: Duration = Duration::from_millis(20);

/// Listening sockets, by the requested address.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    sockets: Vec<(SocketAddr, TcpListener)>,
    /// Until then, addresses in use are expected to become free.
    patience: Option<Instant>,
}

impl Listeners {
    /// Sockets that another process passed on.
    pub(crate) fn given(sockets: Vec<(SocketAddr, TcpListener)>) -> Listeners {
        Listeners {
            sockets,
            patience: None,
        }
    }

    /// None: the process that had them ended without passing them on.
    pub(crate) fn of_ended() -> Listeners {
        Listeners {
            sockets: Vec::new(),
            patience: Some(Instant::now() + ENDING),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "before the start, when there is no worker to block"
    )]
    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        loop {
            match bind(address) {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && self.patience.is_some_and(|end| Instant::now() < end) =>
                {
                    thread::sleep(POLL);
                }
                bound => return bound,
            }
        }
    }

    /// Ensures that there is a listener at `address`, and returns a handle of its socket for the accept loop.
    ///
    /// # Errors
    /// The address cannot be bound, or no file descriptor is left.
    pub(crate) fn listen(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let known = self.sockets.iter().find(|(known, _)| *known == address);
        if let Some((_, listener)) = known {
            return listener.try_clone();
        }
        let listener = self.bind(address)?;
        let handle = listener.try_clone()?;
        self.sockets.push((address, listener));
        Ok(handle)
    }

    /// The socket at `address`, for an owner that closes it itself: one that another process passed on, or a new one.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) fn take(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let at = self.sockets.iter().position(|(known, _)| *known == address);
        match at {
            Some(at) => Ok(self.sockets.swap_remove(at).1),
            None => self.bind(address),
        }
    }

    /// Closes the sockets that are not at one of these addresses.
    pub(crate) fn keep(&mut self, addresses: &[SocketAddr]) {
        self.sockets
            .retain(|(address, _)| addresses.contains(address));
    }

    /// Closes all of them. The system rejects connections once the accept loops have dropped their handles too.
    pub(crate) fn close(&mut self) {
        self.sockets.clear();
    }

    /// Each socket with its address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &TcpListener)> {
        self.sockets
            .iter()
            .map(|(address, listener)| (*address, listener))
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Listens at `address`.
///
/// # Errors
/// The address cannot be bound.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether no process listens at `address`.
pub(super) fn is_free(address: SocketAddr) -> bool {
    try_bind(address).is_ok()
}

/// Tries whether a start could listen at `address`. The test socket is bound but never listens: otherwise a waiting
/// client would connect to it and be reset.
///
/// # Errors
/// The address cannot be bound.
pub(crate) fn try_bind(address: SocketAddr) -> io::Result<()> {
    socket(address).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_socket_listens_until_all_handles_are_dropped() {
        let mut listeners = Listeners::default();
        let port = bind(([127, 0, 0, 1], 0).into())
            .unwrap()
            .local_addr()
            .unwrap();
        let handle = listeners.listen(port).unwrap();
        assert_eq!(handle.local_addr().unwrap(), port);
        assert!(!is_free(port));
        assert!(listeners.listen(port).is_ok());
        listeners.keep(&[port]);
        assert_eq!(listeners.iter().count(), 1);
        listeners.close();
        assert!(TcpStream::connect(port).is_ok());
        drop(handle);
        assert!(TcpStream::connect(port).is_err());
        assert!(is_free(port));
    }

    #[test]
    fn an_address_of_a_process_that_ends_is_awaited() {
        let held = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = held.local_addr().unwrap();
        let mut others = Listeners::default();
        assert!(others.listen(address).is_err());
        let mut listeners = Listeners::of_ended();
        thread::scope(|scope| {
            let listening = scope.spawn(|| listeners.listen(address));
            assert!(!listening.is_finished());
            drop(held);
            assert!(listening.join().unwrap().is_ok());
        });
    }
}
