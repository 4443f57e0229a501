//! Connections that wait for their next call.
//!
//! Pingora's pool starts a task for each connection that returns. The task watches the connection, and is woken and
//! ends when the connection is used again. That costs more than a tenth of all the work of a proxied request. Here a
//! returning connection is put on a shelf, and one task looks through the shelves a few times within the idle timeout.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use pingora_core::protocols::Stream;
use tokio::io::AsyncReadExt;

use super::sockets::Sockets;
use crate::per_worker::{self, Parts};

/// How often connections are looked through within the idle timeout.
const LOOKS: u32 = 16;
/// The limits of the time between two looks. A connection that its server has closed is found at the next look, or when
/// it is about to be used.
const MIN_LOOK: Duration = Duration::from_millis(10);
const MAX_LOOK: Duration = Duration::from_secs(1);

/// The number of idle connections that one client keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub all: usize,
    pub per_peer: usize,
}

/// Those of all clients.
static ALL: Mutex<Vec<Weak<Idle>>> = Mutex::new(Vec::new());

/// The idle connections of one client, by the key of their peer.
pub(super) struct Idle {
    /// Each worker uses its own first, so workers seldom wait for each other.
    shelves: Parts<Box<Shelf>>,
    /// The number of places on all shelves: of connections, and those that shelves have reserved.
    count: AtomicUsize,
    limits: Limits,
    timeout: Duration,
    /// The number of sweeps, which serves as the clock.
    now: AtomicU32,
    /// A task looks through the shelves.
    watched: AtomicBool,
}

/// Aligned, so that two shelves never share a cache line.
#[repr(align(128))]
#[derive(Default)]
struct Shelf(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    /// By the key of the peer.
    waiting: HashMap<u64, VecDeque<Waiting>, ahash::RandomState>,
    /// Counted places without a connection. The connection that is taken usually returns, so that its place stays counted
    /// and workers do not change the common number for each call.
    reserved: usize,
}

struct Waiting {
    stream: Stream,
    since: u32,
}

impl Idle {
    /// Keeps each connection for `timeout`.
    pub(super) fn new(limits: Limits, timeout: Duration) -> Arc<Idle> {
        let idle = Arc::new(Idle {
            shelves: Parts::new(),
            count: AtomicUsize::new(0),
            limits,
            timeout,
            now: AtomicU32::new(0),
            watched: AtomicBool::new(false),
        });
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&idle));
        idle
    }

    /// Closes an idle connection of any client, so that another one can be opened. `false` if there is none.
    pub(super) fn close_one_of_all() -> bool {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all = all.iter().filter_map(Weak::upgrade);
        all.any(|idle| idle.close_one())
    }

    fn close_one(&self) -> bool {
        let mut shelves = self.shelves.all();
        let oldest = shelves.find_map(|shelf| shelf.lock().take_oldest());
        if oldest.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        oldest.is_some()
    }

    /// The connection to this peer that was used last. It is open as far as is known.
    pub(super) fn take(&self, key: u64) -> Option<Stream> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // The own shelf is among all of them once more, and then has no connection.
        for shelf in std::iter::once(self.shelves.own()).chain(self.shelves.all()) {
            while let Some(mut stream) = self.pop(shelf, key) {
                if is_quiet(&mut stream) {
                    return Some(stream);
                }
            }
        }
        None
    }

    /// Takes a connection from a shelf.
    fn pop(&self, shelf: &Shelf, key: u64) -> Option<Stream> {
        let mut contents = shelf.lock();
        let taken = contents.waiting.get_mut(&key)?.pop_back()?;
        if contents.reserved < self.most_reserved() {
            contents.reserved += 1;
        } else {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        Some(taken.stream)
    }

    /// How many places a shelf may reserve: all of them together a quarter of the limit.
    fn most_reserved(&self) -> usize {
        self.limits.all / (4 * per_worker::number())
    }

    /// Keeps a connection, unless its peer has enough of them. Beyond the limit for all, the one that has waited longest
    /// on the shelf makes room.
    pub(super) fn put(self: &Arc<Self>, key: u64, stream: Stream) {
        if self.timeout.is_zero() || self.is_enough(key) {
            return;
        }
        let since = self.now.load(Ordering::Relaxed);
        let mut contents = self.shelves.own().lock();
        let mut oldest = None;
        if contents.reserved > 0 {
            contents.reserved -= 1;
        } else if self.count.fetch_add(1, Ordering::SeqCst) >= self.limits.all {
            self.count.fetch_sub(1, Ordering::Relaxed);
            oldest = contents.take_oldest();
            if oldest.is_none() {
                return;
            }
        }
        let of_peer = contents.waiting.entry(key).or_default();
        of_peer.push_back(Waiting { stream, since });
        drop(contents);
        Sockets::process().changed();
        // Closed outside of the lock.
        drop(oldest);
        // Sequentially consistent with the counter: either the ending task sees this connection, or this code sees that
        // the task has ended.
        if !self.watched.load(Ordering::SeqCst) && !self.watched.swap(true, Ordering::SeqCst) {
            tokio::spawn(watch(Arc::downgrade(self), self.between_looks()));
        }
    }

    /// Whether the peer has as many idle connections as allowed. Looks at other shelves only if there are many
    /// connections.
    fn is_enough(&self, key: u64) -> bool {
        let most = self.limits.per_peer;
        self.count.load(Ordering::Relaxed) >= most
            && self
                .shelves
                .all()
                .map(|shelf| shelf.len(key))
                .sum::<usize>()
                >= most
    }

    fn between_looks(&self) -> Duration {
        (self.timeout / LOOKS).clamp(MIN_LOOK, MAX_LOOK)
    }

    /// Closes the connections that have waited too long, and those that their servers have closed.
    fn look(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let looks = self.timeout.as_nanos() / self.between_looks().as_nanos().max(1);
        let most = u32::try_from(looks).unwrap_or(u32::MAX);
        for shelf in self.shelves.all() {
            let mut contents = shelf.lock();
            let gone = contents.take_closed(|waiting| {
                now.wrapping_sub(waiting.since) > most || !is_quiet(&mut waiting.stream)
            });
            let places = gone.len() + std::mem::take(&mut contents.reserved);
            self.count.fetch_sub(places, Ordering::Relaxed);
            drop(contents);
            // Closed outside of the lock.
            drop(gone);
        }
    }
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self, key: u64) -> usize {
        self.lock().waiting.get(&key).map_or(0, VecDeque::len)
    }
}

impl Contents {
    /// The connection that has waited longest.
    fn take_oldest(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.values_mut();
        let oldest = waiting
            .filter(|waiting| !waiting.is_empty())
            .min_by_key(|waiting| waiting.front().map(|first| first.since));
        oldest.and_then(VecDeque::pop_front)
    }

    /// Removes the connections for which `is_closed` holds.
    fn take_closed(&mut self, mut is_closed: impl FnMut(&mut Waiting) -> bool) -> Vec<Waiting> {
        let mut gone = Vec::new();
        self.waiting.retain(|_, waiting| {
            let (closed, kept) = std::mem::take(waiting)
                .into_iter()
                .map(|mut one| (is_closed(&mut one), one))
                .partition::<Vec<_>, _>(|(is_closed, _)| *is_closed);
            gone.extend(closed.into_iter().map(|(_, one)| one));
            waiting.extend(kept.into_iter().map(|(_, one)| one));
            !waiting.is_empty()
        });
        gone
    }
}

/// Looks through the shelves until they are empty.
async fn watch(idle: Weak<Idle>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let Some(idle) = idle.upgrade() else {
            return;
        };
        idle.look();
        if idle.count.load(Ordering::Relaxed) > 0 {
            continue;
        }
        idle.watched.store(false, Ordering::SeqCst);
        // A connection may have come in between.
        let is_empty = idle.count.load(Ordering::SeqCst) == 0;
        if is_empty || idle.watched.swap(true, Ordering::SeqCst) {
            return;
        }
    }
}

/// Whether the server has neither closed an idle connection nor sent anything on it: a response without a request
/// would be taken for that of the next request. Asks the system only if something has happened on the connection.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0; 1];
    // Otherwise tokio's cooperative budget could report a ready socket as pending.
    let read = tokio::task::unconstrained(stream.read(&mut byte)).now_or_never();
    if let Some(Ok(1..)) = &read {
        log::warn!(
            "[SERVICE: Gateway] an upstream sent data on an idle connection, which is closed"
        );
    }
    read.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_core::protocols::l4::stream::Stream as TcpStream;
    use tokio::net::{TcpListener, TcpStream as Socket};

    const LONG: Duration = Duration::from_secs(90);

    fn limits(all: usize, per_peer: usize) -> Limits {
        Limits { all, per_peer }
    }

    /// A connection, and the server's end of it.
    async fn connection(listener: &TcpListener) -> (Stream, Socket) {
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(Socket::connect(address), listener.accept());
        (Box::new(TcpStream::from(ours.unwrap())), theirs.unwrap().0)
    }

    async fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    #[tokio::test]
    async fn the_connection_that_was_used_last_is_used_first() {
        let listener = listener().await;
        let idle = Idle::new(limits(8, 8), LONG);
        let (one, _its_end) = connection(&listener).await;
        let (two, _other_end) = connection(&listener).await;
        let id = two.id();
        idle.put(1, one);
        idle.put(1, two);
        assert!(idle.take(2).is_none(), "of another peer");
        assert_eq!(idle.take(1).unwrap().id(), id);
        assert!(idle.take(1).is_some());
        assert!(idle.take(1).is_none());
    }

    #[tokio::test]
    async fn a_connection_that_its_server_closed_or_wrote_to_is_not_used() {
        let listener = listener().await;
        let idle = Idle::new(limits(8, 8), LONG);
        let (closed, its_end) = connection(&listener).await;
        let (surprised, other_end) = connection(&listener).await;
        drop(its_end);
        other_end.try_write(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        idle.put(1, closed);
        idle.put(1, surprised);
        // Wait until the runtime has registered both events.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(idle.take(1).is_none());
        assert_eq!(idle.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_limit_closes_the_connection_that_has_waited_longest() {
        let listener = listener().await;
        let idle = Idle::new(limits(1, 8), LONG);
        let (one, mut its_end) = connection(&listener).await;
        let (two, _other_end) = connection(&listener).await;
        idle.put(1, one);
        idle.put(2, two);
        assert_eq!(its_end.read(&mut [0]).await.unwrap(), 0, "closed");
        assert!(idle.take(1).is_none());
        assert!(idle.take(2).is_some());
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_for_another_one() {
        let listener = listener().await;
        let idle = Idle::new(limits(8, 8), LONG);
        let (one, mut its_end) = connection(&listener).await;
        idle.put(1, one);
        assert!(idle.close_one() && !idle.close_one());
        assert_eq!(its_end.read(&mut [0]).await.unwrap(), 0, "closed");
        assert_eq!(idle.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_place_of_a_connection_stays_counted_while_it_is_used() {
        let listener = listener().await;
        let idle = Idle::new(limits(8 * per_worker::number(), 8), LONG);
        let count = || idle.count.load(Ordering::Relaxed);
        let (one, _its_end) = connection(&listener).await;
        idle.put(1, one);
        let one = idle.take(1).unwrap();
        assert_eq!(count(), 1);
        idle.put(1, one);
        assert_eq!(count(), 1);
        let used = idle.take(1);
        assert!(used.is_some() && idle.take(1).is_none());
        idle.look();
        assert_eq!(count(), 0, "not longer than to the next look");
    }

    #[tokio::test]
    async fn a_peer_has_a_limit_of_its_own_over_all_threads() {
        let listener = listener().await;
        let idle = Idle::new(limits(8, 2), LONG);
        let mut ends = Vec::new();
        for n in 0..6 {
            let (one, its_end) = connection(&listener).await;
            let idle = Arc::clone(&idle);
            let handle = tokio::runtime::Handle::current();
            let put = std::thread::spawn(move || {
                let _runtime = handle.enter();
                idle.put(n % 2, one);
            });
            put.join().unwrap();
            ends.push(its_end);
        }
        for its_end in &mut ends[4..] {
            assert_eq!(its_end.read(&mut [0]).await.unwrap(), 0, "closed");
        }
        assert_eq!(idle.count.load(Ordering::Relaxed), 4);
        for key in [0, 0, 1, 1] {
            assert!(idle.take(key).is_some());
        }
        assert!(idle.take(0).is_none() && idle.take(1).is_none());
    }

    #[tokio::test]
    async fn an_idle_connection_ends_after_its_timeout() {
        let listener = listener().await;
        let idle = Idle::new(limits(8, 8), Duration::from_millis(100));
        let (one, mut its_end) = connection(&listener).await;
        let began = std::time::Instant::now();
        idle.put(1, one);
        assert_eq!(its_end.read(&mut [0]).await.unwrap(), 0);
        assert!(began.elapsed() >= Duration::from_millis(90));
        assert!(idle.take(1).is_none());
        // The next one is watched, too.
        let (two, mut its_end) = connection(&listener).await;
        idle.put(1, two);
        assert_eq!(its_end.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_closed_connection_is_detected_while_it_is_idle() {
        let listener = listener().await;
        let idle = Idle::new(limits(8, 8), LONG);
        let (one, its_end) = connection(&listener).await;
        idle.put(1, one);
        drop(its_end);
        let began = std::time::Instant::now();
        while idle.count.load(Ordering::Relaxed) > 0 {
            assert!(began.elapsed() < LONG / 3);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
