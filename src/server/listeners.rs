//! The listening sockets: bound here, or taken over from the previous process.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// The requested length of the accept queue. The system may use a lower limit.
const BACKLOG: i32 = 65_535;

/// Listening sockets, by the requested address.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Vec<(SocketAddr, TcpListener)>);

impl Listeners {
    /// Sockets that another process passed on.
    pub(crate) fn given(sockets: Vec<(SocketAddr, TcpListener)>) -> Listeners {
        Listeners(sockets)
    }

    /// Ensures that there is a listener at `address`, and returns a handle of its socket for the accept loop.
    ///
    /// # Errors
    /// The address cannot be bound, or no file descriptor is left.
    pub(crate) fn listen(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let known = self.0.iter().find(|(known, _)| *known == address);
        if let Some((_, listener)) = known {
            return listener.try_clone();
        }
        let listener = bind(address)?;
        let handle = listener.try_clone()?;
        self.0.push((address, listener));
        Ok(handle)
    }

    /// The socket at `address`, for an owner that closes it itself: one that another process passed on, or a new one.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) fn take(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        match self.0.iter().position(|(known, _)| *known == address) {
            Some(at) => Ok(self.0.swap_remove(at).1),
            None => bind(address),
        }
    }

    /// Closes the sockets that are not at one of these addresses.
    pub(crate) fn keep(&mut self, addresses: &[SocketAddr]) {
        self.0.retain(|(address, _)| addresses.contains(address));
    }

    /// Closes all of them. The system rejects connections once the accept loops have dropped their handles too.
    pub(crate) fn close(&mut self) {
        self.0.clear();
    }

    /// Each socket with its address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &TcpListener)> {
        self.0
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
}
