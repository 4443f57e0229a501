//! One bucket for each client of an endpoint.

use std::time::Duration;

use super::balance::Balance;
use super::bucket::{Rate, Verdict};
use crate::ext::recent_map::RecentMap;

/// The maximum number of clients of one endpoint. The least recently seen ones are dropped first.
const MAX_CLIENTS: usize = 1_000_000;

/// More locks have no benefit: KrakenD's 2048 would use a quarter of a megabyte for each limited endpoint.
const MAX_SHARDS: usize = 64;

/// The buckets of an endpoint's clients, limited in number and dropped when unused.
#[derive(Debug)]
pub(crate) struct Clients {
    rate: Rate,
    time_to_live: Duration,
    buckets: RecentMap<Client>,
}

#[derive(Debug)]
struct Client {
    born: Duration,
    used: Duration,
    word: u64,
    balance: Balance,
}

impl Clients {
    /// Buckets with `rate`, each dropped after `time_to_live` without use.
    pub(crate) fn new(rate: Rate, shards: usize, time_to_live: Duration) -> Clients {
        let shards = shards.clamp(1, MAX_SHARDS);
        Clients {
            rate,
            time_to_live,
            buckets: RecentMap::new(MAX_CLIENTS, shards, time_to_live),
        }
    }

    /// The rate of each client.
    pub(crate) fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Takes one token of client `who`. A client that was not seen for long, or never, starts with a full bucket.
    pub(crate) fn take(&self, who: &str, now: Duration) -> Verdict {
        self.with(who, now, |client| {
            let (word, verdict) = self.rate.take(client.word, now.saturating_sub(client.born));
            client.word = word;
            verdict
        })
    }

    /// The result that [`Clients::take`] would have. Takes nothing.
    pub(crate) fn peek(&self, who: &str, now: Duration) -> Verdict {
        self.with(who, now, |client| {
            let age = now.saturating_sub(client.born);
            self.rate.take(client.word, age).1
        })
    }

    /// Sets the number of tokens of client `who`, to that of the bucket that several gateways share.
    pub(crate) fn hold(&self, who: &str, tokens: u64, now: Duration) {
        self.with(who, now, |client| {
            let age = now.saturating_sub(client.born);
            client.word = self.rate.holding(tokens, age);
        });
    }

    /// Does not refill the bucket of client `who` for the time up to `now`, unless it is empty.
    pub(crate) fn forgo(&self, who: &str, now: Duration) {
        self.with(who, now, |client| {
            let age = now.saturating_sub(client.born);
            client.word = self.rate.without_due(client.word, age);
        });
    }

    /// Calls `with` on the balance of client `who`.
    pub(crate) fn balance<R>(
        &self,
        who: &str,
        now: Duration,
        with: impl FnOnce(&mut Balance) -> R,
    ) -> R {
        self.with(who, now, |client| with(&mut client.balance))
    }

    fn with<R>(&self, who: &str, now: Duration, with: impl FnOnce(&mut Client) -> R) -> R {
        let fresh = || Client {
            born: now,
            used: now,
            word: self.rate.full(),
            balance: Balance::default(),
        };
        self.buckets.with(who, now, fresh, |client| {
            if now.saturating_sub(client.used) > self.time_to_live {
                *client = fresh();
            }
            client.used = now.max(client.used);
            with(client)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(clients: &Clients, who: &str, now: u64) -> bool {
        matches!(
            clients.take(who, Duration::from_secs(now)),
            Verdict::Allowed { .. }
        )
    }

    #[test]
    fn each_client_has_its_own_bucket() {
        let clients = Clients::new(Rate::new(0.001, 2), 4, Duration::from_secs(600));
        assert!(passes(&clients, "a", 0));
        assert!(passes(&clients, "a", 0));
        assert!(!passes(&clients, "a", 0));
        assert!(passes(&clients, "b", 0));
    }

    #[test]
    fn a_client_that_was_not_seen_for_long_starts_with_a_full_bucket() {
        let clients = Clients::new(Rate::new(1e-6, 1), 4, Duration::from_secs(600));
        assert!(passes(&clients, "a", 0));
        assert!(!passes(&clients, "a", 600));
        assert!(passes(&clients, "a", 1201));
        assert!(!passes(&clients, "a", 1202));
    }
}
