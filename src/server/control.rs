//! The control socket, through which `portcullis reload` gets the result of its request.
//!
//! The protocol is one request line and a reply of some lines, over a Unix socket in a private folder. Both ends
//! check the identity of the peer.
//!
//! | line | reply |
//! |---|---|
//! | `reload` | `reloaded`, or `refused` and the reason |
//! | `file` | `file` and the path of the configuration |
//! | `tickets` | the session ticket keys, for the process that takes over |

use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, getpid, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::server::descriptors::Spare;
use crate::server::folder;
use crate::server::tickets::Tickets;

/// The maximum length of a request line.
const MAX_LINE_BYTES: u64 = 64;
/// The maximum length of a reply that a client reads.
const MAX_REPLY_BYTES: u64 = 4 << 20;
/// The timeout of a client's request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of a whole exchange. A large configuration takes time to load.
const CONVERSATION: Duration = Duration::from_secs(60);
/// The timeout of a request for ticket keys. The process may have stopped after it passed its sockets on.
const TICKETS: Duration = Duration::from_secs(2);
/// The maximum number of concurrent exchanges.
const CONVERSATIONS: usize = 16;

/// A request for a reload, whose sender may wait for the result.
#[derive(Debug, Default)]
pub(crate) struct Ask {
    reply: Option<oneshot::Sender<Result<(), String>>>,
}

impl Ask {
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
    pub asks: mpsc::Sender<Ask>,
    /// The configuration in use.
    pub file: String,
    pub spare: Arc<Spare>,
    /// For the process that takes over.
    pub tickets: Option<Arc<Tickets>>,
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
    let room = Arc::new(Semaphore::new(CONVERSATIONS));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let orders = Arc::clone(&orders);
                tokio::spawn(async move {
                    let talk = converse(stream, &orders);
                    let _ = tokio::time::timeout(CONVERSATION, talk).await;
                    orders.spare.refill();
                    drop(place);
                });
            }
            Err(_) if orders.spare.give() => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(stream: UnixStream, orders: &Orders) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let (reader, mut writer) = stream.into_split();
    let reply = if may_order(peer) {
        let mut line = Vec::new();
        let mut reader = BufReader::new(reader.take(MAX_LINE_BYTES));
        tokio::time::timeout(TIMEOUT, reader.read_until(b'\n', &mut line)).await??;
        reply(line.trim_ascii(), orders).await
    } else {
        let me = geteuid().as_raw();
        format!("refused\nonly user {me} and root may control this process\n")
    };
    writer.write_all(reply.as_bytes()).await?;
    writer.shutdown().await
}

async fn reply(line: &[u8], orders: &Orders) -> String {
    match line {
        b"file" => format!("file\n{}\n", orders.file),
        b"reload" => match reload_here(&orders.asks).await {
            Ok(()) => "reloaded\n".to_owned(),
            Err(reason) => format!("refused\n{reason}\n"),
        },
        b"tickets" => {
            let tickets = orders.tickets.as_deref();
            tickets.map(Tickets::to_hand_over).unwrap_or_default()
        }
        _ => "unknown\n".to_owned(),
    }
}

async fn reload_here(asks: &mpsc::Sender<Ask>) -> Result<(), String> {
    let leaving = || "the process is stopping".to_owned();
    let (sender, receiver) = oneshot::channel();
    let ask = Ask {
        reply: Some(sender),
    };
    asks.send(ask).await.map_err(|_| leaving())?;
    receiver.await.unwrap_or_else(|_| Err(leaving()))
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
pub(crate) fn reload(port: u16) -> Outcome {
    match ask(port, "reload", CONVERSATION) {
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

/// The ticket keys of the process that listens at `port`, from which this one takes over. `None` if there is no
/// reply, or the process belongs to another user.
pub(crate) fn tickets(port: u16) -> Option<String> {
    ask(port, "tickets", TICKETS).ok()
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
    folder::candidates()
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| port_in(entry.ok()?.file_name().to_str()?))
        .find(|port| {
            let reply = ask(*port, "file", CONVERSATION).unwrap_or_default();
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
fn ask(port: u16, order: &str, limit: Duration) -> Result<String, String> {
    let folders = folder::candidates();
    let found = folders.iter().find(|folder| socket(folder, port).exists());
    let Some(folder) = found else {
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
            told(&error)
        )
    })
}

fn ask_at(folder: &Path, path: &Path, order: &str, limit: Duration) -> io::Result<String> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(limit))?;
    let owner = folder::owner(folder)?;
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

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the process that made the socket has ended".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "the socket belongs to another user; run this command as that user or as root"
                .to_owned()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "it did not respond in time".to_owned()
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
        let orders = || Orders {
            asks: mpsc::channel(1).0,
            file: "/etc/krakend.json".to_owned(),
            spare: Arc::new(Spare::take()),
            tickets: None,
        };
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

    #[test]
    fn the_port_is_in_the_name() {
        assert_eq!(port_in("portcullis-8080.sock"), Some(8080));
        assert_eq!(port_in("portcullis-8080-upgrade.sock"), None);
    }
}
