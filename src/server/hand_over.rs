//! What a process passes to the one that takes over from it, besides its sockets.
//!
//! The new process requests it through the control socket after it has the sockets, and before it accepts connections.
//! One connection stays open until the old process ends. Through it the old process passes the file by which both share the
//! memory, and sends what changes later of its state.
//!
//! Each end may be of another version: a line that the other one does not know is ignored.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::runtime::service::Service;
use crate::runtime::upgrade_state::{UpgradeState, forget_successor, set_successor};
use crate::server::control_client;
use crate::server::gateway::Shared;
use crate::server::listeners::Listeners;
use crate::server::new_process::{NewProcess, Successor};
use crate::server::own_listeners;
use crate::server::socket_transfer;
use crate::server::tickets::Tickets;
use crate::upstream::budget::{self, Memory};

/// The timeout of a request. The old process may have stopped after it passed its sockets on.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long the process that takes over may take to read what it is sent.
const WRITE: Duration = Duration::from_secs(1);
/// How often each process computes again what it may take of the memory.
const EVERY: Duration = Duration::from_millis(20);
/// How long an upgrade waits until requests leave memory for the new process.
const SPACE: Duration = Duration::from_secs(5);
/// The maximum length of a line.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// What a process requests that wants to follow this one.
const FOLLOW: &str = "follow";
/// What it gets first, with the file by which both share the memory.
const MEMORY: &str = "memory\n";
/// What it replies when it has its part.
const SHARED: &str = "shared\n";
const MIB: u64 = 1 << 20;

/// The state that can be passed on.
#[derive(Default)]
pub(crate) struct HandOver {
    tickets: Option<Arc<Tickets>>,
    shared: Option<Arc<Shared>>,
}

impl fmt::Debug for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandOver").finish_non_exhaustive()
    }
}

impl HandOver {
    /// The ticket keys of the listener, and the state of the service in use.
    pub(crate) fn new(tickets: Option<Arc<Tickets>>, shared: Arc<Shared>) -> HandOver {
        HandOver {
            tickets,
            shared: Some(shared),
        }
    }

    /// Sends the process that takes over what changes, until one of both ends.
    pub(super) fn follow(&self, stream: tokio::net::UnixStream) {
        let (Ok(stream), Some(shared)) = (stream.into_std(), &self.shared) else {
            // The other end sees that the connection ends.
            return;
        };
        let shared = Arc::clone(shared);
        let _ = thread::Builder::new()
            .name("successor".to_owned())
            .spawn(move || serve(stream, &shared.draining));
    }

    /// The reply to a line of the control socket. `None` if the line does not concern an upgrade.
    pub(super) fn reply(&self, line: &[u8]) -> Option<String> {
        match line {
            b"tickets" => Some(
                self.tickets
                    .as_deref()
                    .map(Tickets::to_hand_over)
                    .unwrap_or_default(),
            ),
            b"state" => {
                let active = self.shared.as_ref().map(|shared| shared.active.load());
                let states = active
                    .iter()
                    .flat_map(|active| &active.service.upgrade_states);
                Some(states.map(|state| state.give()).collect())
            }
            _ => None,
        }
    }
}

/// The ticket keys of the process that listens at `port`, from which this one takes over. `None` if there is no
/// reply, or the process belongs to another user.
pub(super) fn tickets(port: u16) -> Option<String> {
    control_client::ask(port, "tickets", TIMEOUT).ok()
}

/// Takes the state of that process into a service that no request has reached yet, and what it sends later. Returns whether
/// it is one that passes on all its sockets.
pub(super) fn take_state(port: u16, service: &Service) -> bool {
    // In this order: the state has what changed before the connection was there.
    let old = OldProcess::follow(port);
    if !service.upgrade_states.is_empty() {
        match control_client::ask(port, "state", TIMEOUT) {
            Ok(given) => service
                .upgrade_states
                .iter()
                .for_each(|state| state.take(&given)),
            Err(reason) => log::warn!(
                "[SERVICE: Gateway] No keys, tokens and revoked tokens of an old process were received: {reason}"
            ),
        }
    }
    let is_known = old.is_some();
    if let Some(old) = old {
        let states = service.upgrade_states.to_vec();
        // If the system cannot start a thread, this process goes on as if the old one did not end.
        let _ = thread::Builder::new()
            .name("old process".to_owned())
            .spawn(move || old.until_it_ends(&states));
    }
    is_known
}

/// The process from which this one takes over.
struct OldProcess {
    lines: Lines,
    /// Changes of state that were sent before the file of the memory.
    early: String,
}

impl OldProcess {
    /// `None` if it does not know this request, or cannot be reached.
    fn follow(port: u16) -> Option<OldProcess> {
        let stream = control_client::open(port, FOLLOW, TIMEOUT).ok()?;
        let mut early = String::new();
        while !early.ends_with(MEMORY) {
            let (text, files) = socket_transfer::receive_once(stream.as_fd()).ok()?;
            if text.is_empty() || early.len() as u64 > MAX_LINE_BYTES {
                return None;
            }
            early.push_str(&text);
            if let Some(file) = files.into_iter().next()
                && let Err(error) = Memory::process().join(file)
            {
                log::warn!(
                    "[SERVICE: Gateway] The memory is not shared with the old process: {error}"
                );
            }
        }
        early.truncate(early.len() - MEMORY.len());
        // If it does not arrive, the old process leaves this one its memory twice until both serve.
        let _ = (&stream).write_all(SHARED.as_bytes());
        let lines = Lines::new(stream).ok()?;
        Some(OldProcess { lines, early })
    }

    /// Takes what it sends, and shares the memory with it and those before it, until all have ended.
    fn until_it_ends(mut self, states: &[Arc<dyn UpgradeState>]) {
        let memory = Memory::process();
        let take = |line: &str| states.iter().for_each(|state| state.take(line));
        self.early.lines().for_each(take);
        let (mut is_connected, mut is_known) = (true, false);
        while memory.refresh() || is_connected {
            if let Some(bytes) = memory.settled().filter(|_| !is_known) {
                is_known = true;
                log::info!(
                    "[SERVICE: Gateway] The memory is shared with the old process until its requests have ended: those of both may use {} MiB together",
                    bytes / MIB
                );
            }
            if !is_connected {
                pause();
                continue;
            }
            match self.lines.next() {
                Received::Line(line) => take(&line),
                Received::Nothing => {}
                Received::End => {
                    is_connected = false;
                    self.lines.ended();
                }
            }
        }
        if let Some(bytes) = memory.settled() {
            log::info!(
                "[SERVICE: Gateway] The old process has ended: requests may use {} MiB of memory",
                bytes / MIB
            );
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
fn pause() {
    thread::sleep(EVERY);
}

/// What the other process sends.
struct Lines {
    reader: io::Take<BufReader<UnixStream>>,
    /// The part of a line that has arrived.
    line: Vec<u8>,
}

enum Received {
    Line(String),
    /// Nothing for [`EVERY`].
    Nothing,
    /// The other process has ended.
    End,
}

impl Lines {
    fn new(stream: UnixStream) -> io::Result<Lines> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(EVERY))?;
        stream.set_write_timeout(Some(WRITE))?;
        Ok(Lines {
            reader: BufReader::new(stream).take(MAX_LINE_BYTES),
            line: Vec::new(),
        })
    }

    fn next(&mut self) -> Received {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        let left = MAX_LINE_BYTES.saturating_sub(self.line.len() as u64);
        self.reader.set_limit(left);
        match self.reader.read_until(b'\n', &mut self.line) {
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => {
                Received::Nothing
            }
            Ok(0) | Err(_) => Received::End,
            Ok(_) => {
                let line = String::from_utf8_lossy(&self.line).into_owned();
                self.line.clear();
                Received::Line(line)
            }
        }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.reader.get_ref().get_ref().as_fd()
    }

    /// The other process has ended.
    fn ended(&self) {
        if let Ok(peer) = rustix::net::sockopt::socket_peercred(self.socket()) {
            let id = u64::try_from(peer.pid.as_raw_nonzero().get());
            id.into_iter().for_each(|id| Memory::process().ended(id));
        }
    }
}

/// Whether a process with this request wants to follow this one.
pub(super) fn is_follower(line: &[u8]) -> bool {
    line == FOLLOW.as_bytes()
}

fn serve(stream: UnixStream, is_draining: &AtomicBool) {
    let (Ok(writer), Ok(mut lines)) = (stream.try_clone(), Lines::new(stream)) else {
        return;
    };
    // What is stored here is of no use any more.
    budget::evict_all();
    // First: what changes after the file was received must be sent.
    set_successor(writer);
    let memory = Memory::process();
    let files: Vec<_> = memory.to_share().into_iter().collect();
    let sent = socket_transfer::send(lines.socket(), MEMORY.as_bytes(), &files);
    memory.replaced(sent.is_ok());
    while sent.is_ok() {
        match lines.next() {
            Received::Line(line) if line == SHARED => memory.expect_successor(false),
            Received::Line(_) | Received::Nothing => {}
            Received::End => break,
        }
        memory.refresh();
    }
    forget_successor();
    lines.ended();
    // This process goes on only if the other one has never served.
    memory.replaced(is_draining.load(Ordering::Relaxed));
}

/// Starts a process and passes it the sockets, when the memory has space for both.
///
/// # Errors
/// See [`NewProcess::take_over`].
pub(super) async fn start(
    new_process: &NewProcess,
    path: &Path,
    listeners: &Listeners,
    shared: &Shared,
) -> Result<Successor, String> {
    let memory = Memory::process();
    // From now on, requests do not take the memory that the new process needs itself.
    memory.expect_successor(true);
    let done = match wait_for_space()
        .await
        .and_then(|()| own_listeners::all(listeners, shared))
    {
        Ok(all) => new_process.take_over(path, &all).await,
        Err(error) => Err(error.to_string()),
    };
    memory.expect_successor(false);
    done
}

/// # Errors
/// The system would end one of several processes. With two of them it is unlikely, so the upgrade goes on.
async fn wait_for_space() -> io::Result<()> {
    let end = Instant::now() + SPACE;
    if Memory::process().must_wait() {
        budget::evict_all();
    }
    while Memory::process().must_wait() {
        if Instant::now() < end {
            tokio::time::sleep(EVERY).await;
        } else if Memory::process().refresh() {
            return Err(io::Error::other(
                "requests of this process and of an earlier one use so much memory that another process has no space",
            ));
        } else {
            log::warn!(
                "[SERVICE: Gateway] Requests use so much memory that the system may end the new process or this one"
            );
            break;
        }
    }
    Ok(())
}
