//! The control socket, through which `portcullis reload` gets the result of its request.
//!
//! The protocol is one request line and a reply of some lines, over a Unix socket in a private folder. Both ends
//! check the identity of the peer.
//!
//! | line | reply |
//! |---|---|
//! | `reload` | `reloaded`, or `refused` and the reason |
//! | `file` | `file` and the path of the configuration |
//! | `reach` | how the health endpoint is reached: [`Reach`] |
//! | `tickets`, `state` | what the process that takes over needs: [`HandOver`] |
//! | `follow` and a number | what changes after that, in lines, until this process ends: [`hand_over::follow`] |

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::runtime::listen::Listen;
use crate::server::descriptors::Spare;
use crate::server::gateway::Shared;
use crate::server::hand_over::{self, HandOver};
use crate::server::reach::Reach;

/// The maximum length of a request line.
const MAX_LINE_BYTES: u64 = 64;
/// The timeout of a client's request line, and of the transfer of its reply.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of a whole exchange. A large configuration takes time to load.
const CONVERSATION: Duration = Duration::from_secs(60);
/// The maximum number of concurrent exchanges with clients that have sent their request.
const CONVERSATIONS: usize = 16;
/// The maximum number of clients that have not sent their request. A new one replaces the oldest.
const SILENT: usize = 16;

/// A request for a reload, whose sender may wait for the result.
#[derive(Debug, Default)]
pub(crate) struct ReloadRequest {
    reply: Option<oneshot::Sender<Result<(), String>>>,
}

impl ReloadRequest {
    /// Sends the result to the waiting sender.
    pub(crate) fn response(self, outcome: Result<(), String>) {
        if let Some(reply) = self.reply {
            let _ = reply.send(outcome);
        }
    }
}

/// The control socket of a process. Its file is removed on drop.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    /// Device and inode of our file: a process that took over has replaced it by another one.
    file: Option<(u64, u64)>,
    task: JoinHandle<()>,
    is_replaced: Arc<AtomicBool>,
}

impl Control {
    /// Ends it because another process has taken over, which those who wait for a reload are told.
    pub(crate) fn replaced(self) {
        self.is_replaced.store(true, Ordering::Relaxed);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        if self.file.is_some() && identity(&self.path) == self.file {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// The path of the control socket of the process at `port`.
pub(super) fn socket(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!("portcullis-{port}.sock"))
}

/// The data that the socket serves.
#[derive(Debug)]
pub(crate) struct Orders {
    pub asks: mpsc::Sender<ReloadRequest>,
    /// The configuration in use.
    pub file: String,
    /// The listener, and the service in use. `None` if nothing listens.
    pub listener: Option<(Listen, Arc<Shared>)>,
    pub spare: Arc<Spare>,
    /// True once the process is stopping.
    pub stopping: watch::Receiver<bool>,
    /// Whether it stops because another process has taken over.
    pub is_replaced: Arc<AtomicBool>,
    /// For the process that takes over.
    pub hand_over: HandOver,
}

/// Listens for requests in `folder`, for the process at `port`.
///
/// # Errors
/// The socket cannot be created.
pub(crate) fn serve(folder: &Path, port: u16, orders: Orders) -> io::Result<Control> {
    let path = socket(folder, port);
    // A file of a process that has ended, or of one that hands over to this process, would prevent binding.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Control {
        file: identity(&path),
        path,
        is_replaced: Arc::clone(&orders.is_replaced),
        task: tokio::spawn(accept(listener, Arc::new(orders))),
    })
}

async fn accept(listener: UnixListener, orders: Arc<Orders>) {
    let permits = Arc::new(Semaphore::new(CONVERSATIONS));
    let mut silent: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                silent.retain(|client| !client.is_finished());
                if silent.len() >= SILENT
                    && let Some(oldest) = silent.pop_front()
                {
                    oldest.abort();
                }
                let begun = begin(stream, Arc::clone(&orders), Arc::clone(&permits));
                silent.push_back(tokio::spawn(begun).abort_handle());
                // A client that has sent its request is read before others replace it.
                tokio::task::yield_now().await;
            }
            Err(_) if orders.spare.give() => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Reads the request of a client, and starts to reply. Can be aborted while the client is silent.
async fn begin(mut stream: UnixStream, orders: Arc<Orders>, permits: Arc<Semaphore>) {
    let read = async {
        let peer = stream.peer_cred()?.uid();
        let mut line = Vec::new();
        if may_order(peer) {
            let mut reader = BufReader::new((&mut stream).take(MAX_LINE_BYTES));
            reader.read_until(b'\n', &mut line).await?;
        }
        io::Result::Ok((peer, line))
    };
    if let Ok(Ok((peer, line))) = tokio::time::timeout(TIMEOUT, read).await {
        let place = permits.try_acquire_owned().ok();
        tokio::spawn(converse(peer, line, stream, orders, place));
    } else {
        orders.spare.refill();
    }
}

async fn converse(
    peer: u32,
    line: Vec<u8>,
    mut writer: UnixStream,
    orders: Arc<Orders>,
    place: Option<OwnedSemaphorePermit>,
) {
    if may_order(peer) && hand_over::is_follower(line.trim_ascii()) {
        orders.hand_over.follow(writer);
        return orders.spare.refill();
    }
    let reply = if !may_order(peer) {
        let me = geteuid().as_raw();
        format!("refused\nonly user {me} and root may control this process\n")
    } else if place.is_none() {
        "refused\ntoo many requests wait for their reply\n".to_owned()
    } else {
        let replied = reply(line.trim_ascii(), &orders);
        let replied = tokio::time::timeout(CONVERSATION, replied).await;
        replied.unwrap_or_else(|_| "refused\nnot loaded within 60 s\n".to_owned())
    };
    let sent = async {
        writer.write_all(reply.as_bytes()).await?;
        writer.shutdown().await
    };
    // A client that does not read its reply is left.
    let _ = tokio::time::timeout(TIMEOUT, sent).await;
    drop((writer, place));
    orders.spare.refill();
}

async fn reply(line: &[u8], orders: &Orders) -> String {
    match line {
        b"file" => format!("file\n{}\n", orders.file),
        b"reach" => orders.listener.as_ref().map_or_else(
            || "unknown\n".to_owned(),
            |(listen, shared)| {
                let active = shared.active.load();
                let path = active.service.options.health_path.as_deref();
                Reach::new(listen, path).line()
            },
        ),
        b"reload" => match reload_here(orders).await {
            Ok(()) => "reloaded\n".to_owned(),
            Err(reason) => format!("refused\n{reason}\n"),
        },
        other => orders
            .hand_over
            .reply(other)
            .unwrap_or_else(|| "unknown\n".to_owned()),
    }
}

async fn reload_here(orders: &Orders) -> Result<(), String> {
    let leaving = || {
        let is_replaced = orders.is_replaced.load(Ordering::Relaxed);
        // It has read the file at its start, which may have been before the last change.
        let why = if is_replaced {
            "an upgrade was in progress, and the new process serves now; reload again, so that it reads the file"
        } else {
            "the gateway is stopping"
        };
        why.to_owned()
    };
    let (sender, receiver) = oneshot::channel();
    let ask = ReloadRequest {
        reply: Some(sender),
    };
    let mut stopping = orders.stopping.clone();
    let asked = async {
        orders.asks.send(ask).await.map_err(|_| leaving())?;
        receiver.await.unwrap_or_else(|_| Err(leaving()))
    };
    tokio::select! {
        biased;
        // A process that is stopping does not load anything. It has ended if there is no sender.
        _ = stopping.wait_for(|stopping| *stopping) => Err(leaving()),
        result = asked => result,
    }
}

pub(super) fn may_order(peer: u32) -> bool {
    peer == 0 || peer == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::control_client::ask_at;

    #[tokio::test]
    async fn the_socket_is_removed_with_its_process_unless_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let orders = || orders(watch::channel(false).1).0;
        let path = socket(folder.path(), 8080);
        std::fs::write(&path, "left behind").unwrap();
        let old = serve(folder.path(), 8080, orders()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let new = serve(folder.path(), 8080, orders()).unwrap();
        drop(old);
        let reply = {
            let (folder, path) = (folder.path().to_owned(), path.clone());
            let asked = move || ask_at(&folder, &path, "file", TIMEOUT);
            tokio::task::spawn_blocking(asked).await.unwrap()
        };
        assert_eq!(reply.unwrap(), "file\n/etc/krakend.json\n");
        drop(new);
        assert!(!path.exists());
    }

    fn orders(stopping: watch::Receiver<bool>) -> (Orders, mpsc::Receiver<ReloadRequest>) {
        let (asks, asked) = mpsc::channel(1);
        let orders = Orders {
            asks,
            listener: None,
            file: "/etc/krakend.json".to_owned(),
            spare: Arc::new(Spare::take()),
            stopping,
            is_replaced: Arc::default(),
            hand_over: HandOver::default(),
        };
        (orders, asked)
    }

    #[tokio::test]
    async fn silent_clients_and_a_gateway_that_stops_let_no_request_wait() {
        let folder = tempfile::tempdir().unwrap();
        let (stop, stopping) = watch::channel(false);
        let (orders, _never_read) = orders(stopping);
        let control = serve(folder.path(), 8080, orders).unwrap();
        let path = socket(folder.path(), 8080);
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(UnixStream::connect(&path).await.unwrap());
            // The queue of the system may be short.
            tokio::task::yield_now().await;
        }
        let asked = |order: &'static str| {
            let (folder, path) = (folder.path().to_owned(), path.clone());
            let limit = Duration::from_secs(60);
            tokio::task::spawn_blocking(move || ask_at(&folder, &path, order, limit))
        };
        let began = std::time::Instant::now();
        let reply = asked("file").await.unwrap();
        assert_eq!(reply.unwrap(), "file\n/etc/krakend.json\n");
        // Some minutes if each of them may be silent for seconds in turn.
        assert!(began.elapsed() < Duration::from_secs(10));
        let reload = asked("reload");
        stop.send_replace(true);
        let reply = reload.await.unwrap();
        assert_eq!(reply.unwrap(), "refused\nthe gateway is stopping\n");
        let reload = asked("reload");
        control.is_replaced.store(true, Ordering::Relaxed);
        let reply = reload.await.unwrap().unwrap();
        assert!(reply.contains("reload again"), "{reply}");
        drop((silent, control));
    }
}
