//! Passes listening sockets from one process to another.
//!
//! The new process waits at a Unix socket in a private folder. The old one connects, both check that the other
//! belongs to the same user, and the file descriptors are sent (`SCM_RIGHTS`, unix(7)). The old process continues to
//! serve until the new one reports that it accepts connections.
//!
//! The message has one line for each descriptor, with its address. The reply is `ready`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

use crate::server::control_client::{self, Silence};
use crate::server::listeners::{self, Listeners};
use crate::server::new_process::Successor;
use crate::server::stopped;

/// How long a new process waits for the sockets while another process uses the address.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often it checks whether the address is free, and how often the old process checks for the new one.
const POLL: Duration = Duration::from_millis(20);
/// How long a process that still works takes to respond at its control socket.
const RESPONSE: Duration = Duration::from_secs(1);
/// The new process loads its configuration before it requests the sockets, so it is ready soon after.
const READY: Duration = Duration::from_secs(15);
/// The maximum number of sockets in one message.
const MOST: usize = 32;
/// The maximum length of a message.
const MESSAGE: usize = 4096;
const WORD: &[u8] = b"ready\n";

/// The path where the process that will listen at `address` waits for the sockets.
pub(super) fn path(folder: &Path, address: SocketAddr) -> PathBuf {
    folder.join(format!("portcullis-{}-upgrade.sock", address.port()))
}

/// The sockets that a new process received.
#[derive(Debug, Default)]
pub(super) struct ReceivedSockets {
    pub listeners: Listeners,
    /// The process that waits for the report that this one accepts connections. `None` if there was none to take over
    /// from.
    old: Option<UnixStream>,
}

impl ReceivedSockets {
    /// Reports to the old process that this one accepts connections.
    pub(super) async fn ready(&mut self) {
        if let Some(mut old) = self.old.take() {
            // The old process may have ended meanwhile, so an error is ignored.
            let _ = old.write_all(WORD).await;
        }
    }
}

/// The process to take over from.
#[derive(Debug)]
pub(super) struct OldProcess {
    pub address: SocketAddr,
    /// The path of its control socket.
    pub control: PathBuf,
    /// The wait for its sockets. After it, the process is ended if it does not respond at its control socket, and then stopped
    /// ones with this port.
    pub wait: Duration,
}

/// Waits at `path` until the old process passes its sockets on. If no process listens at its address, or no longer,
/// there is nothing to take.
///
/// # Errors
/// The socket cannot be created, or a process listens at the address and does not pass its sockets on.
pub(super) async fn take(path: &Path, from: &OldProcess) -> io::Result<ReceivedSockets> {
    let address = from.address;
    // A file of an earlier attempt would prevent binding.
    let _ = std::fs::remove_file(path);
    let socket = UnixListener::bind(path)?;
    let _file = SocketFile(path);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let taken = tokio::time::timeout(TIMEOUT.max(from.wait), taken(&socket, from)).await;
    taken.map_err(|_| {
        io::Error::other(format!(
            "{address} is in use, and no process handed it over within {} s: send SIGQUIT or SIGUSR2 to the process that listens there",
            TIMEOUT.max(from.wait).as_secs()
        ))
    })
}

/// The file of a socket, which is removed on drop: also when a signal ends the wait.
struct SocketFile<'p>(&'p Path);

impl Drop for SocketFile<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

async fn taken(socket: &UnixListener, from: &OldProcess) -> ReceivedSockets {
    let mut look = Instant::now() + from.wait;
    loop {
        tokio::select! {
            accepted = socket.accept() => {
                let received = match accepted {
                    Ok((old, _)) => receive(old, READY.min(from.wait)).await,
                    Err(error) => Err(error),
                };
                match received {
                    Ok(taken) => return taken,
                    Err(error) => log::warn!("[SERVICE: Gateway] no sockets were received: {error}"),
                }
            }
            () = tokio::time::sleep(POLL) => {
                if listeners::is_free(from.address) {
                    return ReceivedSockets {
                        listeners: Listeners::of_ended(),
                        old: None,
                    };
                }
            }
        }
        if Instant::now() >= look {
            look = Instant::now() + from.wait.max(RESPONSE);
            let address = from.address;
            let silence = control_client::end_silent(&from.control, RESPONSE).await;
            if let Silence::Killed(id) = silence {
                log::warn!(
                    "[SERVICE: Gateway] the process {id} at {address} did not respond and was killed"
                );
            }
            if silence != Silence::Responds {
                for id in stopped::end_all(address.port()) {
                    log::warn!(
                        "[SERVICE: Gateway] the process {id} at {address} was stopped, had not closed its socket, and was killed"
                    );
                }
            }
        }
    }
}

async fn receive(old: UnixStream, limit: Duration) -> io::Result<ReceivedSockets> {
    same_user(&old)?;
    let (message, descriptors) = tokio::time::timeout(limit, async {
        loop {
            old.readable().await?;
            match old.try_io(Interest::READABLE, || receive_once(old.as_fd())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    })
    .await??;
    let addresses: Vec<SocketAddr> = message
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    if addresses.is_empty() || addresses.len() != descriptors.len() {
        return Err(io::Error::other("the message is incomplete"));
    }
    let listeners = descriptors.into_iter().map(TcpListener::from);
    Ok(ReceivedSockets {
        listeners: Listeners::given(addresses.into_iter().zip(listeners).collect()),
        old: Some(old),
    })
}

/// What arrives next, with the descriptors that were sent with it.
///
/// # Errors
/// Nothing has arrived yet, or the connection is broken.
pub(super) fn receive_once(socket: BorrowedFd<'_>) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut message = [0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut message)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let text = message.get(..read.bytes).unwrap_or_default();
    Ok((String::from_utf8_lossy(text).into_owned(), descriptors))
}

/// Why passing the sockets on failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    #[error("no process waits for the sockets at {0}")]
    NoProcess(PathBuf),
    #[error("the new process did not take over: {0}")]
    Failed(#[from] io::Error),
}

/// Looks for a process that waits at `path`, for at most the given time.
///
/// # Errors
/// There is none, or it belongs to another user.
pub(super) async fn find(path: &Path, timeout: Duration) -> Result<UnixStream, TransferError> {
    let end = tokio::time::Instant::now() + timeout;
    loop {
        match UnixStream::connect(path).await {
            Ok(taker) => {
                same_user(&taker)?;
                return Ok(taker);
            }
            Err(_) if tokio::time::Instant::now() < end => tokio::time::sleep(POLL).await,
            Err(_) => return Err(TransferError::NoProcess(path.to_owned())),
        }
    }
}

/// Passes the sockets to a process that [`find`] has found, and waits until it accepts connections.
///
/// # Errors
/// It has ended, or takes too long. This process keeps the sockets.
pub(super) async fn give(
    mut taker: UnixStream,
    listeners: &Listeners,
) -> Result<Successor, TransferError> {
    let successor = Successor::at(&taker)?;
    let (message, descriptors): (String, Vec<BorrowedFd<'_>>) = listeners
        .iter()
        .map(|(address, listener)| (format!("{address}\n"), listener.as_fd()))
        .unzip();
    taker.writable().await?;
    send(taker.as_fd(), message.as_bytes(), &descriptors)?;
    let mut word = [0; WORD.len()];
    let response = tokio::time::timeout(READY, taker.read_exact(&mut word)).await;
    match response {
        Ok(Ok(_)) if word == *WORD => Ok(successor),
        Ok(Ok(_)) => Err(io::Error::other("its reply is invalid").into()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// Sends descriptors with a message.
///
/// # Errors
/// There are too many, or the connection is broken.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let flags = SendFlags::NOSIGNAL;
    let sent = sendmsg(socket, &[IoSlice::new(message)], &mut control, flags)?;
    if sent != message.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Whether the peer belongs to the user of this process.
fn same_user(stream: &UnixStream) -> io::Result<()> {
    let (peer, me) = (stream.peer_cred()?.uid(), geteuid().as_raw());
    if peer == me {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the other process belongs to user {peer}, and this is user {me}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(path: &Path, address: SocketAddr) -> OldProcess {
        OldProcess {
            address,
            control: path.with_extension("control"),
            wait: Duration::from_secs(60),
        }
    }

    fn listening() -> (Listeners, SocketAddr) {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut listeners = Listeners::default();
        listeners.listen(address).unwrap();
        (listeners, address)
    }

    #[tokio::test]
    async fn sockets_are_passed_on_and_the_old_process_learns_that_they_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let (old, address) = listening();
        let path = path(folder.path(), address);
        let new = tokio::spawn({
            let path = path.clone();
            async move { take(&path, &from(&path, address)).await }
        });
        let taker = find(&path, Duration::from_secs(5)).await.unwrap();
        let giving = give(taker, &old);
        let taking = async {
            let mut taken = new.await.unwrap().unwrap();
            taken.ready().await;
            taken
        };
        let (given, mut taken) = tokio::join!(giving, taking);
        given.unwrap();
        assert!(!path.exists());
        let handle = taken.listeners.listen(address).unwrap();
        drop(old);
        let client = std::net::TcpStream::connect(address).unwrap();
        handle.set_nonblocking(false).unwrap();
        let (_, peer) = handle.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn if_the_old_process_ends_the_address_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let (old, address) = listening();
        let path = path(folder.path(), address);
        let new = tokio::spawn({
            let path = path.clone();
            async move { take(&path, &from(&path, address)).await }
        });
        // It connects, and closes the connection before it sends anything.
        drop(find(&path, Duration::from_secs(5)).await.unwrap());
        tokio::time::sleep(POLL * 5).await;
        assert!(!new.is_finished());
        drop(old);
        let taken = new.await.unwrap().unwrap();
        assert_eq!(taken.listeners.iter().count(), 0);
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (_old, address) = listening();
        let path = path(folder.path(), address);
        let from = from(&path, address);
        let found = tokio::select! {
            _ = take(&path, &from) => panic!("nothing was passed on"),
            found = find(&path, Duration::from_secs(5)) => found,
        };
        found.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn if_the_new_process_ends_the_old_one_keeps_the_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let (old, address) = listening();
        let path = path(folder.path(), address);
        assert!(matches!(
            find(&path, Duration::ZERO).await,
            Err(TransferError::NoProcess(_))
        ));
        let socket = UnixListener::bind(&path).unwrap();
        let taker = find(&path, Duration::ZERO).await.unwrap();
        let taking = async {
            let (old, _) = socket.accept().await.unwrap();
            drop(receive(old, READY).await.unwrap());
        };
        let (given, ()) = tokio::join!(give(taker, &old), taking);
        assert!(matches!(given, Err(TransferError::Failed(_))), "{given:?}");
        assert!(!listeners::is_free(address));
    }
}
