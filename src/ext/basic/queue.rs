//! The order in which passwords are compared.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The maximum number of waiting requests, each of which holds a name and a password.
const MAX_WAITING: usize = 1024;

/// Running comparisons, and those that wait for a turn.
///
/// Clients with the fewest earlier comparisons go first, among equals the names with the fewest, and among those the
/// newest. So a flood of guesses, from few addresses or from many, does not lock out a user with the right password. If
/// too many requests wait, the last one in this order is rejected.
///
/// Every second turn does not look at the names: otherwise a flood with new names and new addresses would always go
/// before a user whose name is guessed too.
#[derive(Debug)]
pub(super) struct Queue {
    at_once: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    arrivals: u64,
    waiting: BTreeMap<Rank, oneshot::Sender<Turn>>,
    /// The same requests, in the order without names.
    nameless: BTreeMap<(u32, Reverse<u64>), Rank>,
    /// The last turn looked at the names.
    looked: bool,
}

impl State {
    fn add(&mut self, rank: Rank, sender: oneshot::Sender<Turn>) {
        self.nameless.insert(rank.without_name(), rank);
        self.waiting.insert(rank, sender);
    }

    fn remove(&mut self, rank: Rank) -> Option<oneshot::Sender<Turn>> {
        self.nameless.remove(&rank.without_name());
        self.waiting.remove(&rank)
    }

    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        self.looked = !self.looked;
        let first = if self.looked {
            self.waiting.first_key_value().map(|(rank, _)| *rank)
        } else {
            self.nameless.first_key_value().map(|(_, rank)| *rank)
        };
        self.remove(first?)
    }
}

/// How many passwords were compared recently, without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tried {
    /// Of the client.
    pub client: u32,
    /// For the name, by any client. It is the same for names that do not exist, so it tells nothing about them.
    pub name: u32,
}

/// A lower rank goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    tried: Tried,
    newest: Reverse<u64>,
}

impl Rank {
    fn without_name(self) -> (u32, Reverse<u64>) {
        (self.tried.client, self.newest)
    }
}

/// The permission to compare one password. When it is dropped, it passes to the next request.
#[derive(Debug)]
pub(super) struct Turn(Arc<Queue>);

/// A request's place in the queue, freed on drop.
#[derive(Debug)]
pub(super) struct Place {
    queue: Arc<Queue>,
    rank: Rank,
    turn: oneshot::Receiver<Turn>,
}

impl Queue {
    pub(super) fn new(at_once: usize) -> Arc<Queue> {
        Arc::new(Queue {
            at_once,
            state: Mutex::default(),
        })
    }

    /// Enters a request.
    pub(super) fn enter(self: &Arc<Self>, tried: Tried) -> Place {
        let (sender, turn) = oneshot::channel();
        let mut state = self.state();
        state.arrivals += 1;
        let rank = Rank {
            tried,
            newest: Reverse(state.arrivals),
        };
        let mut sent_away = None;
        if state.running < self.at_once {
            state.running += 1;
            drop(state);
            let _ = sender.send(Turn(Arc::clone(self)));
        } else {
            state.add(rank, sender);
            if state.waiting.len() > MAX_WAITING
                && let Some((&last, _)) = state.waiting.last_key_value()
            {
                sent_away = state.remove(last);
            }
            drop(state);
        }
        // This wakes the request that waited there, so it is not done under the lock.
        drop(sent_away);
        Place {
            queue: Arc::clone(self),
            rank,
            turn,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits for the turn. `None` if too many are waiting.
    pub(super) async fn turn(mut self) -> Option<Turn> {
        (&mut self.turn).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let gone = self.queue.state().remove(self.rank);
        drop(gone);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Turn(queue) = self;
        let mut state = queue.state();
        let Some(next) = state.next() else {
            state.running -= 1;
            return;
        };
        drop(state);
        // If the request is no longer waiting, the turn is dropped here and passes on.
        let _ = next.send(Turn(Arc::clone(queue)));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// The turn if it is available, or `None` for a rejected request. Outside of a runtime, which could make it wait.
    fn now(place: Place) -> Option<Turn> {
        place.turn().now_or_never().expect("it has to wait")
    }

    fn by(client: u32) -> Tried {
        Tried { client, name: 0 }
    }

    #[test]
    fn among_new_clients_a_name_that_is_not_guessed_is_next() {
        let queue = Queue::new(1);
        let running = now(queue.enter(by(0))).unwrap();
        let [guessed, other, guesser] =
            [(0, 9), (0, 0), (1, 0)].map(|(client, name)| queue.enter(Tried { client, name }));
        let mut turn = running;
        for place in [other, guessed, guesser] {
            drop(turn);
            turn = now(place).unwrap();
        }
    }

    #[test]
    fn new_names_from_new_clients_do_not_keep_out_a_name_that_is_guessed() {
        let queue = Queue::new(1);
        let turn = now(queue.enter(by(0))).unwrap();
        let _others: Vec<_> = (0..20)
            .map(|n| {
                queue.enter(Tried {
                    client: 0,
                    name: n % 2 * n,
                })
            })
            .collect();
        let right = queue.enter(Tried {
            client: 0,
            name: 20,
        });
        // The first turn goes to a new name. Its request ends at once, and the next turn goes to the newest request.
        let [mut first, last] = [0, 1].map(|client| queue.enter(Tried { client, name: 0 }));
        drop(turn);
        let turn = (&mut first.turn).now_or_never().unwrap().unwrap();
        drop(turn);
        assert!(right.turn().now_or_never().unwrap().is_some());
        drop(last);
    }

    #[test]
    fn the_client_with_the_fewest_guesses_is_next_and_among_equals_the_newest() {
        let queue = Queue::new(1);
        let running = now(queue.enter(by(0))).unwrap();
        let names = ["guesser", "old", "new", "guesser again"];
        let mut waiting: Vec<_> = [7, 0, 0, 8]
            .map(|tried| queue.enter(by(tried)))
            .into_iter()
            .zip(names)
            .collect();
        let mut turn = running;
        for expected in ["new", "old", "guesser", "guesser again"] {
            drop(turn);
            let at = waiting
                .iter()
                .position(|(_, name)| *name == expected)
                .unwrap();
            let (place, _) = waiting.remove(at);
            turn = place.turn().now_or_never().expect(expected).unwrap();
        }
    }

    #[test]
    fn a_dropped_place_is_free() {
        let queue = Queue::new(1);
        let running = now(queue.enter(by(0))).unwrap();
        drop(queue.enter(by(0)));
        let given = queue.enter(by(0));
        drop(running);
        // The turn was already assigned, and the request is dropped before it takes the turn.
        drop(given);
        assert!(queue.enter(by(5)).turn().now_or_never().unwrap().is_some());
        assert_eq!(queue.state().waiting.len(), 0);
        assert_eq!(queue.state().nameless.len(), 0);
        assert_eq!(queue.state().running, 0);
    }

    #[test]
    fn too_many_guesses_displace_only_each_other() {
        let queue = Queue::new(2);
        let running = [now(queue.enter(by(0))), now(queue.enter(by(0)))];
        let guesses: Vec<_> = (0..2 * MAX_WAITING).map(|_| queue.enter(by(1))).collect();
        let right = queue.enter(by(0));
        assert_eq!(queue.state().waiting.len(), MAX_WAITING);
        let sent_away = guesses
            .into_iter()
            .filter_map(|place| place.turn().now_or_never())
            .filter(Option::is_none)
            .count();
        assert_eq!(sent_away, MAX_WAITING + 1);
        drop(running);
        assert!(right.turn().now_or_never().unwrap().is_some());
    }
}
