//! Buckets in Redis: one script, one round trip, and always within the given timeout.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sha1::{Digest, Sha1};
use smallvec::SmallVec;

use super::client::{CallError, Client, ClientOptions, Command, Reply, Server};
use super::health::Health;
use super::list::{LIST, ListAsk, Listed};
use crate::ext::rate_limit::{Rate, Verdict};
use crate::runtime::clock::Clock;

/// The same bucket as [`Rate::take`], in Redis and with its clock. The arguments are described in `bucket.lua`.
const SCRIPT: &str = include_str!("bucket.lua");

/// Sets a key if it does not exist, and returns its value.
const AGREE: &str =
    "redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) return redis.call('GET', KEYS[1])";

/// The maximum wait for a response to a query, even to settle it. A connection that is silent for less than this is closed,
/// so all responses of a slow server are used.
const LATEST: Duration = Duration::from_secs(3);

/// The maximum wait for the reply to another command.
const REPLY: Duration = Duration::from_secs(1);

/// The error of a store that supports only buckets.
const UNSUPPORTED: &str = "not supported";

/// The maximum time that a start or a reload waits for the first connection. A server that is reachable but slow has
/// responded by then, so that gateways which start together do not fill a bucket each.
const START_CONTACT: Duration = Duration::from_secs(3);

/// The maximum time that the first requests after the start wait for the first connection.
const FIRST_CONTACT: Duration = Duration::from_secs(1);

/// Buckets that several gateways share.
pub(crate) trait Shared: Send + Sync + fmt::Debug {
    /// Whether queries are useful at the moment.
    fn is_ready(&self) -> bool;

    /// Takes one token from each bucket, in order, up to the first that rejects. Waits as long as configured.
    fn take(&self, asks: SmallVec<[Ask; 2]>) -> Pin<Box<dyn Future<Output = Taken> + Send + '_>>;

    /// How much longer a late response is worth waiting for. Zero if nothing was received for long.
    fn late_wait(&self) -> Duration {
        Duration::ZERO
    }

    /// How long the store has not responded, if there are queries without a response or the connection was lost.
    fn silent_for(&self) -> Option<Duration> {
        None
    }

    /// Whether the connection is lost, and no attempt to open it again has failed so far.
    fn is_reopening(&self) -> bool {
        false
    }

    /// The value that all gateways have agreed on under `key`: `offer` if it is the first one, kept for `keep`.
    /// Not for the request path.
    ///
    /// # Errors
    /// The store failed, with the reason.
    fn agree(
        &self,
        _key: String,
        _offer: String,
        _keep: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>> {
        Box::pin(std::future::ready(Err(UNSUPPORTED.to_owned())))
    }

    /// Whether `key` was not there. It is kept for `keep` from now on. Waits at most a second.
    ///
    /// # Errors
    /// The store failed, with the reason.
    fn is_first(
        &self,
        _key: String,
        _keep: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<bool, String>> + Send + '_>> {
        Box::pin(std::future::ready(Err(UNSUPPORTED.to_owned())))
    }

    /// Adds to a shared list and reads it. Not for the request path.
    ///
    /// # Errors
    /// The store failed, with the reason.
    fn list(
        &self,
        _ask: ListAsk,
    ) -> Pin<Box<dyn Future<Output = Result<Listed, String>> + Send + '_>> {
        Box::pin(std::future::ready(Err(UNSUPPORTED.to_owned())))
    }
}

/// The result of a query that is still in progress. `None` if there is no response.
pub(crate) type Late = Pin<Box<dyn Future<Output = Option<SharedVerdict>> + Send>>;

/// The result of a query for tokens.
pub(crate) enum Taken {
    Verdict(SharedVerdict),
    /// There is no response yet. When it arrives, tokens may have been taken, so it must be evaluated.
    Late(Late),
    /// The store is not reachable.
    Failed,
}

/// A bucket to take a token from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ask {
    pub key: String,
    pub rate: Rate,
    /// How long an unused bucket is kept.
    pub keep: Duration,
}

/// The results of the buckets, in order. Buckets after a rejection were not queried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedVerdict(pub SmallVec<[Verdict; 2]>);

/// How a request is decided while the store does not respond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OnFailure {
    /// Each gateway counts by itself.
    #[default]
    Local,
    /// The request passes.
    Open,
    /// The request is rejected.
    Closed,
}

/// A Redis server or cluster.
pub(crate) struct Store {
    client: Client,
    script: Arc<str>,
    timeout: Duration,
    health: Arc<Health>,
}

/// How a store connects and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreOptions {
    pub connections: usize,
    /// The longest time that a query waits.
    pub timeout: Duration,
    pub dial_timeout: Duration,
    /// The shortest and the longest pause before a lost connection is made again.
    pub backoff: (Duration, Duration),
}

impl StoreOptions {
    /// The options of a block that has no keys for the others.
    pub(crate) const fn new(connections: usize, timeout: Duration) -> StoreOptions {
        StoreOptions {
            connections,
            timeout,
            dial_timeout: Duration::from_secs(2),
            backoff: (Duration::from_millis(100), Duration::from_secs(5)),
        }
    }
}

impl Store {
    /// Connections are only opened by [`Store::connect`].
    pub(crate) fn new(server: Server, options: StoreOptions, clock: Clock) -> Store {
        let StoreOptions {
            connections,
            timeout,
            dial_timeout,
            backoff,
        } = options;
        let options = ClientOptions {
            connections,
            dial_timeout,
            timeout: timeout.max(LATEST),
            backoff,
        };
        Store {
            client: Client::new(server, options),
            script: hex_sha1(SCRIPT).into(),
            timeout,
            health: Arc::new(Health::new(clock)),
        }
    }

    /// Opens the connections. They are kept open, and reopened, in the background until the store is dropped.
    ///
    /// Waits briefly, so that an unreachable Redis is logged before the first request needs it.
    pub(crate) async fn connect(&self) {
        self.client.connect();
        self.first_contact(START_CONTACT).await;
        if !self.client.is_connected() {
            self.health.report(self.not_connected());
        }
    }

    /// Waits for the first connection, or for its failure.
    async fn first_contact(&self, limit: Duration) {
        if !self.client.was_tried() {
            // Either way, the query is then sent or not.
            let _ = tokio::time::timeout(limit, self.client.tried()).await;
        }
    }

    /// The reply to a command that is not one for a limit. Waits at most a second.
    async fn reply(&self, key: &str, command: Command) -> Result<Reply, String> {
        if !self.client.is_connected() {
            return Err(self.not_connected());
        }
        let called = tokio::time::timeout(REPLY, self.client.call(key, command)).await;
        let reply = called.unwrap_or(Err(CallError::Timeout));
        reply.map_err(|error| error.to_string())
    }

    /// A wrong password, an unknown certificate and a closed port are otherwise indistinguishable, so the log must
    /// contain the reason.
    pub(super) fn not_connected(&self) -> String {
        match self.client.last_error() {
            Some(why) => format!("not connected: {why}"),
            None => "not connected".to_owned(),
        }
    }
}

/// Sends a query and records its result.
async fn ask(
    client: Client,
    script: Arc<str>,
    asks: SmallVec<[Ask; 2]>,
    health: Arc<Health>,
) -> Option<SharedVerdict> {
    let verdict = exchange(&client, &script, &asks).await.and_then(|reply| {
        let verdict = numbers(reply).and_then(|numbers| verdicts(&asks, &numbers));
        verdict.ok_or(CallError::Unexpected)
    });
    match verdict {
        Ok(verdict) => {
            health.answered();
            Some(verdict)
        }
        Err(error) => {
            if matches!(error, CallError::Server(_) | CallError::Unexpected) {
                health.rejected(&error);
            }
            match error {
                CallError::Lost | CallError::NotConnected => health.lost(),
                _ => health.failed(&error),
            }
            None
        }
    }
}

async fn exchange(client: &Client, script: &str, asks: &[Ask]) -> Result<Reply, CallError> {
    let keys: SmallVec<[&str; 2]> = asks.iter().map(|ask| ask.key.as_str()).collect();
    let args: SmallVec<[String; 6]> = asks.iter().flat_map(arguments).collect();
    let first = keys.first().copied().unwrap_or_default();
    let command = Command::script("EVALSHA", script, &keys, &args);
    match client.call(first, command).await {
        // A restarted or flushed server does not have the script: EVAL loads it again.
        Err(CallError::Server(why)) if why.raw().starts_with("NOSCRIPT") => {
            let command = Command::script("EVAL", SCRIPT, &keys, &args);
            client.call(first, command).await
        }
        other => other,
    }
}

fn numbers(reply: Reply) -> Option<SmallVec<[i64; 4]>> {
    let elements = reply.into_elements()?;
    elements.iter().map(Reply::integer).collect()
}

impl Shared for Store {
    fn is_ready(&self) -> bool {
        if self.health.rests() {
            return false;
        }
        // Before the first contact the state is unknown, and the query will wait for it.
        if !self.client.was_tried() {
            return true;
        }
        let connected = self.client.is_connected();
        if !connected {
            self.health.report(self.not_connected());
        }
        connected
    }

    fn take(&self, asks: SmallVec<[Ask; 2]>) -> Pin<Box<dyn Future<Output = Taken> + Send + '_>> {
        Box::pin(async move {
            self.first_contact(FIRST_CONTACT).await;
            if !self.client.is_connected() {
                return Taken::Failed;
            }
            let client = self.client.clone();
            let script = Arc::clone(&self.script);
            let mut asked = Box::pin(ask(client, script, asks, Arc::clone(&self.health)));
            match tokio::time::timeout(self.timeout, &mut asked).await {
                Ok(Some(verdict)) => Taken::Verdict(verdict),
                Ok(None) => Taken::Failed,
                Err(_) => {
                    self.health.failed("no response in time");
                    if self.health.rests() {
                        // Its response ends the rest, also if no other one is awaited.
                        tokio::spawn(asked);
                        Taken::Failed
                    } else {
                        Taken::Late(asked)
                    }
                }
            }
        })
    }

    fn late_wait(&self) -> Duration {
        self.health.late_wait()
    }

    fn silent_for(&self) -> Option<Duration> {
        if !self.client.is_connected() {
            self.health.lost();
        }
        self.health.silent_for()
    }

    fn is_reopening(&self) -> bool {
        self.health.is_lost() && !self.client.is_refused()
    }

    fn agree(
        &self,
        key: String,
        offer: String,
        keep: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>> {
        Box::pin(async move {
            self.first_contact(FIRST_CONTACT).await;
            let keep = keep.as_secs().to_string();
            let command = Command::script("EVAL", AGREE, &[&key], &[offer, keep]);
            let value = self.reply(&key, command).await?.into_text();
            value.ok_or_else(|| CallError::Unexpected.to_string())
        })
    }

    fn is_first(
        &self,
        key: String,
        keep: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<bool, String>> + Send + '_>> {
        Box::pin(async move {
            self.first_contact(FIRST_CONTACT).await;
            let keep = keep.as_millis().to_string();
            let words: [&[u8]; 6] = [b"SET", key.as_bytes(), b"1", b"NX", b"PX", keep.as_bytes()];
            match self.reply(&key, Command::new(&words)).await? {
                Reply::Nil => Ok(false),
                Reply::Text(_) => Ok(true),
                _ => Err(CallError::Unexpected.to_string()),
            }
        })
    }

    fn list(
        &self,
        ask: ListAsk,
    ) -> Pin<Box<dyn Future<Output = Result<Listed, String>> + Send + '_>> {
        Box::pin(async move {
            self.first_contact(FIRST_CONTACT).await;
            let command = Command::script("EVAL", LIST, &[&ask.key], &ask.arguments());
            let reply = self.reply(&ask.key, command).await?;
            Listed::read(reply).ok_or_else(|| CallError::Unexpected.to_string())
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The server contains a password.
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

fn arguments(ask: &Ask) -> [String; 3] {
    let interval = ask.rate.interval();
    // Long enough that a dropped bucket and a kept one are equally full.
    let filled =
        interval.saturating_mul(u32::try_from(ask.rate.capacity() + 1).unwrap_or(u32::MAX));
    let keep = ask.keep.max(filled).as_millis().min(1 << 40);
    [
        interval.as_nanos().to_string(),
        ask.rate.capacity().to_string(),
        keep.to_string(),
    ]
}

/// The script returns two integers for each bucket: 1 and the remaining tokens, or 0 and the wait in µs.
fn verdicts(asks: &[Ask], reply: &[i64]) -> Option<SharedVerdict> {
    let mut verdicts = SmallVec::new();
    for pair in reply.chunks(2).take(asks.len()) {
        let &[passed, number] = pair else { return None };
        let number = u64::try_from(number).ok()?;
        verdicts.push(if passed == 1 {
            Verdict::Allowed { left: number }
        } else {
            Verdict::Rejected {
                retry_after: Duration::from_micros(number),
            }
        });
    }
    (!verdicts.is_empty()).then_some(SharedVerdict(verdicts))
}

fn hex_sha1(text: &str) -> String {
    hex::encode(Sha1::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests;
