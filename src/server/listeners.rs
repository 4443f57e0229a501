//! The listening sockets: bound here, or taken over from the process before us.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the system may hold for us; it takes its own bound where that is lower.
const BACKLOG: i32 = 65_535;

/// Sockets that listen, by the address they were asked for.
#[derive(Debug, Default)]
pub struct Listeners(Vec<(SocketAddr, TcpListener)>);

impl Listeners {
    /// Those that another process gave us.
    pub fn given(sockets: Vec<(SocketAddr, TcpListener)>) -> Listeners {
        Listeners(sockets)
    }

    /// Makes sure that somebody listens at `address`, and returns a handle of the socket for the accept loop.
    ///
    /// # Errors
    /// The address cannot be bound, or no descriptor is left.
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let known = self.0.iter().find(|(known, _)| *known == address);
        if let Some((_, listener)) = known {
            return listener.try_clone();
        }
        let listener = bind(address)?;
        let handle = listener.try_clone()?;
        self.0.push((address, listener));
        Ok(handle)
    }

    /// Closes the sockets that are not at one of these addresses.
    pub fn keep(&mut self, addresses: &[SocketAddr]) {
        self.0.retain(|(address, _)| addresses.contains(address));
    }

    /// Closes all of them. The system refuses connections once the accept loops have let go, too.
    pub fn close(&mut self) {
        self.0.clear();
    }

    /// Each socket with its address.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &TcpListener)> {
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

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether nobody listens at `address`. Bound and never listening: a client that waits for us would otherwise reach
/// this socket and be reset.
pub fn is_free(address: SocketAddr) -> bool {
    socket(address).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_socket_listens_until_all_handles_are_gone() {
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
