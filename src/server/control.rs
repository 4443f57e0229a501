//! The control socket: how `portcullis reload` learns what became of its request.
//!
//! One line in, one line out, over a Unix socket that only the same user (or root) may talk to.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::server::tickets::Tickets;

/// The longest request line.
const MAX_LINE_BYTES: usize = 64;
/// The longest reply.
const MAX_REPLY_BYTES: u64 = 64 * 1024;
/// A client that dawdles is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// Somebody asks for a reload and may wait for the outcome.
#[derive(Debug, Default)]
pub struct Ask {
    reply: Option<oneshot::Sender<Result<(), String>>>,
}

impl Ask {
    /// Tells whoever waits.
    pub fn answer(self, outcome: Result<(), String>) {
        if let Some(reply) = self.reply {
            let _ = reply.send(outcome);
        }
    }
}

/// Removes the socket file when the process leaves its supervision.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where the process that listens at `address` takes orders: `$RUNTIME_DIRECTORY`, `$XDG_RUNTIME_DIR` or the folder
/// for temporary files, by port.
pub fn socket(address: SocketAddr) -> PathBuf {
    folder().join(format!("portcullis-{}.sock", address.port()))
}

/// Where listening sockets are handed to a new process.
pub fn upgrade_socket(address: SocketAddr) -> String {
    folder()
        .join(format!("portcullis-{}-upgrade.sock", address.port()))
        .to_string_lossy()
        .into_owned()
}

fn folder() -> PathBuf {
    let named = ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"]
        .into_iter()
        .find_map(std::env::var_os);
    named.map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Listens for orders; `None`, with a warning, when the socket cannot be made: signals still work then.
pub fn serve(
    address: SocketAddr,
    asks: mpsc::Sender<Ask>,
    tickets: Option<Arc<Tickets>>,
) -> Option<Control> {
    let path = socket(address);
    let listener = match bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            log::warn!(
                "[SERVICE: Gateway] no control socket at {}: {error}",
                path.display()
            );
            return None;
        }
    };
    let task = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (asks, tickets) = (asks.clone(), tickets.clone());
                    tokio::spawn(async move {
                        let talk = converse(stream, &asks, tickets.as_deref());
                        let _ = tokio::time::timeout(PATIENCE * 6, talk).await;
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Some(Control { path, task })
}

fn bind(path: &PathBuf) -> io::Result<UnixListener> {
    // What is left of a process that is gone, or of one that hands over to us, would be in the way.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn converse(
    stream: UnixStream,
    asks: &mpsc::Sender<Ask>,
    tickets: Option<&Tickets>,
) -> io::Result<()> {
    if !same_user(&stream)? {
        return Ok(());
    }
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(tokio::io::AsyncReadExt::take(reader, MAX_LINE_BYTES as u64));
    tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    let reply = match line.trim_ascii() {
        b"reload" => {
            let (sender, receiver) = oneshot::channel();
            let outcome = match asks
                .send(Ask {
                    reply: Some(sender),
                })
                .await
            {
                Ok(()) => receiver
                    .await
                    .unwrap_or_else(|_| Err("the process is leaving".to_owned())),
                Err(_) => Err("the process is leaving".to_owned()),
            };
            outcome.map_or_else(
                |reason| format!("refused\n{reason}\n"),
                |()| "reloaded\n".to_owned(),
            )
        }
        b"tickets" => tickets.map(Tickets::to_hand_over).unwrap_or_default(),
        _ => "unknown\n".to_owned(),
    };
    writer.write_all(reply.as_bytes()).await?;
    writer.shutdown().await
}

/// The ticket keys of the process that listens at `address`, from which this one takes over; `None` when nobody answers
/// there, or somebody else.
pub fn tickets(address: SocketAddr) -> Option<String> {
    use std::io::{Read, Write};
    let path = socket(address);
    let owner = std::fs::symlink_metadata(&path).ok()?.uid();
    if owner != 0 && owner != std::fs::metadata("/proc/self").ok()?.uid() {
        return None;
    }
    let mut stream = std::os::unix::net::UnixStream::connect(&path).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"tickets\n").ok()?;
    let mut reply = String::new();
    stream
        .take(MAX_REPLY_BYTES)
        .read_to_string(&mut reply)
        .ok()?;
    Some(reply)
}

fn same_user(stream: &UnixStream) -> io::Result<bool> {
    let peer = stream.peer_cred()?.uid();
    Ok(peer == 0 || peer == std::fs::metadata("/proc/self")?.uid())
}

/// Asks the process that listens at `address` to reload, and waits for what became of it.
///
/// # Errors
/// No process there, or the reason why the reload was refused.
pub fn reload(address: SocketAddr) -> Result<(), String> {
    use std::io::{Read, Write};
    let path = socket(address);
    let ask = || -> io::Result<String> {
        let mut stream = std::os::unix::net::UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(PATIENCE * 6))?;
        stream.write_all(b"reload\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    };
    let reply =
        ask().map_err(|error| format!("no gateway answers at {}: {error}", path.display()))?;
    match reply.split_once('\n') {
        Some(("reloaded", _)) => Ok(()),
        Some((_, reason)) => Err(reason.trim_end().to_owned()),
        None => Err(format!("no answer at {}", path.display())),
    }
}
