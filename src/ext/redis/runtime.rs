//! Buckets in Redis: one script, one round trip, and always within the given timeout.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fred::clients::{Client, Pool};
use fred::interfaces::{ClientLike, EventInterface, LuaInterface};
use fred::types::Builder;
use fred::types::config::{Config, ReconnectPolicy};
use sha1::{Digest, Sha1};
use smallvec::SmallVec;
use tokio::sync::watch;

use super::health::Health;
use super::list::{LIST, ListAsk, Listed};
use crate::ext::rate_limit::{Rate, Verdict};
use crate::runtime::clock::Clock;

/// The same bucket as [`Rate::take`], in Redis and with its clock. The arguments are described in `bucket.lua`.
const SCRIPT: &str = include_str!("bucket.lua");

/// Sets a key if it does not exist, and returns its value.
const AGREE: &str =
    "redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) return redis.call('GET', KEYS[1])";

/// The maximum wait for a response, even to settle it.
const LATEST: Duration = Duration::from_secs(1);

/// The maximum time that the first requests after the start wait for the first connection.
const FIRST_CONTACT: Duration = Duration::from_secs(1);

/// The maximum number of commands that wait for one connection. Further ones are rejected immediately.
const MAX_QUEUED: usize = 10_000;

/// Buckets that several gateways share.
pub(crate) trait Shared: Send + Sync + fmt::Debug {
    /// Whether queries are useful at the moment.
    fn is_ready(&self) -> bool;

    /// Takes one token from each bucket, in order, up to the first that rejects. Waits as long as configured.
    fn take(&self, asks: SmallVec<[Ask; 2]>) -> Pin<Box<dyn Future<Output = Taken> + Send + '_>>;

    /// How much longer a late response is worth waiting for. Zero if nothing was received for long.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// How long the store has not responded, if it is connected and there are queries without a response.
    fn silent_for(&self) -> Option<Duration> {
        None
    }

    /// The value that all gateways have agreed on under `key`: `offer` if it is the first one, kept for `keep`.
    /// `None` if the store failed or does not support this. Not for the request path.
    fn agree(
        &self,
        _key: String,
        _offer: String,
        _keep: Duration,
    ) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>> {
        Box::pin(std::future::ready(None))
    }

    /// Adds to a shared list and reads it. `None` if the store failed or does not support this. Not for the request
    /// path.
    fn list(&self, _ask: ListAsk) -> Pin<Box<dyn Future<Output = Option<Listed>> + Send + '_>> {
        Box::pin(std::future::ready(None))
    }
}

/// The result of a query that is still in progress. `None` if there is no response.
pub(crate) type Late = Pin<Box<dyn Future<Output = Option<SharedVerdict>> + Send>>;

/// The result of a query for tokens.
pub(crate) enum Taken {
    Told(SharedVerdict),
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
    pool: Pool,
    script: Arc<str>,
    timeout: Duration,
    health: Arc<Health>,
    /// Whether connections were opened: a reload that changes nothing drops a store that never had any.
    opened: AtomicBool,
    /// True once the first connection was made or has failed.
    contact: watch::Sender<bool>,
    /// Why the last connection was lost or failed.
    trouble: Arc<ArcSwapOption<String>>,
}

/// How a store connects and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreOptions {
    pub connections: usize,
    /// The longest time that a query waits.
    pub timeout: Duration,
    pub dial_timeout: Duration,
    /// The shortest and the longest pause before a lost connection is made again, in milliseconds.
    pub backoff: (u32, u32),
}

impl Store {
    /// A store at `config` with `connections`, where each query takes at most `patience`. Connections are only opened
    /// by [`Store::connect`].
    ///
    /// # Errors
    /// The client cannot be created from the configuration.
    pub(crate) fn new(
        config: Config,
        connections: usize,
        timeout: Duration,
        clock: Clock,
    ) -> Result<Store, fred::error::Error> {
        let options = StoreOptions {
            connections,
            timeout,
            dial_timeout: Duration::from_secs(2),
            backoff: (100, 5_000),
        };
        Store::with(config, options, clock)
    }

    /// The same with other options.
    ///
    /// # Errors
    /// The client cannot be created from the configuration.
    pub(crate) fn with(
        mut config: Config,
        options: StoreOptions,
        clock: Clock,
    ) -> Result<Store, fred::error::Error> {
        let StoreOptions {
            connections,
            timeout,
            dial_timeout,
            backoff,
        } = options;
        // Otherwise a Redis that starts after the gateway would never be connected.
        config.fail_fast = false;
        let pool = Builder::from_config(config)
            .with_connection_config(|connection| {
                connection.connection_timeout = dial_timeout;
                connection.internal_command_timeout = Duration::from_secs(2);
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = MAX_QUEUED;
                connection.unresponsive.max_timeout = Some(Duration::from_secs(2));
                connection.unresponsive.interval = Duration::from_secs(1);
            })
            .with_performance_config(|performance| {
                performance.default_command_timeout = timeout.max(LATEST);
            })
            .set_policy(ReconnectPolicy::new_exponential(0, backoff.0, backoff.1, 2))
            .build_pool(connections)?;
        Ok(Store {
            pool,
            script: hex_sha1(SCRIPT).into(),
            timeout,
            health: Arc::new(Health::new(clock)),
            opened: AtomicBool::new(false),
            contact: watch::Sender::new(false),
            trouble: Arc::default(),
        })
    }

    /// Opens the connections. They are kept open, and reopened, in the background until the store is dropped.
    ///
    /// Waits briefly, so that an unreachable Redis is logged before the first request needs it.
    pub(crate) async fn connect(&self) {
        self.opened.store(true, Ordering::Release);
        for client in self.pool.clients() {
            let (trouble, contact) = (Arc::clone(&self.trouble), self.contact.clone());
            // This task ends with the client.
            drop(client.on_error(move |(error, _)| {
                trouble.store(Some(Arc::new(error.to_string())));
                contact.send_replace(true);
                std::future::ready(Ok(()))
            }));
        }
        // The handle is not needed: the task ends with the store.
        drop(self.pool.connect());
        let connected = tokio::time::timeout(FIRST_CONTACT, self.pool.wait_for_connect()).await;
        self.contact.send_replace(true);
        let why = match connected {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => self.not_connected(),
        };
        self.health.report(&why);
    }

    /// Waits for the first connection, or for its failure.
    async fn first_contact(&self) {
        if !*self.contact.borrow() {
            let mut contact = self.contact.subscribe();
            let made = contact.wait_for(|over| *over);
            // Either way, the query is then sent or not.
            let _ = tokio::time::timeout(FIRST_CONTACT, made).await;
        }
    }

    fn is_connected(&self) -> bool {
        let clients = self.pool.clients();
        clients.iter().any(|client| client.is_connected())
    }

    /// A wrong password, an unknown certificate and a closed port are otherwise indistinguishable, so the log must
    /// contain the reason.
    pub(super) fn not_connected(&self) -> String {
        match &*self.trouble.load() {
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
    let why = match exchange(&client, &script, &asks).await {
        Ok(reply) => match verdicts(&asks, &reply) {
            Some(verdict) => {
                health.answered();
                return Some(verdict);
            }
            None => "an unexpected reply".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    health.failed(&why);
    None
}

async fn exchange(
    client: &Client,
    script: &str,
    asks: &[Ask],
) -> Result<Vec<i64>, fred::error::Error> {
    let keys: Vec<&str> = asks.iter().map(|ask| ask.key.as_str()).collect();
    let args: Vec<String> = asks.iter().flat_map(arguments).collect();
    match client.evalsha(script, keys.clone(), args.clone()).await {
        // A restarted or flushed server does not have the script: EVAL loads it again.
        Err(error) if error.details().starts_with("NOSCRIPT") => {
            client.eval(SCRIPT, keys, args).await
        }
        other => other,
    }
}

impl Shared for Store {
    fn is_ready(&self) -> bool {
        if self.health.rests() {
            return false;
        }
        // Before the first contact the state is unknown, and the query will wait for it.
        if !*self.contact.borrow() {
            return true;
        }
        let connected = self.is_connected();
        if !connected {
            self.health.report(&self.not_connected());
        }
        connected
    }

    fn take(&self, asks: SmallVec<[Ask; 2]>) -> Pin<Box<dyn Future<Output = Taken> + Send + '_>> {
        Box::pin(async move {
            self.first_contact().await;
            if !self.is_connected() {
                return Taken::Failed;
            }
            let client = self.pool.next_connected().clone();
            let script = Arc::clone(&self.script);
            let mut asked = Box::pin(ask(client, script, asks, Arc::clone(&self.health)));
            match tokio::time::timeout(self.timeout, &mut asked).await {
                Ok(Some(verdict)) => Taken::Told(verdict),
                Ok(None) => Taken::Failed,
                Err(_) => {
                    self.health.failed("no response in time");
                    if self.health.rests() {
                        Taken::Failed
                    } else {
                        Taken::Late(asked)
                    }
                }
            }
        })
    }

    fn patience(&self) -> Duration {
        self.health.patience()
    }

    fn silent_for(&self) -> Option<Duration> {
        self.is_connected()
            .then(|| self.health.silent_for())
            .flatten()
    }

    fn agree(
        &self,
        key: String,
        offer: String,
        keep: Duration,
    ) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>> {
        Box::pin(async move {
            let client = self.pool.next_connected();
            let keep = keep.as_secs().to_string();
            client.eval(AGREE, vec![key], vec![offer, keep]).await.ok()
        })
    }

    fn list(&self, ask: ListAsk) -> Pin<Box<dyn Future<Output = Option<Listed>> + Send + '_>> {
        Box::pin(async move {
            self.first_contact().await;
            if !self.is_connected() {
                return None;
            }
            let mut arguments = vec![
                ask.since.to_string(),
                ask.keep.as_millis().to_string(),
                ask.skip.to_string(),
            ];
            arguments.extend(ask.add);
            let client = self.pool.next_connected();
            let asked = client.eval(LIST, vec![ask.key], arguments);
            let reply: Vec<String> = tokio::time::timeout(LATEST, asked).await.ok()?.ok()?;
            let (now, elements) = reply.split_first()?;
            Some(Listed {
                now: now.parse().ok()?,
                elements: elements.to_vec(),
            })
        })
    }
}

impl Drop for Store {
    /// The client's own tasks hold references to it, so without an explicit end they would keep its connections
    /// forever.
    fn drop(&mut self) {
        if !*self.opened.get_mut() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let pool = self.pool.clone();
            runtime.spawn(async move {
                // It no longer matters whether the server received it.
                let _ = pool.quit().await;
            });
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pool's configuration contains a password.
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
