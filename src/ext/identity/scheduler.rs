//! Schedules calls to one server: which calls may start, and which wait.
//!
//! The number of calls and of waiting questions is limited. A free turn goes to the client with the fewest calls, so
//! that a client with many questions delays mainly its own, and no client gets all turns. Of one client's questions the newest is next: under a flood
//! the older ones have hardly any time left.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::runtime::address::Ipv6Prefix;

/// The client of a question. All questions of one client share its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client(Option<IpAddr>);

impl Client {
    /// For questions that only verified clients can cause.
    pub(crate) const ANY: Client = Client(None);

    /// The client with this address. All addresses of one IPv6 network count as one client.
    pub(crate) fn at(address: IpAddr) -> Client {
        Client(Some(Ipv6Prefix::default().client(address)))
    }
}

/// The turns of one server.
#[derive(Debug)]
pub(super) struct CallScheduler {
    calls: usize,
    waiting: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: usize,
    waiting: usize,
    clients: HashMap<Client, Share>,
    next_id: u64,
}

/// The calls and questions of one client. A client without any has no entry.
#[derive(Debug, Default)]
struct Share {
    calls: usize,
    /// Oldest first.
    waiting: VecDeque<(u64, oneshot::Sender<CallPermit>)>,
}

/// The right to make one call, until it is dropped.
#[derive(Debug)]
pub(super) struct CallPermit {
    turns: Arc<CallScheduler>,
    client: Client,
}

/// A place in the queue, until it is dropped.
struct Place<'t> {
    turns: &'t CallScheduler,
    client: Client,
    id: u64,
}

/// Why there is no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScheduleError {
    /// The queue is full.
    Full,
    /// The time is over.
    Late,
}

impl CallScheduler {
    /// How many calls this client may make at the same time.
    fn share_of(&self, client: Client) -> usize {
        match client {
            Client(None) => self.calls,
            Client(Some(_)) => (self.calls * 3 / 4).max(1),
        }
    }

    /// At most `calls` calls and `waiting` waiting questions at the same time.
    pub(super) fn new(calls: usize, waiting: usize) -> CallScheduler {
        CallScheduler {
            calls,
            waiting,
            state: Mutex::default(),
        }
    }

    /// Waits for a turn, at most until `until`.
    pub(super) async fn enter(
        self: &Arc<Self>,
        client: Client,
        until: Instant,
    ) -> Result<CallPermit, ScheduleError> {
        let (id, mut told) = match self.start_or_wait(client) {
            Ok(turn) => return Ok(turn),
            Err(place) => place,
        };
        let _place = Place {
            turns: self,
            client,
            id,
        };
        match timeout_at(until, &mut told).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(ScheduleError::Full),
            Err(_) => Err(ScheduleError::Late),
        }
    }

    fn start_or_wait(
        self: &Arc<Self>,
        client: Client,
    ) -> Result<CallPermit, (u64, oneshot::Receiver<CallPermit>)> {
        let mut state = self.locked();
        let own = state.clients.get(&client).map_or(0, |share| share.calls);
        if state.calls < self.calls && own < self.share_of(client) {
            state.calls += 1;
            state.clients.entry(client).or_default().calls += 1;
            drop(state);
            return Ok(CallPermit {
                turns: Arc::clone(self),
                client,
            });
        }
        let (tell, told) = oneshot::channel();
        let id = state.next_id;
        state.next_id += 1;
        state.waiting += 1;
        let share = state.clients.entry(client).or_default();
        share.waiting.push_back((id, tell));
        let refused = (state.waiting > self.waiting).then(|| state.refuse_one());
        drop(state);
        drop(refused);
        Err((id, told))
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Counters and lists change together, without anything between that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the oldest question of the client with the most waiting ones out of the queue.
    fn refuse_one(&mut self) -> Option<oneshot::Sender<CallPermit>> {
        let (_, most) = self
            .clients
            .iter_mut()
            .max_by_key(|(_, share)| share.waiting.len())?;
        let (_, refused) = most.waiting.pop_front()?;
        self.waiting -= 1;
        Some(refused)
    }

    /// Gives a turn back. Returns the question that gets it: the newest of the client with the fewest calls, and of two
    /// such clients the one with fewer questions.
    fn pass_on(
        &mut self,
        from: Client,
        turns: &CallScheduler,
    ) -> Option<(Client, oneshot::Sender<CallPermit>)> {
        self.calls -= 1;
        if let Some(share) = self.clients.get_mut(&from) {
            share.calls -= 1;
        }
        self.tidy(from);
        let (client, share) = self
            .clients
            .iter_mut()
            .filter(|(one, share)| !share.waiting.is_empty() && share.calls < turns.share_of(**one))
            .min_by_key(|(_, share)| (share.calls, share.waiting.len()))?;
        let (client, (_, next)) = (*client, share.waiting.pop_back()?);
        share.calls += 1;
        self.calls += 1;
        self.waiting -= 1;
        Some((client, next))
    }

    fn tidy(&mut self, client: Client) {
        let share = self.clients.get(&client);
        if share.is_some_and(|share| share.calls == 0 && share.waiting.is_empty()) {
            self.clients.remove(&client);
        }
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let next = self.turns.locked().pass_on(self.client, &self.turns);
        if let Some((client, tell)) = next {
            let turns = Arc::clone(&self.turns);
            // A question that stopped waiting at this moment returns its turn by dropping it.
            let _ = tell.send(CallPermit { turns, client });
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.locked();
        let Some(share) = state.clients.get_mut(&self.client) else {
            return;
        };
        let before = share.waiting.len();
        share.waiting.retain(|(id, _)| *id != self.id);
        let gone = before - share.waiting.len();
        state.waiting -= gone;
        state.tidy(self.client);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn client(last: u8) -> Client {
        Client::at(IpAddr::from([10, 0, 0, last]))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// Starts a question that writes `name` down when it gets its turn, and holds the turn until it is told to end.
    fn ask(
        turns: &Arc<CallScheduler>,
        who: Client,
        name: &'static str,
        order: &Arc<Mutex<Vec<&'static str>>>,
    ) -> tokio::task::JoinHandle<Result<(), ScheduleError>> {
        let (turns, order) = (Arc::clone(turns), Arc::clone(order));
        tokio::spawn(async move {
            let turn = turns.enter(who, soon()).await?;
            order.lock().unwrap().push(name);
            drop(turn);
            Ok(())
        })
    }

    #[tokio::test]
    async fn a_free_turn_goes_to_the_client_with_the_fewest_calls_and_its_newest_question() {
        let turns = Arc::new(CallScheduler::new(2, 10));
        let first = turns.enter(client(1), soon()).await.unwrap();
        let second = turns.enter(client(3), soon()).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut all = Vec::new();
        for (who, name) in [(1, "flood 1"), (1, "flood 2"), (1, "flood 3"), (2, "other")] {
            all.push(ask(&turns, client(who), name, &order));
            tokio::task::yield_now().await;
        }
        drop(first);
        for one in all {
            assert_eq!(one.await.unwrap(), Ok(()));
        }
        assert_eq!(
            *order.lock().unwrap(),
            ["other", "flood 3", "flood 2", "flood 1"]
        );
        drop(second);
        let state = turns.locked();
        assert_eq!((state.calls, state.waiting, state.clients.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_full_queue_rejects_the_oldest_question_of_the_client_with_the_most() {
        let turns = Arc::new(CallScheduler::new(1, 2));
        let held = turns.enter(client(1), soon()).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut all = Vec::new();
        for (who, name) in [(1, "old"), (1, "new"), (2, "other")] {
            all.push(ask(&turns, client(who), name, &order));
            tokio::task::yield_now().await;
        }
        let old = all.remove(0).await.unwrap();
        assert_eq!(old, Err(ScheduleError::Full));
        drop(held);
        for one in all {
            assert_eq!(one.await.unwrap(), Ok(()));
        }
        assert_eq!(turns.locked().waiting, 0);
    }

    #[tokio::test]
    async fn a_question_that_stops_waiting_leaves_no_state() {
        let turns = Arc::new(CallScheduler::new(1, 2));
        let held = turns.enter(client(1), soon()).await.unwrap();
        let late = turns.enter(client(2), Instant::now()).await;
        assert_eq!(late.err(), Some(ScheduleError::Late));
        let one = ask(&turns, client(3), "x", &Arc::default());
        tokio::task::yield_now().await;
        one.abort();
        assert!(one.await.is_err());
        {
            let state = turns.locked();
            assert_eq!((state.waiting, state.clients.len()), (0, 1));
        }
        drop(held);
        assert!(turns.enter(client(4), soon()).await.is_ok());
    }

    #[tokio::test]
    async fn no_client_gets_all_turns() {
        let turns = Arc::new(CallScheduler::new(4, 10));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(turns.enter(client(1), soon()).await.unwrap());
        }
        let more = turns.enter(client(1), Instant::now()).await;
        assert_eq!(more.err(), Some(ScheduleError::Late));
        held.push(turns.enter(client(2), soon()).await.unwrap());
        let any = Arc::new(CallScheduler::new(4, 10));
        for _ in 0..4 {
            held.push(any.enter(Client::ANY, soon()).await.unwrap());
        }
        drop(held);
        assert_eq!(turns.locked().calls, 0);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let at = |text: &str| Client::at(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }
}
