//! Idle interpreters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};

use super::failure::Stop;
use super::interpreter::Interpreter;
use super::run::Run;
use crate::telemetry::sink::{Output, Sink};
use crate::upstream::SideClient;
use crate::upstream::budget::Memory;

/// The number of shards, so that workers do not wait for each other.
const SHARDS: usize = 8;
/// The maximum number of interpreters in a shard, each of which uses tens of kilobytes.
const MAX_IDLE: usize = 16;

/// The external resources of interpreters.
#[derive(Debug)]
pub(super) struct Outside {
    /// Makes the calls of `http_response`.
    pub(super) client: SideClient,
    printer: OnceLock<Option<Sink>>,
}

impl Outside {
    /// Passes a line to the writer of standard output. If nothing reads the pipe, lines are dropped without blocking.
    pub(super) fn print(&self, line: Vec<u8>) {
        if let Some(printer) = self.printer() {
            printer.push(line);
        }
    }

    /// Whether a line of this length would be written. If not, it is dropped, and need not be made.
    pub(super) fn may_print(&self, length: usize) -> bool {
        self.printer()
            .is_some_and(|printer| printer.accepts(length))
    }

    fn printer(&self) -> Option<&Sink> {
        let printer = self.printer.get_or_init(|| Sink::open(Output::Stdout).ok());
        printer.as_ref()
    }
}

/// All interpreters of a service. Scripts share them, and each request sees a fresh state.
#[derive(Debug)]
pub(in crate::ext) struct Pool {
    idle: [Mutex<Vec<Interpreter>>; SHARDS],
    outside: Arc<Outside>,
    scripts: AtomicUsize,
}

thread_local! {
    /// The shard that this thread tries first. It finds the interpreters that it returned itself, which are in its
    /// CPU cache.
    static PLACE: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed)
    };
}

impl Pool {
    /// An empty pool whose interpreters make calls through `client`.
    pub(super) fn new(client: SideClient) -> Pool {
        Pool {
            idle: Default::default(),
            outside: Arc::new(Outside {
                client,
                printer: OnceLock::new(),
            }),
            scripts: AtomicUsize::new(0),
        }
    }

    /// A number that is unique in this pool.
    pub(super) fn script(&self) -> usize {
        self.scripts.fetch_add(1, Ordering::Relaxed)
    }

    /// An idle interpreter, or a new one.
    ///
    /// # Errors
    /// There is no memory for a new one.
    pub(super) fn take(&self) -> Result<Interpreter, Stop> {
        if let Some(found) = self.shards().find_map(|shard| open(shard)?.pop()) {
            return Ok(found);
        }
        Interpreter::new(&self.outside).map_err(|error| {
            if Stop::is_full(&error) {
                Stop::Full
            } else {
                Stop::Error(format!("lua: {error}"))
            }
        })
    }

    /// Returns `interpreter` to the pool after a request, unless it must not be reused. Returns the state that its
    /// scripts left.
    pub(super) fn give_back(&self, mut interpreter: Interpreter, spoilt: bool) -> Run {
        let state = interpreter.end();
        if !interpreter.clean(spoilt || state.tainted) {
            return state;
        }
        if state.collect && interpreter.collect().is_err() {
            return state;
        }
        // When memory is short, requests need it more than idle interpreters.
        let memory = Memory::process();
        let is_short = memory.is_short(memory.granted() / 4);
        for mut idle in self.shards().filter_map(open) {
            if is_short {
                idle.clear();
                break;
            }
            if idle.len() < MAX_IDLE {
                idle.push(interpreter);
                break;
            }
        }
        state
    }

    /// All shards, this thread's own first.
    fn shards(&self) -> impl Iterator<Item = &Mutex<Vec<Interpreter>>> {
        let first = PLACE.with(|place| *place);
        (0..SHARDS).filter_map(move |offset| self.idle.get((first + offset) % SHARDS))
    }
}

/// A shard that is not in use by another thread.
fn open(shard: &Mutex<Vec<Interpreter>>) -> Option<std::sync::MutexGuard<'_, Vec<Interpreter>>> {
    match shard.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
