//! The client of the control socket: `portcullis reload`, `healthcheck`, and a process that takes over.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, getpid, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::server::control::{TIMEOUT, may_order, socket};
use crate::server::control_folder;
use crate::server::reach::Reach;

/// The maximum length of a reply.
const MAX_REPLY_BYTES: u64 = 64 << 20;
/// The timeout of `portcullis reload`, slightly longer than that of the exchange, so that the gateway's reason arrives.
const RELOAD: Duration = Duration::from_secs(65);
/// The wait for a reply after which `portcullis reload` shows what it waits for.
const SHOW_WAIT: Duration = Duration::from_secs(2);

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

/// What became of a process with a control socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Silence {
    Responds,
    /// It did not respond, and was killed. The id of the process.
    Killed(i32),
    /// There is no such process, or this one may not end it.
    None,
}

/// Ends the process with the control socket at `path`, if it does not respond there within `limit`.
pub(super) async fn end_silent(path: &Path, limit: Duration) -> Silence {
    // The system accepts the connection even if the process is stopped.
    let Ok(mut stream) = UnixStream::connect(path).await else {
        return Silence::None;
    };
    let peer = stream.peer_cred();
    let replies = async {
        stream.write_all(b"file\n").await?;
        stream.read_u8().await
    };
    if tokio::time::timeout(limit, replies).await.is_ok() {
        return Silence::Responds;
    }
    let peer = peer.ok().filter(|peer| may_order(peer.uid()));
    let process = peer.and_then(|peer| Pid::from_raw(peer.pid()?));
    match process.filter(|process| *process != getpid()) {
        Some(process) if kill_process(process, Signal::KILL).is_ok() => {
            Silence::Killed(process.as_raw_nonzero().get())
        }
        _ => Silence::None,
    }
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
    folders()
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

/// How a health check reaches the process that runs this configuration, whatever is in the file now.
pub(crate) fn reach_of(file: &Path) -> Option<Reach> {
    Reach::parse(&ask(port_of(file)?, "reach", TIMEOUT).ok()?)
}

/// The folders where control sockets may be.
fn folders() -> Vec<PathBuf> {
    let mut folders = control_folder::candidates();
    folders.extend(control_folder::of_running());
    folders.dedup();
    folders
}

fn port_in(name: &str) -> Option<u16> {
    name.strip_prefix("portcullis-")?
        .strip_suffix(".sock")?
        .parse()
        .ok()
}

/// Sends one request and returns its reply.
pub(super) fn ask(port: u16, order: &str, limit: Duration) -> Result<String, String> {
    at(port, limit, |folder, path| {
        ask_at(folder, path, order, limit)
    })
}

/// Sends one request and returns the connection, from which the reply is to be read. Each read takes at most `limit`.
pub(super) fn open(port: u16, order: &str, limit: Duration) -> Result<StdUnixStream, String> {
    at(port, limit, |folder, path| {
        open_at(folder, path, order, limit)
    })
}

/// Calls the control socket of the process at `port`.
fn at<T>(
    port: u16,
    limit: Duration,
    call: impl FnOnce(&Path, &Path) -> io::Result<T>,
) -> Result<T, String> {
    let folders = folders();
    let has_socket = |folder: &&PathBuf| socket(folder, port).exists();
    let Some(folder) = folders.iter().find(has_socket) else {
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
    call(folder, &path).map_err(|error| {
        format!(
            "no gateway responds at {}: {}",
            path.display(),
            told(&error, folder, limit)
        )
    })
}

/// Connects within `limit`: the queue of a process that hangs may be full.
fn connect(path: &Path, limit: Duration) -> io::Result<StdUnixStream> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_write_timeout(Some(limit))?;
    socket.connect(&socket2::SockAddr::unix(path)?)?;
    socket.set_read_timeout(Some(limit))?;
    Ok(socket.into())
}

pub(super) fn ask_at(
    folder: &Path,
    path: &Path,
    order: &str,
    limit: Duration,
) -> io::Result<String> {
    let stream = open_at(folder, path, order, limit)?;
    let mut reply = String::new();
    stream.take(MAX_REPLY_BYTES).read_to_string(&mut reply)?;
    Ok(reply)
}

fn open_at(folder: &Path, path: &Path, order: &str, limit: Duration) -> io::Result<StdUnixStream> {
    let mut stream = connect(path, limit)?;
    let owner = control_folder::owner(folder)?;
    let peer = rustix::net::sockopt::socket_peercred(&stream)?.uid.as_raw();
    if owner.is_none() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "other users may write to this folder, so the gateway may not be the one that listens there: take that permission away (chmod go-w), or send SIGHUP to reload",
        ));
    }
    if owner != Some(peer) || !(peer == 0 || geteuid().is_root() || may_order(peer)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("user {peer} listens there, and may not be the gateway"),
        ));
    }
    stream.write_all(format!("{order}\n").as_bytes())?;
    Ok(stream)
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
    fn a_socket_in_a_folder_that_others_may_write_to_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = open_at(folder.path(), &path, "file", TIMEOUT).unwrap_err();
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }

    #[test]
    fn the_port_is_in_the_name() {
        assert_eq!(port_in("portcullis-8080.sock"), Some(8080));
        assert_eq!(port_in("portcullis-8080-upgrade.sock"), None);
    }
}
