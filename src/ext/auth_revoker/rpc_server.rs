//! The RPC port: authentication, timeouts, limits.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::gob::number_bytes;
use super::revocation_list::RevocationAccess;
use super::session::Session;
use crate::runtime::own_listener::Turn;

/// Connections whose client has proved that it may revoke tokens. More of them are closed.
const CONNECTIONS: usize = 32;
/// Connections that have neither sent the secret nor, where none is needed, a message. A new one replaces the oldest.
const NEWCOMERS: usize = 32;
const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// How long a client may keep its connection between calls.
const IDLE: Duration = Duration::from_secs(600);
/// A client that has sent nothing yet uses a connection that another may need.
const FIRST: Duration = Duration::from_secs(30);
/// The time to receive a message that has started, and to send a response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a failure that may pass, such as a lack of file descriptors.
const RETRY: Duration = Duration::from_millis(250);
/// The maximum length of the first line, which is `AUTH` and the secret.
const MAX_LINE_BYTES: usize = 1024;

/// The address of the RPC port, for reports.
#[derive(Debug, Clone, Copy)]
pub struct RpcAddress(pub SocketAddr);

/// Serves the port from the moment when the server has bound it, or has taken it over, until it is closed.
pub(super) async fn serve(mut turn: Turn, revocations: Arc<RevocationAccess>, guarded: bool) {
    let listener = loop {
        let Some(opened) = turn.opened().await else {
            return;
        };
        match opened.and_then(TcpListener::from_std) {
            Ok(listener) => break listener,
            Err(error) => log::warn!("[SERVICE: Bloomfilter] {error}"),
        }
        tokio::time::sleep(RETRY).await;
    };
    log::debug!("[SERVICE: Bloomfilter] Service registered successfully");
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut newcomers = Unauthenticated::default();
    let mut talking = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    newcomers.make_room();
                    let revocations = Arc::clone(&revocations);
                    let entry = Entry { places: Arc::clone(&places), settled: Arc::default() };
                    let settled = Arc::clone(&entry.settled);
                    let task = talking.spawn(async move {
                        if let Err(error) = talk(stream, &revocations, guarded, &entry).await {
                            log::warn!("[SERVICE: Bloomfilter] {peer}: {error}");
                        }
                    });
                    newcomers.0.push_back((task, settled));
                }
                // For example, there are no file descriptors left. Retrying immediately would only waste CPU time.
                Err(_) => tokio::time::sleep(RETRY).await,
            },
            Some(_) = talking.join_next(), if !talking.is_empty() => {}
            () = turn.closed() => return,
        }
    }
}

/// The tasks of clients that have proved nothing yet, the oldest first, and whether each has done so meanwhile. They have
/// places of their own, so that silent clients cannot lock out others.
#[derive(Default)]
struct Unauthenticated(VecDeque<(AbortHandle, Arc<AtomicBool>)>);

impl Unauthenticated {
    /// Closes the oldest of them if there are too many.
    fn make_room(&mut self) {
        let is_new = |(task, settled): &(AbortHandle, Arc<AtomicBool>)| {
            !settled.load(Ordering::Relaxed) && !task.is_finished()
        };
        self.0.retain(is_new);
        if self.0.len() < NEWCOMERS {
            return;
        }
        log::warn!(
            "[SERVICE: Bloomfilter] more than {NEWCOMERS} clients have sent no request: the oldest connection is closed"
        );
        if let Some((oldest, _)) = self.0.pop_front() {
            oldest.abort();
        }
    }
}

/// How a client becomes one that has proved that it may revoke tokens.
struct Entry {
    places: Arc<Semaphore>,
    settled: Arc<AtomicBool>,
}

impl Entry {
    fn settle(&self) -> io::Result<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place =
            place.map_err(|_| io::Error::other(format!("more than {CONNECTIONS} connections")))?;
        self.settled.store(true, Ordering::Relaxed);
        Ok(place)
    }
}

/// Handles one client until it closes its connection.
async fn talk(
    mut stream: TcpStream,
    revocations: &RevocationAccess,
    guarded: bool,
    entry: &Entry,
) -> io::Result<()> {
    let mut place = None;
    if guarded {
        timeout(TIMEOUT, authenticate(&mut stream, revocations)).await??;
        place = Some(entry.settle()?);
    }
    let mut session = Session::default();
    let mut out = Vec::new();
    let mut pause = FIRST;
    while let Some(first) = timeout(pause, next(&mut stream)).await? {
        pause = IDLE;
        let message = timeout(TIMEOUT, rest(&mut stream, first)).await??;
        if place.is_none() {
            place = Some(entry.settle()?);
        }
        session
            .message(&message, revocations, &mut out)
            .map_err(io::Error::other)?;
        timeout(TIMEOUT, stream.write_all(&out)).await??;
        out.clear();
    }
    Ok(())
}

/// The first byte of a message. None if the client has closed its connection or it broke.
async fn next(stream: &mut TcpStream) -> Option<u8> {
    stream.read_u8().await.ok()
}

async fn rest(stream: &mut (impl AsyncRead + Unpin), first: u8) -> io::Result<Vec<u8>> {
    let mut length = u64::from(first);
    let more = number_bytes(first).map_err(io::Error::other)?;
    if more > 0 {
        length = 0;
        for _ in 0..more {
            length = length << 8 | u64::from(stream.read_u8().await?);
        }
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_MESSAGE_BYTES)
        .ok_or_else(|| io::Error::other("the message is too long"))?;
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Requires a first line `AUTH secret`, before anything else.
async fn authenticate(stream: &mut TcpStream, revocations: &RevocationAccess) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            byte if line.len() < MAX_LINE_BYTES => line.push(byte),
            _ => return Err(io::Error::other("not authenticated")),
        }
    }
    let line = line.strip_suffix(b"\r").unwrap_or(&line);
    match line.strip_prefix(b"AUTH ") {
        Some(secret) if revocations.trusts(secret) => Ok(()),
        _ => Err(io::Error::other("not authenticated")),
    }
}
