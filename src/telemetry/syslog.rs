//! Messages to the local syslog daemon (RFC 3164).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use crate::telemetry::timestamp;

/// Sockets of syslog daemons.
const SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// The maximum length of a message. Longer ones are truncated, as many daemons would do.
const MAX_BYTES: usize = 8192;

/// `local0` to `local7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility(u8);

impl Facility {
    /// KrakenD's default.
    pub const LOCAL3: Facility = Facility(19);

    /// The facility with this name, `local0` … `local7`.
    pub fn parse(name: &str) -> Option<Facility> {
        let digit = name.strip_prefix("local")?;
        let number: u8 = digit.parse().ok()?;
        (digit.len() == 1 && number < 8).then_some(Facility(16 + number))
    }
}

/// RFC 3164 §4.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Critical = 2,
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

/// The start of a message: `<158>Nov 23 22:26:11 tag[1234]: `.
pub(crate) fn push_header(
    facility: Facility,
    severity: Severity,
    tag: &str,
    since_1970: Duration,
    out: &mut Vec<u8>,
) {
    let priority = u32::from(facility.0) * 8 + severity as u32;
    let date = timestamp::local(since_1970).format("%b %e %H:%M:%S");
    let header = format!("<{priority}>{date} {tag}[{}]: ", std::process::id());
    out.extend_from_slice(header.as_bytes());
}

/// A connection to the daemon, which is reopened after the daemon was restarted.
#[derive(Debug)]
pub(crate) struct Syslog {
    socket: UnixDatagram,
    paths: Box<[Box<Path>]>,
}

impl Syslog {
    /// Connects to the local daemon.
    ///
    /// # Errors
    /// No daemon listens.
    pub(crate) fn connect() -> io::Result<Syslog> {
        Syslog::connect_to(SOCKETS.iter().map(|path| Path::new(path).into()).collect())
    }

    /// Connects to the first of `paths` where a daemon listens.
    ///
    /// # Errors
    /// No daemon listens.
    pub(crate) fn connect_to(paths: Box<[Box<Path>]>) -> io::Result<Syslog> {
        let socket = connect(&paths)?;
        Ok(Syslog { socket, paths })
    }

    /// Sends one message without its line end.
    pub(super) fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.get(..MAX_BYTES).unwrap_or(line);
        if self.socket.send(line).is_ok() {
            return Ok(());
        }
        self.socket = connect(&self.paths)?;
        self.socket.send(line).map(|_| ())
    }
}

fn connect(paths: &[Box<Path>]) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "Unix syslog delivery error");
    for path in paths {
        match socket.connect(path) {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facilities_are_local0_to_local7() {
        assert_eq!(Facility::parse("local3"), Some(Facility::LOCAL3));
        for name in ["local8", "local", "local03", "user", ""] {
            assert_eq!(Facility::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_message_arrives_also_after_the_daemon_was_restarted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::connect_to([path.as_path().into()].into()).unwrap();
        let receive = |daemon: &UnixDatagram| {
            let mut buffer = [0; 100];
            let n = daemon.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..n].to_vec()).unwrap()
        };
        syslog.send(b"one\n").unwrap();
        assert_eq!(receive(&daemon), "one");
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        let daemon = UnixDatagram::bind(&path).unwrap();
        syslog.send(b"two\n").unwrap();
        assert_eq!(receive(&daemon), "two");
    }
}
