//! The control socket, through which `portcullis reload` gets the result of its request.
//!
//! The protocol is one request line and a reply of some lines, over a Unix socket in a private folder. Both ends
//! check the identity of the peer.
//!
//! | line | reply |
//! |---|---|
//! | `reload` | `reloaded`, or `refused` and the reason |
//! | `file` | `file` and the path of the configuration |
//! | `tickets`, `state` | what the process that takes over needs: [`HandOver`] |

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, getpid, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::server::control_folder;
use crate::server::descriptors::Spare;
use crate::server::hand_over::HandOver;

/// The maximum length of a request line.
const MAX_LINE_BYTES: u64 = 64;
/// The maximum length of a reply that a client reads.
const MAX_REPLY_BYTES: u64 = 64 << 20;
/// The timeout of a client's request line, and of the transfer of its reply.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of a whole exchange. A large configuration takes time to load.
const CONVERSATION: Duration = Duration::from_secs(60);
/// The timeout of `portcullis reload`, slightly longer than that of the exchange, so that the gateway's reason arrives.
const RELOAD: Duration = Duration::from_secs(65);
/// The maximum number of concurrent exchanges with clients that have sent their request.
const CONVERSATIONS: usize = 16;
/// The maximum number of clients that have not sent their request. A new one replaces the oldest.
const SILENT: usize = 16;
/// The wait for a reply after which `portcullis reload` shows what it waits for.
const SHOW_WAIT: Duration = Duration::from_secs(2);

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
    pub spare: Arc<Spare>,
    /// True once the process is stopping.
    pub stopping: watch::Receiver<bool>,
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
async fn begin(stream: UnixStream, orders: Arc<Orders>, permits: Arc<Semaphore>) {
    let read = async {
        let peer = stream.peer_cred()?.uid();
        let (reader, writer) = stream.into_split();
        let mut line = Vec::new();
        if may_order(peer) {
            let mut reader = BufReader::new(reader.take(MAX_LINE_BYTES));
            reader.read_until(b'\n', &mut line).await?;
        }
        io::Result::Ok((peer, line, writer))
    };
    if let Ok(Ok((peer, line, writer))) = tokio::time::timeout(TIMEOUT, read).await {
        let place = permits.try_acquire_owned().ok();
        tokio::spawn(converse(peer, line, writer, orders, place));
    } else {
        orders.spare.refill();
    }
}

async fn converse(
    peer: u32,
    line: Vec<u8>,
    mut writer: OwnedWriteHalf,
    orders: Arc<Orders>,
    place: Option<OwnedSemaphorePermit>,
) {
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
    let leaving = || "the gateway is stopping".to_owned();
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

fn may_order(peer: u32) -> bool {
    peer == 0 || peer == geteuid().as_raw()
}

/// The result of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The process has rejected it, for this reason.
    Rejected(String),
    /// There is no process to call, or it cannot be reached, for this reason.
    NotRunning(String),
}

/// Requests a reload from the process that listens at `port`, and waits for the result.
///
/// Calls `waits` with a text that says what it waits for if that takes some time.
pub(crate) fn reload(port: u16, waits: impl FnOnce(String) + Send + 'static) -> Outcome {
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        use std::sync::mpsc::RecvTimeoutError::Timeout;
        if is_done.recv_timeout(SHOW_WAIT) == Err(Timeout) {
            waits(format!(
                "waiting for the gateway at port {port} to load the configuration, at most {} s",
                RELOAD.as_secs()
            ));
        }
    });
    let asked = ask(port, "reload", RELOAD);
    drop(done);
    match asked {
        Err(reason) => Outcome::NotRunning(reason),
        Ok(reply) => match reply.split_once('\n') {
            Some(("reloaded", _)) => Outcome::Done,
            Some((_, reason)) => Outcome::Rejected(reason.trim_end().to_owned()),
            None => Outcome::NotRunning("the gateway ended without a reply".to_owned()),
        },
    }
}

/// Whether the process that listens at `port` responds within `limit`.
///
/// # Errors
/// There is no such process, it cannot be reached, or it does not respond.
pub(crate) fn responds(port: u16, limit: Duration) -> Result<(), String> {
    let reply = ask(port, "file", limit)?;
    match reply.split_once('\n') {
        Some(("file", _)) => Ok(()),
        Some((_, reason)) => Err(reason.trim_end().to_owned()),
        None => Err("the gateway ended without a reply".to_owned()),
    }
}

/// Ends the process with the control socket at `path`, if it does not respond there within `limit`. Returns its id.
pub(super) async fn end_silent(path: &Path, limit: Duration) -> Option<u32> {
    // The system accepts the connection even if the process is stopped.
    let mut stream = UnixStream::connect(path).await.ok()?;
    let peer = stream.peer_cred().ok()?;
    let replies = async {
        stream.write_all(b"file\n").await?;
        stream.read_u8().await
    };
    if tokio::time::timeout(limit, replies).await.is_ok() {
        return None;
    }
    let id = peer.pid().filter(|_| may_order(peer.uid()))?;
    let process = Pid::from_raw(id).filter(|process| *process != getpid())?;
    kill_process(process, Signal::KILL).ok()?;
    u32::try_from(id).ok()
}

/// The one name of a configuration file. The file itself may be missing, or a link that changes.
pub(crate) fn name_of(file: &Path) -> PathBuf {
    let whole = || {
        let folder = std::path::absolute(file).ok()?;
        let folder = std::fs::canonicalize(folder.parent()?).ok()?;
        Some(folder.join(file.file_name()?))
    };
    whole().unwrap_or_else(|| file.to_owned())
}

/// The port of the process that runs this configuration.
pub(crate) fn port_of(file: &Path) -> Option<u16> {
    let wanted = name_of(file);
    control_folder::candidates()
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| port_in(entry.ok()?.file_name().to_str()?))
        .find(|port| {
            let reply = ask(*port, "file", TIMEOUT).unwrap_or_default();
            let running = reply.strip_prefix("file\n").map(str::trim_end);
            running.is_some_and(|running| Path::new(running) == wanted)
        })
}

fn port_in(name: &str) -> Option<u16> {
    name.strip_prefix("portcullis-")?
        .strip_suffix(".sock")?
        .parse()
        .ok()
}

/// Sends one request and returns its reply.
pub(super) fn ask(port: u16, order: &str, limit: Duration) -> Result<String, String> {
    let mut folders = control_folder::candidates();
    let has_socket = |folder: &PathBuf| socket(folder, port).exists();
    if !folders.iter().any(has_socket) {
        folders.extend(control_folder::of_running());
        folders.dedup();
    }
    let Some(folder) = folders.iter().find(|folder| has_socket(folder)) else {
        let looked: Vec<String> = folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        return Err(format!(
            "no gateway responds: there is no control socket for port {port} in {}; a running gateway may have another RUNTIME_DIRECTORY or another user",
            looked.join(", ")
        ));
    };
    let path = socket(folder, port);
    ask_at(folder, &path, order, limit).map_err(|error| {
        format!(
            "no gateway responds at {}: {}",
            path.display(),
            told(&error, folder, limit)
        )
    })
}

/// Connects within `limit`: the queue of a process that hangs may be full.
fn connect(path: &Path, limit: Duration) -> io::Result<std::os::unix::net::UnixStream> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_write_timeout(Some(limit))?;
    socket.connect(&socket2::SockAddr::unix(path)?)?;
    socket.set_read_timeout(Some(limit))?;
    Ok(socket.into())
}

fn ask_at(folder: &Path, path: &Path, order: &str, limit: Duration) -> io::Result<String> {
    let stream = connect(path, limit)?;
    let owner = control_folder::owner(folder)?;
    let peer = rustix::net::sockopt::socket_peercred(&stream)?.uid.as_raw();
    if owner != Some(peer) || !(peer == 0 || geteuid().is_root() || may_order(peer)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("user {peer} listens there, and may not be the gateway"),
        ));
    }
    let mut stream = stream;
    stream.write_all(format!("{order}\n").as_bytes())?;
    let mut reply = String::new();
    stream.take(MAX_REPLY_BYTES).read_to_string(&mut reply)?;
    Ok(reply)
}

fn told(error: &io::Error, folder: &Path, limit: Duration) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            let ended = "the process that made the socket has ended";
            // A gateway that runs now may have rejected this folder at its start.
            control_folder::checked(folder).map_or_else(
                |reason| {
                    format!(
                        "{ended}; the folder {reason}, and a gateway of this user cannot use it: {}",
                        control_folder::HINT
                    )
                },
                |_| ended.to_owned(),
            )
        }
        io::ErrorKind::PermissionDenied => {
            "the socket belongs to another user; run this command as that user or as root"
                .to_owned()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("it did not respond within {} s", limit.as_secs())
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            file: "/etc/krakend.json".to_owned(),
            spare: Arc::new(Spare::take()),
            stopping,
            hand_over: HandOver::default(),
        };
        (orders, asked)
    }

    #[tokio::test]
    async fn silent_clients_and_a_gateway_that_stops_let_no_request_wait() {
        let folder = tempfile::tempdir().unwrap();
        let (stop, stopping) = watch::channel(false);
        let (orders, _never_read) = orders(stopping);
        let _control = serve(folder.path(), 8080, orders).unwrap();
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
        drop(silent);
    }

    #[test]
    fn the_socket_of_an_ended_process_in_a_folder_of_another_user_is_explained() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let folder = tempfile::tempdir().unwrap();
        let text = |error: &io::Error| told(error, folder.path(), TIMEOUT);
        assert_eq!(text(&refused), "the process that made the socket has ended");
        if geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(65_534), None).unwrap();
            let text = text(&refused);
            assert!(text.contains("belongs to user 65534"), "{text}");
            assert!(text.contains("RUNTIME_DIRECTORY"), "{text}");
        }
        let late = io::Error::from(io::ErrorKind::WouldBlock);
        assert_eq!(text(&late), "it did not respond within 2 s");
    }

    #[test]
    fn the_port_is_in_the_name() {
        assert_eq!(port_in("portcullis-8080.sock"), Some(8080));
        assert_eq!(port_in("portcullis-8080-upgrade.sock"), None);
    }
}
