//! Work whose duration depends on a request: scripts, schemas, expressions, large bodies.
//!
//! Such work starts on the worker thread that handles the request. If it is still running after `INLINE`, the
//! runtime moves the other tasks of the worker to another thread, and the work continues in a lane. There are fewer
//! lanes than processors, so that heavy requests cannot occupy all of them. Further work waits for a lane in order of
//! arrival. All of it ends at the request's deadline.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use once_cell::sync::Lazy;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::block_in_place;
use tokio::time::timeout_at;

use super::failure::{Failure, Guard, Kind};
use crate::upstream::budget::{Full, Memory};
use crate::upstream::processors;

/// How long work may block a worker.
const INLINE: Duration = Duration::from_millis(2);
/// The same while no more work may wait for a lane. Most work is shorter than this.
const INLINE_IF_FULL: Duration = Duration::from_micros(250);
/// How long work keeps its lane while other work waits.
const TURN: Duration = Duration::from_millis(10);
/// Long enough for the runtime to move a worker to another thread.
const SETTLE: Duration = Duration::from_micros(200);
/// How long that may take on a busy machine.
const MAX_SETTLING: Duration = Duration::from_millis(50);
/// The maximum number of pieces of work that wait for a lane, because each of them occupies a thread.
const MAX_WAITING: usize = 128;
/// The same in a small container: one for so much memory. The allocator keeps some megabytes for each thread.
const MEMORY_PER_WAITING: u64 = 8 << 20;
/// A body of at least this size is parsed outside the worker. Parsing it takes about two milliseconds.
pub(crate) const LARGE: usize = 256 * 1024;
/// How often [`is_late`] is called between two checks of the clock: some tens of microseconds.
const CALLS_PER_LOOK: u32 = 256;

/// Why work was stopped early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The request's deadline has passed.
    Deadline,
    /// Too much heavy work is already waiting.
    Busy,
}

impl From<Cut> for Failure {
    fn from(cut: Cut) -> Failure {
        match cut {
            Cut::Deadline => Failure::deadline(),
            Cut::Busy => Failure {
                status: StatusCode::SERVICE_UNAVAILABLE,
                ..Failure::new(Kind::Guarded(Guard::Busy), "too much heavy work at once")
            },
        }
    }
}

/// Why work on a valid request was not done: the process has too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overload {
    #[error(transparent)]
    Memory(#[from] Full),
    #[error("too much heavy work at once")]
    Work,
}

impl From<Overload> for Failure {
    fn from(overload: Overload) -> Failure {
        match overload {
            Overload::Memory(Full) => Failure::full(),
            Overload::Work => Cut::Busy.into(),
        }
    }
}

/// One piece of work, which calls [`Heavy::look`] every 20 to 100 microseconds.
#[derive(Debug)]
pub(crate) struct Heavy {
    started: Instant,
    deadline: Instant,
    lane: Option<Lane>,
    lanes: &'static Lanes,
}

impl Heavy {
    /// Work that starts now.
    pub(crate) fn until(deadline: Instant) -> Heavy {
        Heavy {
            started: Instant::now(),
            deadline,
            lane: None,
            lanes: &LANES,
        }
    }

    /// Makes the work end after `time`, if that is before its deadline.
    pub(crate) fn shorten(&mut self, time: Duration) {
        self.deadline = self.deadline.min(Instant::now() + time);
    }

    /// Checks the time. After two milliseconds of work, moves off the worker thread, and may wait for a lane.
    ///
    /// # Errors
    /// The work must stop.
    pub(crate) fn look(&mut self) -> Result<(), Cut> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(Cut::Deadline);
        }
        match &mut self.lane {
            None if self.lanes.is_full() && on_worker() => {
                let is_short = now.duration_since(self.started) < INLINE_IF_FULL;
                is_short.then_some(()).ok_or(Cut::Busy)
            }
            None if now.duration_since(self.started) < INLINE => Ok(()),
            None => self.enter_lane(),
            Some(lane) if now.duration_since(lane.since) < TURN => Ok(()),
            Some(lane) => {
                let deadline = self.deadline;
                // This also releases the worker again, if the runtime has returned it to this thread.
                leave_worker(|| lane.next_turn(deadline)).unwrap_or(Ok(()))
            }
        }
    }

    /// Checks the time before a step on `size` bytes, during which nothing can be checked: if they are many, the work
    /// leaves the worker before the step.
    ///
    /// # Errors
    /// The work must stop.
    #[cfg(feature = "lua")]
    pub(crate) fn look_before(&mut self, size: usize) -> Result<(), Cut> {
        self.look()?;
        if size >= LARGE && self.lane.is_none() {
            self.enter_lane()?;
        }
        Ok(())
    }

    fn enter_lane(&mut self) -> Result<(), Cut> {
        if self.lanes.is_full() && on_worker() {
            return Err(Cut::Busy);
        }
        let deadline = self.deadline;
        let lanes = self.lanes;
        self.lane = leave_worker(|| lanes.enter(deadline, most_waiting())).transpose()?;
        // If there is no worker to leave, nothing is measured until the next check.
        self.started = Instant::now();
        Ok(())
    }
}

/// Waits for a turn to call [`aside`] with `size` bytes. Only few pieces of such work have one, and wait for a lane on
/// a thread. The others wait here, without one: the threads of hundreds of bodies would take more memory than the
/// bodies. Work on few bytes needs no turn.
///
/// # Errors
/// The deadline has passed.
pub(crate) async fn turn(
    size: usize,
    deadline: tokio::time::Instant,
) -> Result<Option<SemaphorePermit<'static>>, Cut> {
    if size < LARGE {
        return Ok(None);
    }
    // Boxed, so that work on few bytes does not pay for its state.
    match Box::pin(timeout_at(deadline, TURNS.acquire())).await {
        Ok(turn) => Ok(turn.ok()),
        Err(_) => Err(Cut::Deadline),
    }
}

fn most_waiting() -> usize {
    let fitting = Memory::process().granted() / MEMORY_PER_WAITING;
    usize::try_from(fitting).map_or(MAX_WAITING, |fitting| fitting.clamp(4, MAX_WAITING))
}

/// Runs `work` on `size` bytes: in place if they are few, otherwise outside the worker and until `deadline`.
///
/// The loops of such work call [`is_late`], and stop early if it is. What they leave unfinished is dropped here.
///
/// # Errors
/// The deadline has passed during the work.
pub(crate) fn aside<T>(size: usize, deadline: Instant, work: impl FnOnce() -> T) -> Result<T, Cut> {
    if size < LARGE {
        return Ok(work());
    }
    off_worker(Some(deadline), || timed(deadline, work))
}

/// Runs work without a deadline, whose size is bounded: one piece of a stream, or a body that a limit covers.
pub(crate) fn aside_whole<T>(size: usize, work: impl FnOnce() -> T) -> T {
    if size < LARGE {
        return work();
    }
    off_worker(None, work)
}

/// Runs `work` in a lane, if this thread is a worker. It waits for the lane until `deadline` and no longer than a second.
fn off_worker<T>(deadline: Option<Instant>, work: impl FnOnce() -> T) -> T {
    if !on_worker() {
        return work();
    }
    block_in_place(|| {
        // If too much work is waiting, the threads are in use anyway. This work is short enough to be done now.
        let soon = Instant::now() + Duration::from_secs(1);
        let soon = deadline.map_or(soon, |deadline| deadline.min(soon));
        let _lane = LANES.enter(soon, most_waiting()).ok();
        work()
    })
}

/// Whether the work that [`aside`] runs on this thread must stop, because its deadline has passed. Long loops call
/// this once per value. It is always `false` for work on few bytes.
pub(crate) fn is_late() -> bool {
    TIMED.with(|timed| {
        let Some(mut state) = timed.get() else {
            return false;
        };
        if !state.late {
            state.calls = state.calls.wrapping_add(1);
            state.late = state.calls % CALLS_PER_LOOK == 1 && Instant::now() >= state.deadline;
            timed.set(Some(state));
        }
        state.late
    })
}

thread_local! {
    /// The timed work on this thread.
    static TIMED: Cell<Option<Timed>> = const { Cell::new(None) };
}

#[derive(Debug, Clone, Copy)]
struct Timed {
    deadline: Instant,
    calls: u32,
    late: bool,
}

fn timed<T>(deadline: Instant, work: impl FnOnce() -> T) -> Result<T, Cut> {
    /// Also restores the state after a panic, so that no other work on this thread stops early.
    struct Restore(Option<Timed>);
    impl Drop for Restore {
        fn drop(&mut self) {
            TIMED.set(self.0);
        }
    }
    // The deadline may have passed while the work waited for a lane.
    if Instant::now() >= deadline {
        return Err(Cut::Deadline);
    }
    let _restore = Restore(TIMED.replace(Some(Timed {
        deadline,
        calls: 0,
        late: false,
    })));
    let done = work();
    match TIMED.get() {
        Some(Timed { late: true, .. }) => Err(Cut::Deadline),
        _ => Ok(done),
    }
}

/// Whether this thread runs other tasks that could be moved elsewhere.
fn on_worker() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Moves the other tasks of this worker to another thread and runs `wait`. `None` if this thread is not a worker of a
/// multi-threaded runtime.
fn leave_worker<T>(wait: impl FnOnce() -> T) -> Option<T> {
    on_worker().then(|| {
        block_in_place(|| {
            let done = wait();
            settle();
            done
        })
    })
}

/// Waits until the worker is on another thread. Otherwise the runtime may return it to this one, which is about to
/// block.
#[expect(
    clippy::disallowed_methods,
    reason = "called within block_in_place only: the worker is on its way to another thread"
)]
fn settle() {
    let (ran, seen) = std::sync::mpsc::sync_channel(1);
    // No task runs here meanwhile, so this one proves that another thread runs tasks.
    Handle::current().spawn(async move { ran.try_send(()) });
    std::thread::sleep(SETTLE);
    let _ = seen.recv_timeout(MAX_SETTLING);
}

static LANES: Lazy<Lanes> =
    Lazy::new(|| Lanes::new(processors::granted().saturating_sub(1).max(1)));

/// One more than the lanes, so that there is always work for a lane.
static TURNS: Lazy<Semaphore> = Lazy::new(|| Semaphore::new(LANES.number + 1));

/// The number of concurrent pieces of heavy work.
#[derive(Debug)]
struct Lanes {
    number: usize,
    queue: Mutex<Queue>,
    turn: Condvar,
    /// The number of entries that wait. Read without the lock.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<u64>,
    next: u64,
}

impl Lanes {
    fn new(number: usize) -> Lanes {
        Lanes {
            number,
            queue: Mutex::default(),
            turn: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, queue: &Queue) {
        self.waiting.store(queue.waiting.len(), Ordering::Relaxed);
    }
    /// Whether no more work may wait.
    fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= most_waiting()
    }

    /// Waits for a lane, after the work that is already waiting.
    fn enter(&'static self, deadline: Instant, most: usize) -> Result<Lane, Cut> {
        let mut queue = self.queue();
        if queue.waiting.len() >= most {
            return Err(Cut::Busy);
        }
        let mine = queue.next;
        queue.next += 1;
        queue.waiting.push_back(mine);
        self.count(&queue);
        loop {
            if queue.running < self.number && queue.waiting.front() == Some(&mine) {
                queue.waiting.pop_front();
                self.count(&queue);
                queue.running += 1;
                // There may be a lane for the next one too.
                self.turn.notify_all();
                return Ok(Lane {
                    lanes: self,
                    since: Instant::now(),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                queue.waiting.retain(|other| *other != mine);
                self.count(&queue);
                self.turn.notify_all();
                return Err(Cut::Deadline);
            }
            let waited = self.turn.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn leave(&self) {
        self.queue().running -= 1;
        self.turn.notify_all();
    }
}

/// The permission to run, returned on drop.
#[derive(Debug)]
struct Lane {
    lanes: &'static Lanes,
    since: Instant,
}

impl Lane {
    /// Lets waiting work run, and queues up after it.
    fn next_turn(&mut self, deadline: Instant) -> Result<(), Cut> {
        self.since = Instant::now();
        if self.lanes.queue().waiting.is_empty() {
            return Ok(());
        }
        self.lanes.leave();
        // On failure there is no lane to return, so `running` is incremented again for the drop.
        match self.lanes.enter(deadline, usize::MAX) {
            Ok(lane) => {
                std::mem::forget(lane);
                self.since = Instant::now();
                Ok(())
            }
            Err(cut) => {
                self.lanes.queue().running += 1;
                Err(cut)
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.lanes.leave();
    }
}

#[cfg(test)]
mod tests;
