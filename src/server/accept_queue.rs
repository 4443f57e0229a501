//! The connections that wait at a listening socket.
//!
//! To take a connection from an empty queue, the system creates a socket and discards it: that costs ten times as much as
//! to ask whether one waits. Tokio's own listener does so after each connection that came alone.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

/// A listening socket.
#[derive(Debug)]
pub(super) struct AcceptQueue {
    listener: AsyncFd<TcpListener>,
    /// A connection was taken since the system last reported one, so there may be no other.
    may_be_empty: bool,
    /// Whether accepted sockets have TCP_NODELAY from the listener. Known after the first one.
    inherits: Option<bool>,
}

impl AcceptQueue {
    /// The queue of `listener`, which does not block.
    ///
    /// # Errors
    /// The system cannot watch the socket.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, because a descriptor could be a wrong one; a listener has its own"
    )]
    pub(super) fn new(listener: TcpListener) -> io::Result<AcceptQueue> {
        // If it fails, it is set for each connection.
        let _ = SockRef::from(&listener).set_tcp_nodelay(true);
        Ok(AcceptQueue {
            listener: AsyncFd::with_interest(listener, Interest::READABLE)?,
            may_be_empty: false,
            inherits: None,
        })
    }

    /// Waits for a connection. May be cancelled.
    pub(super) async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        // Others also have their turn in a storm of connections.
        consume_budget().await;
        loop {
            let mut ready = self.listener.readable().await?;
            let may_be_empty = self.may_be_empty;
            let taken = ready.try_io(|listener| {
                if may_be_empty && !has_one(listener.get_ref())? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                take(listener.get_ref())
            });
            match taken {
                Ok(taken) => {
                    self.may_be_empty = true;
                    return self.prepare(taken?);
                }
                Err(_) => self.may_be_empty = false,
            }
        }
    }

    /// Waits until a connection is there, and leaves it in the queue. May be cancelled.
    pub(super) async fn has_waiting(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.listener.readable().await?;
            if has_one(self.listener.get_ref())? {
                return Ok(());
            }
            self.may_be_empty = false;
            ready.clear_ready();
        }
    }

    /// A connection that is already there.
    pub(super) fn waiting(&mut self) -> Option<(TcpStream, SocketAddr)> {
        let taken = take(self.listener.get_ref()).ok()?;
        self.prepare(taken).ok()
    }

    fn prepare(
        &mut self,
        (stream, peer): (std::net::TcpStream, SocketAddr),
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let inherits = match self.inherits {
            Some(inherits) => inherits,
            None => *self.inherits.insert(stream.nodelay().unwrap_or(false)),
        };
        if !inherits {
            // A failing socket will report its error by itself.
            let _ = stream.set_nodelay(true);
        }
        Ok((TcpStream::from_std(stream)?, peer))
    }
}

fn has_one(listener: &TcpListener) -> io::Result<bool> {
    let mut asked = [PollFd::new(listener, PollFlags::IN)];
    Ok(poll(&mut asked, Some(&Timespec::default()))? > 0)
}

fn take(listener: &TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (socket, peer) = acceptfrom_with(listener, flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok((socket.into(), peer.ok_or(io::ErrorKind::InvalidData)?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn queue() -> (AcceptQueue, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (AcceptQueue::new(listener).unwrap(), address)
    }

    #[tokio::test]
    async fn connections_that_come_together_or_alone_are_accepted() {
        let (mut queue, address) = queue();
        for count in [1, 1, 3, 1, 20, 1] {
            let clients: Vec<Client> = (0..count)
                .map(|_| Client::connect(address).unwrap())
                .collect();
            for client in &clients {
                let waits = tokio::time::timeout(LIMIT, queue.has_waiting()).await;
                waits.expect("it is reported").unwrap();
                let next = tokio::time::timeout(LIMIT, queue.next()).await;
                let (stream, peer) = next.expect("it is reported").unwrap();
                assert_eq!(peer, client.local_addr().unwrap());
                assert!(stream.nodelay().unwrap());
            }
        }
        // Cancelling the wait takes no connection.
        let early = tokio::time::timeout(Duration::from_millis(1), queue.next()).await;
        assert!(early.is_err());
        let client = Client::connect(address).unwrap();
        let next = tokio::time::timeout(LIMIT, queue.next()).await;
        assert_eq!(next.unwrap().unwrap().1, client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn the_rest_is_accepted_without_waiting() {
        let (mut queue, address) = queue();
        assert!(queue.waiting().is_none());
        let clients = [
            Client::connect(address).unwrap(),
            Client::connect(address).unwrap(),
        ];
        for client in &clients {
            let (stream, peer) = queue.waiting().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert!(stream.nodelay().unwrap());
        }
        assert!(queue.waiting().is_none());
    }
}
