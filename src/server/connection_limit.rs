//! The limit of client connections, as far as file descriptors allow.
//!
//! If all places are taken, connections that wait for their client are closed for new ones: first those whose client
//! has never sent a complete head, then those that have waited the longest between two requests, then those whose
//! client stopped within a request or does not read its response. So silent clients cannot lock out clients that send
//! requests. If every connection is handling a request, new ones wait in the system's queue until one has ended.
//!
//! The longer clients have been waiting for places without a break, the shorter a connection must be silent before it is
//! closed: after a second, [`ROUND_TRIP`] is enough. So a queue of any length behind quiet clients moves on. A client that
//! is about to send is not closed for another one, unless that one has waited for long: then [`MIN_BETWEEN`] is enough.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::telemetry::calm::Calm;
use crate::upstream::budget::{self, Memory};

/// How long to wait for a place before checking again for connections that wait.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How many milliseconds a client may be silent before its first request, also within a TLS handshake, or between two
/// requests. Before this time its connection is not closed for others: it counts as handling a request.
const GRACE: u64 = 1000;
/// The same for clients of the listeners for operators.
const GRACE_NEAR: u64 = 100;
/// The same while clients have been waiting for places for long: more than most networks need for a packet and its response.
const ROUND_TRIP: u64 = 250;
/// When clients have been waiting for places for this many milliseconds, [`ROUND_TRIP`] is enough, and if one client has been
/// waiting for so long, [`MIN_BETWEEN`]. Waits with less than this time between them count as one.
const PRESSURE: u64 = 1000;
/// The shortest silence before or between requests after which a connection is closed for others, in milliseconds.
const MIN_BETWEEN: u64 = 20;
/// The shortest silence within a request after which a connection is closed for others, in milliseconds.
const MIN_WITHIN: u64 = 100;
/// Waits within a request that may be longer than this are not shortened: they may be waits for a backend.
const MAX_SHORTENED: Duration = Duration::from_secs(2);
/// The share of silent connections that is closed at a time: one in this many. So the search among many connections does not
/// run for each new one.
const SHARE: usize = 1024;
/// The same for connections within a request, whose end takes longer.
const SHARE_WITHIN: usize = 16;
/// How many milliseconds a silent connection may take to close before another one is closed as well.
const CLOSING: u64 = 100;
/// The class of connections within a request.
const WITHIN: u8 = 2;

/// The number of places that can be taken even if memory is short.
const FEW: usize = 64;

/// The places of a listener.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    places: usize,
    /// How many milliseconds a client may be silent while no other one has waited for long.
    grace: u64,
    taken: AtomicUsize,
    freed: Notify,
    began: Instant,
    connections: Mutex<HashMap<u64, Arc<ConnectionState>>>,
    next: AtomicU64,
    /// The memory that each connection may need, in bytes. 0 if it is not counted.
    weight: u64,
    /// When clients began to wait for places, and when one last did, in milliseconds since the limit was created.
    waits: [AtomicU64; 2],
    /// The same for the client that waits now. 0 if none does.
    next_waits_since: AtomicU64,
    calm: Calm,
}

/// How long others have been waiting for a place, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Waited {
    /// All of them, without a break.
    all: u64,
    /// The next one.
    next: u64,
}

impl Waited {
    /// The shortest silence before or between requests after which a connection is closed for others, if it is `whole` while
    /// nobody has waited, in milliseconds.
    fn grace(self, whole: u64) -> u64 {
        let grace = shortened(whole, self.all, ROUND_TRIP);
        shortened(grace, self.next, MIN_BETWEEN)
    }
}

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    /// Milliseconds since the limit was created, plus one. 0 while a request is handled.
    waiting_since: AtomicU64,
    /// How many milliseconds the client may keep its own request waiting, or a request that anyone may send may take; 0
    /// between requests.
    timeout: AtomicU64,
    /// Whether `timeout` stays the same however long other clients wait.
    is_fixed: AtomicBool,
    /// Whether the client has ever sent a complete head.
    sent_head: AtomicBool,
    /// When another client needed the place, in milliseconds since the limit was created, plus one. 0 if none did; never reset.
    asked: AtomicU64,
    close: Notify,
}

impl ConnectionState {
    /// The order in which waiting connections are closed, lowest first. `None` while a request is handled.
    /// `grace` is for silence before and between requests, `waited` is how long others have been waiting for places.
    fn rank(&self, now: u64, grace: u64, waited: u64) -> Option<(u8, u64)> {
        let since = self.waiting_since.load(Ordering::Relaxed);
        if since == 0 || self.must_close() {
            return None;
        }
        let silent = now - since.min(now);
        let timeout = self.timeout.load(Ordering::Relaxed);
        if timeout > 0 {
            let timeout = if self.is_fixed.load(Ordering::Relaxed) {
                timeout
            } else {
                shortened(timeout, waited, MIN_WITHIN)
            };
            return (silent >= timeout).then_some((WITHIN, since));
        }
        let class = u8::from(self.sent_head.load(Ordering::Relaxed));
        (silent >= grace).then_some((class, since))
    }

    /// Whether the connection was silent and asked to close a moment ago, so its place is about to be free.
    fn is_closing(&self, now: u64) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        let is_silent = self.timeout.load(Ordering::Relaxed) == 0;
        is_silent && asked != 0 && now.saturating_sub(asked) < CLOSING
    }

    fn ask_to_close(&self, now: u64) {
        self.asked.store(now, Ordering::SeqCst);
        self.close.notify_waiters();
    }

    /// Whether another client needs the place.
    fn must_close(&self) -> bool {
        self.asked.load(Ordering::SeqCst) != 0
    }

    async fn is_asked_to_close(self: Arc<ConnectionState>) {
        let mut close = pin!(self.close.notified());
        // Registered before the check, so that no notification is missed.
        close.as_mut().enable();
        if !self.must_close() {
            close.await;
        }
        // The runtime first asks the system what has arrived: a request that is already in the socket is served.
        tokio::task::yield_now().await;
    }
}

/// The part of `whole` that remains when others have been waiting for `waited`, but at least `least`, in milliseconds.
fn shortened(whole: u64, waited: u64, least: u64) -> u64 {
    let rest = whole.saturating_mul(PRESSURE.saturating_sub(waited)) / PRESSURE;
    rest.max(least.min(whole))
}

/// Records for a connection that its client keeps a request waiting: it does not send the rest of a body, or does not
/// read its response.
pub(crate) struct StallWatch {
    limit: Arc<ConnectionLimit>,
    state: Arc<ConnectionState>,
    close: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl std::fmt::Debug for StallWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StallWatch")
            .field("state", &self.state)
            .finish()
    }
}

impl StallWatch {
    /// Whether the connection must be closed.
    pub(crate) fn must_close(&self) -> bool {
        self.state.must_close()
    }

    /// The client has sent or read something.
    pub(crate) fn moved(&self) {
        if self.state.waiting_since.load(Ordering::Relaxed) != 0 {
            self.state.waiting_since.store(0, Ordering::Relaxed);
        }
    }

    /// The client has sent or read nothing. Ready when this has lasted longer than `timeout` and another client needs
    /// the place.
    pub(crate) fn poll_stalled(&mut self, cx: &mut Context<'_>, timeout: Duration) -> Poll<()> {
        if self.state.waiting_since.load(Ordering::Relaxed) == 0 {
            let is_fixed = timeout > MAX_SHORTENED;
            self.state.is_fixed.store(is_fixed, Ordering::Relaxed);
            let timeout = timeout.as_millis() as u64;
            self.state.timeout.store(timeout, Ordering::Relaxed);
            self.state
                .waiting_since
                .store(self.limit.now(), Ordering::Relaxed);
        }
        // A connection that must close still sends its last frames, but the future has ended.
        if self.must_close() {
            return Poll::Ready(());
        }
        self.close.as_mut().poll(cx)
    }
}

/// A place, which is freed on drop.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    limit: Arc<ConnectionLimit>,
    /// The key and the state, only if places are scarce.
    state: Option<(u64, Arc<ConnectionState>)>,
}

impl ConnectionLimit {
    /// Creates a limit of this many connections. If `others`, another limit, is lower, no connection is asked to
    /// close.
    #[cfg(test)]
    pub(super) fn new(places: usize, others: usize) -> Arc<ConnectionLimit> {
        ConnectionLimit::weighing(0, places, others)
    }

    /// Creates a limit for a listener whose clients are near: they may be silent for [`GRACE_NEAR`] only.
    pub(super) fn near(places: usize) -> Arc<ConnectionLimit> {
        Arc::new(ConnectionLimit::with(places, 0, GRACE_NEAR))
    }

    /// Creates a limit where each connection may need this much memory, in bytes. While the memory of the process is
    /// short, only [`FEW`] places can be taken.
    pub(super) fn weighing(weight: u64, places: usize, others: usize) -> Arc<ConnectionLimit> {
        let places = if places > others { usize::MAX } else { places };
        Arc::new(ConnectionLimit::with(places, weight, GRACE))
    }

    fn with(places: usize, weight: u64, grace: u64) -> ConnectionLimit {
        ConnectionLimit {
            places,
            grace,
            taken: AtomicUsize::new(0),
            freed: Notify::new(),
            began: Instant::now(),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            weight,
            waits: Default::default(),
            next_waits_since: AtomicU64::new(0),
            calm: Calm::default(),
        }
    }

    /// Waits for a place. Cancelling the wait takes none.
    pub(super) async fn place(self: &Arc<ConnectionLimit>) -> ConnectionSlot {
        loop {
            // Created before the check, so that a place that is freed in between is not missed.
            let freed = self.freed.notified();
            if let Some(place) = self.try_place() {
                self.next_waits_since.store(0, Ordering::Relaxed);
                return place;
            }
            if self.weight > 0 {
                self.calm.warn(|| {
                    let places = self.places;
                    format!(
                        "[SERVICE: Gateway] clients wait: the limit of file descriptors or of memory allows at most {places} client connections at a time; silent ones are closed for others"
                    )
                });
            }
            self.make_room();
            let _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
        }
    }

    /// A place, if one is free.
    pub(super) fn try_place(self: &Arc<ConnectionLimit>) -> Option<ConnectionSlot> {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        if taken >= self.places || !self.has_memory(taken) {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Memory::process().add(self.weight);
        let state = (self.places != usize::MAX).then(|| {
            let key = self.next.fetch_add(1, Ordering::Relaxed);
            let state = Arc::new(ConnectionState::default());
            self.connections().insert(key, Arc::clone(&state));
            (key, state)
        });
        Some(ConnectionSlot {
            limit: Arc::clone(self),
            state,
        })
    }

    /// Whether the memory of the process has space for one more than `taken` connections.
    fn has_memory(&self, taken: usize) -> bool {
        let is_counted = self.weight > 0 && self.places != usize::MAX;
        !is_counted || taken < FEW || budget::has_space(self.weight)
    }

    /// Asks connections that wait for their client to close, ordered by rank.
    pub(super) fn make_room(&self) {
        let now = self.now();
        let waited = self.waited(now);
        let grace = waited.grace(self.grace);
        let connections = self.connections();
        if connections.values().any(|state| state.is_closing(now)) {
            return;
        }
        let mut waiting: Vec<((u8, u64), &Arc<ConnectionState>)> = connections
            .values()
            .filter_map(|state| Some((state.rank(now, grace, waited.all)?, state)))
            .collect();
        if waiting.is_empty() {
            return;
        }
        let is_within = waiting.iter().all(|((class, _), _)| *class == WITHIN);
        let share = if is_within { SHARE_WITHIN } else { SHARE };
        let count = (waiting.len() / share).max(1);
        waiting.select_nth_unstable_by_key(count - 1, |(rank, _)| *rank);
        for (_, state) in waiting.iter().take(count) {
            state.ask_to_close(now);
        }
    }

    /// How long clients have been waiting for places, if one waits now.
    fn waited(&self, now: u64) -> Waited {
        let [began, last] = &self.waits;
        let last = last.swap(now, Ordering::Relaxed);
        if last == 0 || now.saturating_sub(last) > PRESSURE {
            began.store(now, Ordering::Relaxed);
        }
        let (new, old) = (Ordering::Relaxed, Ordering::Relaxed);
        let since = &self.next_waits_since;
        let next = since.compare_exchange(0, now, new, old);
        Waited {
            all: now.saturating_sub(began.load(Ordering::Relaxed)),
            next: now.saturating_sub(next.err().unwrap_or(now)),
        }
    }

    /// Milliseconds since the limit was created, plus one.
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    /// Resolves when a place is freed, and at the latest after [`LOOK_AGAIN`].
    pub(super) async fn change(&self) {
        let _ = tokio::time::timeout(LOOK_AGAIN, self.freed.notified()).await;
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionState>>> {
        // Every change of the table is complete, so a poisoned lock is safe to use.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionSlot {
    /// Records that the connection waits for its client.
    pub(super) fn waits_for_client(&self) {
        self.waits_for_client_since(Duration::ZERO);
    }

    /// The same for a client that has kept the connection waiting for `so_far` already.
    pub(super) fn waits_for_client_since(&self, so_far: Duration) {
        if let Some((_, state)) = &self.state {
            let since = self.limit.now().saturating_sub(so_far.as_millis() as u64);
            state.timeout.store(0, Ordering::Relaxed);
            state.waiting_since.store(since.max(1), Ordering::Relaxed);
        }
    }

    /// Records that the connection serves a request that anyone may send. It may be closed for others after `limit`,
    /// even if its client makes progress.
    pub(super) fn serves_anyone(&self, limit: Duration) {
        if let Some((_, state)) = &self.state {
            let limit = limit.as_millis() as u64;
            state.is_fixed.store(true, Ordering::Relaxed);
            state.timeout.store(limit, Ordering::Relaxed);
            state
                .waiting_since
                .store(self.limit.now(), Ordering::Relaxed);
        }
    }

    /// The watch for the connection. `None` if places are not limited.
    pub(super) fn watch(&self) -> Option<StallWatch> {
        let (_, state) = self.state.as_ref()?;
        Some(StallWatch {
            limit: Arc::clone(&self.limit),
            state: Arc::clone(state),
            close: Box::pin(Arc::clone(state).is_asked_to_close()),
        })
    }

    /// Records that its client has sent data.
    pub(super) fn is_active(&self) {
        if let Some((_, state)) = &self.state {
            state.waiting_since.store(0, Ordering::Relaxed);
        }
    }

    /// Records that its client has sent a complete head.
    pub(super) fn sent_head(&self) {
        if let Some((_, state)) = &self.state {
            state.sent_head.store(true, Ordering::Relaxed);
            state.waiting_since.store(0, Ordering::Relaxed);
        }
    }

    /// Whether another connection needs the place.
    pub(super) fn must_close(&self) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|(_, state)| state.must_close())
    }

    /// Resolves when another connection needs the place.
    pub(super) fn is_needed(&self) -> impl Future<Output = ()> + Send + 'static {
        let state = self.state.as_ref().map(|(_, state)| Arc::clone(state));
        async move {
            match state {
                Some(state) => state.is_asked_to_close().await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if let Some((key, _)) = &self.state {
            self.limit.connections().remove(key);
        }
        self.limit.taken.fetch_sub(1, Ordering::Relaxed);
        Memory::process().release(self.limit.weight);
        self.limit.freed.notify_one();
    }
}

#[cfg(test)]
mod tests;
