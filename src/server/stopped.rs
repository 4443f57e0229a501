//! A stopped process (`SIGSTOP`) that still has a listening socket.
//!
//! A process that is stopped just after another one has taken over cannot close its socket. If the one that serves then
//! ends without passing the address on, nobody could listen there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, Signal, geteuid, getpid, kill_process};

/// The state of a listening socket in `/proc/net/tcp` (proc(5)).
const LISTENS: &str = "0A";

/// Kills the stopped processes of this program and user that listen at `port`. Returns their ids.
pub(super) fn end_all(port: u16) -> Vec<i32> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|process| *process != getpid() && is_stopped_one_of_ours(*process))
        .filter(|process| has_one(*process, &sockets))
        .filter(|process| kill_process(*process, Signal::KILL).is_ok())
        .map(|process| process.as_raw_nonzero().get())
        .collect()
}

/// The names of the sockets in a table that listen at `port`, as `/proc/PID/fd` shows them.
fn listening(table: &str, port: u16) -> Vec<String> {
    let end = format!(":{port:04X}");
    let socket = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, state) = (columns.next()?, columns.nth(1)?);
        let inode = columns.nth(5)?;
        (local.ends_with(&end) && state == LISTENS).then(|| format!("socket:[{inode}]"))
    };
    table.lines().filter_map(socket).collect()
}

fn is_stopped_one_of_ours(process: Pid) -> bool {
    let folder = Path::new("/proc").join(process.as_raw_nonzero().to_string());
    let is_own = fs::metadata(&folder).is_ok_and(|meta| meta.uid() == geteuid().as_raw());
    let name = |path: &Path| fs::read(path.join("comm")).ok();
    let state = fs::read_to_string(folder.join("stat")).unwrap_or_default();
    // The name before it may contain anything.
    let state = state.rsplit(") ").next().unwrap_or_default();
    is_own && state.starts_with('T') && name(&folder) == name(Path::new("/proc/self"))
}

fn has_one(process: Pid, sockets: &[String]) -> bool {
    let folder = format!("/proc/{}/fd", process.as_raw_nonzero());
    let mut open = fs::read_dir(folder).into_iter().flatten().flatten();
    open.any(|entry| {
        fs::read_link(entry.path()).is_ok_and(|name| {
            sockets
                .iter()
                .any(|socket| name.as_os_str() == socket.as_str())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listening_socket_is_found_by_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let sockets = listening(&table, port);
        assert_eq!(sockets.len(), 1);
        assert!(has_one(getpid(), &sockets));
        assert!(!is_stopped_one_of_ours(getpid()));
        drop(listener);
        assert!(!has_one(getpid(), &sockets));
    }
}
