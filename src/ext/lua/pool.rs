//! Interpreters that wait for work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};

use super::failure::Stop;
use super::interpreter::Interpreter;
use super::run::Run;
use crate::telemetry::sink::{Output, Sink};
use crate::upstream::SideClient;

/// Places to put interpreters, so that workers do not wait for each other.
const SHARDS: usize = 8;
/// Interpreters that one place keeps; at some tens of kilobytes each.
const MOST_IDLE: usize = 16;

/// Where interpreters reach out of themselves.
#[derive(Debug)]
pub(super) struct Outside {
    /// Makes the calls of `http_response`.
    pub(super) client: SideClient,
    printer: OnceLock<Option<Sink>>,
}

impl Outside {
    /// Hands a line to the writer of standard output; a pipe that nobody reads costs lines, not time.
    pub(super) fn print(&self, line: Vec<u8>) {
        let printer = self.printer.get_or_init(|| Sink::open(Output::Stdout).ok());
        if let Some(printer) = printer {
            printer.push(line);
        }
    }
}

/// All interpreters of a service. Scripts share them: each request finds one as if it were new.
#[derive(Debug)]
pub(super) struct Pool {
    idle: [Mutex<Vec<Interpreter>>; SHARDS],
    outside: Arc<Outside>,
    scripts: AtomicUsize,
}

thread_local! {
    /// Where this thread looks first: each finds what it put back itself, and its cache knows it.
    static PLACE: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed)
    };
}

impl Pool {
    /// An empty pool whose interpreters call others through `client`.
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

    /// A number that no other script of this pool has.
    pub(super) fn script(&self) -> usize {
        self.scripts.fetch_add(1, Ordering::Relaxed)
    }

    /// One that waits, or a new one.
    ///
    /// # Errors
    /// There is no memory for a new one.
    pub(super) fn take(&self) -> Result<Interpreter, Stop> {
        if let Some(found) = self.shards().find_map(|shard| open(shard)?.pop()) {
            return Ok(found);
        }
        Interpreter::new(&self.outside).map_err(|error| Stop::Error(format!("lua: {error}")))
    }

    /// Takes `interpreter` back after a request, unless it is not fit for another one. Returns what its scripts left.
    pub(super) fn give_back(&self, mut interpreter: Interpreter, spoilt: bool) -> Run {
        let state = interpreter.end();
        if !interpreter.clean(spoilt || state.tainted) {
            return state;
        }
        for mut idle in self.shards().filter_map(open) {
            if idle.len() < MOST_IDLE {
                idle.push(interpreter);
                break;
            }
        }
        state
    }

    /// All places, this thread's own first.
    fn shards(&self) -> impl Iterator<Item = &Mutex<Vec<Interpreter>>> {
        let first = PLACE.with(|place| *place);
        (0..SHARDS).filter_map(move |offset| self.idle.get((first + offset) % SHARDS))
    }
}

/// A place that nobody is at.
fn open(shard: &Mutex<Vec<Interpreter>>) -> Option<std::sync::MutexGuard<'_, Vec<Interpreter>>> {
    match shard.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
