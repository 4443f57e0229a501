//! What a process passes to the one that takes over from it, besides its sockets.
//!
//! The new process requests it through the control socket after it has the sockets, and before it accepts connections.
//! One connection stays open until the old process ends. Through it the old process sends what changes later: its state, and
//! the memory that it still uses, which the new one leaves to it.
//!
//! Each end may be of another version: a line that the other one does not know is ignored.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::runtime::service::Service;
use crate::runtime::upgrade_state::{
    UpgradeState, forget_successor, set_successor, tell_successor,
};
use crate::server::control_client;
use crate::server::gateway::Shared;
use crate::server::listeners::Listeners;
use crate::server::new_process::NewProcess;
use crate::server::own_listeners;
use crate::server::tickets::Tickets;
use crate::telemetry::process::resident_bytes;
use crate::upstream::budget::{self, Decision, Division, Memory, Report};

/// The timeout of a request. The old process may have stopped after it passed its sockets on.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long the process that takes over may take to read what it is sent.
const READ: Duration = Duration::from_secs(1);
/// How often the old process looks whether its use of memory has changed.
const EVERY: Duration = Duration::from_millis(20);
/// How often it reports it in any case.
const AT_LEAST: Duration = Duration::from_secs(1);
/// How long an upgrade waits until requests leave memory for the new process.
const SPACE: Duration = Duration::from_secs(5);
/// The maximum length of a line.
const MAX_LINE_BYTES: u64 = 1 << 20;
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
        let started = thread::Builder::new()
            .name("old process".to_owned())
            .spawn(move || old.until_it_ends(&states));
        if started.is_err() {
            Memory::process().is_alone();
        }
    }
    is_known
}

/// The process from which this one takes over.
struct OldProcess {
    reader: BufReader<UnixStream>,
    division: Division,
    /// Changes of state before the first report.
    early: Vec<String>,
}

impl OldProcess {
    /// `None` if it does not know this request, or cannot be reached.
    fn follow(port: u16) -> Option<OldProcess> {
        let order = format!("follow {}", resident_bytes());
        let stream = control_client::open(port, &order, TIMEOUT).ok()?;
        let mut old = OldProcess {
            reader: BufReader::new(stream),
            division: Division::default(),
            early: Vec::new(),
        };
        let first = old.first_report()?;
        old.divide(&first);
        old.reader.get_ref().set_read_timeout(None).ok()?;
        Some(old)
    }

    /// The next line. `None` if the process has ended.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self
            .reader
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_line(&mut line);
        read.is_ok_and(|bytes| bytes > 0).then_some(line)
    }

    /// A process of another version has none.
    fn first_report(&mut self) -> Option<Report> {
        let end = Instant::now() + TIMEOUT;
        while Instant::now() < end {
            let line = self.line()?;
            match line.parse() {
                Ok(report) => return Some(report),
                Err(()) => self.early.push(line),
            }
        }
        None
    }

    /// Divides the memory after a report.
    fn divide(&mut self, report: &Report) {
        if let Some(decision) = Memory::process().divide(&mut self.division, report) {
            // If it does not arrive, the old process keeps its limit, and this one leaves it that much.
            let _ = writeln!(self.reader.get_mut(), "{decision}");
        }
    }

    fn until_it_ends(mut self, states: &[Arc<dyn UpgradeState>]) {
        let mut is_known = false;
        let take = |line: String| states.iter().for_each(|state| state.take(&line));
        std::mem::take(&mut self.early).into_iter().for_each(take);
        while let Some(line) = self.line() {
            let Ok(report) = line.parse() else {
                take(line);
                continue;
            };
            self.divide(&report);
            if let Some(left) = Memory::process().settled().filter(|_| !is_known) {
                is_known = true;
                log::info!(
                    "[SERVICE: Gateway] The memory is shared with the old process until its requests have ended: they may use {} MiB now, and those of this process {} MiB",
                    report.limit() / MIB,
                    left / MIB
                );
            }
        }
        Memory::process().is_alone();
        if let Some(left) = Memory::process().settled() {
            log::info!(
                "[SERVICE: Gateway] The old process has ended: requests may use {} MiB of memory",
                left / MIB
            );
        }
    }
}

/// The memory in use of a process that wants to follow this one with this request.
pub(super) fn follower(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("follow ")?.parse().ok()
}

/// Sends the process that takes over what changes, until one of both ends.
pub(super) fn follow(stream: tokio::net::UnixStream, successor: u64) {
    // If this fails, the other end sees that the connection ends.
    let Ok(stream) = stream.into_std() else {
        return;
    };
    let _ = thread::Builder::new()
        .name("successor".to_owned())
        .spawn(move || serve(stream, successor));
}

fn serve(stream: UnixStream, successor: u64) {
    let is_ready = stream.set_nonblocking(false).is_ok()
        && stream.set_read_timeout(Some(EVERY)).is_ok()
        && stream.set_write_timeout(Some(READ)).is_ok();
    let Some(writer) = stream.try_clone().ok().filter(|_| is_ready) else {
        return;
    };
    // What is stored here is of no use any more.
    budget::evict_all();
    let memory = Memory::process();
    memory.leave_to_successor(successor);
    set_successor(writer);
    let tell = |report: &Report| {
        // A line that does not arrive is not the end: changes of state are rejected until the process has ended.
        let _ = tell_successor(&format!("{report}\n"));
    };
    let (mut reader, mut line, mut number) = (BufReader::new(stream).take(u64::MAX), Vec::new(), 0);
    let (mut told, mut at) = (memory.report(number), Instant::now());
    tell(&told);
    loop {
        reader.set_limit(MAX_LINE_BYTES);
        match reader.read_until(b'\n', &mut line) {
            // The line may arrive in parts.
            Err(error) if is_early(&error) => {}
            // It has ended.
            Ok(0) | Err(_) => break,
            Ok(_) => {
                if let Some(decision) = decision(&line) {
                    memory.follow(&decision);
                    number = decision.number();
                }
                line.clear();
            }
        }
        let now = memory.report(number);
        if !now.is_like(&told) || at.elapsed() >= AT_LEAST {
            (told, at) = (now, Instant::now());
            tell(&told);
        }
    }
    forget_successor();
    memory.keep();
}

fn is_early(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

fn decision(line: &[u8]) -> Option<Decision> {
    std::str::from_utf8(line).ok()?.parse().ok()
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
) -> Result<(), String> {
    let memory = Memory::process();
    // From now on, requests do not take the memory that the new process needs itself.
    memory.expect_successor();
    wait_for_space().await;
    let done = match own_listeners::all(listeners, shared) {
        Ok(all) => new_process.take_over(path, &all).await,
        Err(error) => Err(error.to_string()),
    };
    if done.is_err() {
        memory.keep();
    }
    done
}

async fn wait_for_space() {
    let end = Instant::now() + SPACE;
    if Memory::process().must_wait() {
        budget::evict_all();
    }
    while Memory::process().must_wait() {
        if Instant::now() >= end {
            log::warn!(
                "[SERVICE: Gateway] Requests use so much memory that the system may end the new process or this one"
            );
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}
