//! The step that checks names and passwords.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, PAD_INDIFFERENT};
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use super::queue::{Place, Queue, Tried};
use super::users::{Proof, Users};
use crate::ext::rate_limit::{Clients, Rate, Verdict, seconds_up};
use crate::ext::recent_map::RecentMap;
use crate::runtime::address::Ipv6Prefix;
use crate::runtime::clock::Clock;
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::Response;
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::processors;

/// How many passwords of a client are compared: this many at once, then one per second. A right password is compared
/// only once.
const GUESSES: u64 = 20;
/// How long a client's guesses are counted.
const MEMORY: Duration = Duration::from_secs(600);
/// Longer names and passwords are rejected. bcrypt itself uses only 72 bytes.
const MAX_BYTES: usize = 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, PAD_INDIFFERENT);

/// The maximum number of clients whose comparisons are counted, for the order of the queue.
const MAX_COUNTED: usize = 65_536;

/// The comparisons in progress, and the number for each client. One per process.
#[derive(Debug)]
pub(crate) struct Attempts {
    queue: Arc<Queue>,
    clients: Clients,
    /// Comparisons of each client that did not succeed, including those in progress.
    tried: RecentMap<u32>,
    /// Failed comparisons for each name. A flood for one name, from addresses that change, must not delay the users of
    /// others.
    named: RecentMap<u32>,
    clock: Clock,
}

impl Attempts {
    /// No attempts so far.
    pub(crate) fn new(clock: Clock) -> Attempts {
        Attempts {
            queue: Queue::new(at_once()),
            clients: Clients::new(Rate::new(1.0, GUESSES), 16, MEMORY),
            tried: RecentMap::new(MAX_COUNTED, 16, MEMORY),
            named: RecentMap::new(MAX_COUNTED, 16, MEMORY),
            clock,
        }
    }

    /// A place in the queue for one comparison, or how long to wait before the next.
    fn begin(&self, client: &str, name: &str) -> Result<Place, Duration> {
        let now = self.clock.now();
        if let Verdict::Rejected { retry_after } = self.clients.take(client, now) {
            return Err(retry_after);
        }
        Ok(self.queue.enter(Tried {
            client: one_more(&self.tried, client, now),
            name: one_more(&self.named, name, now),
        }))
    }

    /// The password was right, so this does not count as a guess.
    fn was_right(&self, client: &str, name: &str) {
        let now = self.clock.now();
        for (counts, key) in [(&self.tried, client), (&self.named, name)] {
            counts.with(key, now, || 0, |count| *count = count.saturating_sub(1));
        }
    }
}

/// Counts one more comparison. Returns the number before.
fn one_more(counts: &RecentMap<u32>, key: &str, now: Duration) -> u32 {
    let add = |count: &mut u32| std::mem::replace(count, count.saturating_add(1));
    counts.with(key, now, || 0, add)
}

/// The number of concurrent bcrypt computations, each on a thread of the blocking pool: half of the processors stay
/// free for other work.
fn at_once() -> usize {
    (processors::granted() / 2).clamp(2, 8)
}

/// `auth/basic` of one endpoint.
#[derive(Debug)]
pub(crate) struct BasicCheck {
    pub users: Arc<Users>,
    pub attempts: Arc<Attempts>,
    /// The prefix that identifies a client by its IPv6 address.
    pub prefix: Ipv6Prefix,
    /// `Basic realm="…", charset="UTF-8"`
    pub challenge: HeaderValue,
}

impl EndpointStep for BasicCheck {
    fn name(&self) -> &'static str {
        "auth/basic"
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        let mut lines = head.headers.get_all(AUTHORIZATION).iter();
        let first = lines.next();
        if lines.next().is_some() {
            return self.unauthorized("ambiguous_credentials", notes);
        }
        let Some(credentials) = first.and_then(credentials) else {
            return self.unauthorized("missing_credentials", notes);
        };
        let Some((name, password)) = split(&credentials) else {
            return self.unauthorized("missing_credentials", notes);
        };
        let proof = self.users.proof(name, password);
        if self.users.knows(name, &proof) {
            return Gate::Pass;
        }
        let client = self.prefix.client(head.client).to_string();
        match self.attempts.begin(&client, name) {
            Ok(place) => {
                let login = Login {
                    users: Arc::clone(&self.users),
                    attempts: Arc::clone(&self.attempts),
                    client,
                    name: name.to_owned(),
                    password: password.to_owned(),
                    proof,
                };
                Gate::wait(compare(login, place), |said, _, notes| {
                    self.compared(said.flatten(), notes)
                })
            }
            Err(wait) => later(StatusCode::TOO_MANY_REQUESTS, wait, notes),
        }
    }
}

impl BasicCheck {
    /// Decides by the result of bcrypt. `None` if there was no turn in time.
    fn compared<'g>(&self, said: Option<bool>, notes: &mut Notes) -> Gate<'g> {
        match said {
            Some(true) => Gate::Pass,
            Some(false) => self.unauthorized("wrong_password", notes),
            None => later(
                StatusCode::SERVICE_UNAVAILABLE,
                Duration::from_secs(1),
                notes,
            ),
        }
    }
}

/// A login whose password must be compared.
struct Login {
    users: Arc<Users>,
    attempts: Arc<Attempts>,
    client: String,
    name: String,
    password: Vec<u8>,
    proof: Proof,
}

impl Login {
    /// Whether the password is right. This takes as long as bcrypt, unless another request has verified the password
    /// meanwhile.
    fn is_right(&self) -> bool {
        let Login { users, name, .. } = self;
        let right = users.knows(name, &self.proof)
            || bcrypt::verify(&self.password, users.hash(name)).unwrap_or(false);
        if right {
            users.learn(name, self.proof);
            self.attempts.was_right(&self.client, name);
        }
        right
    }
}

/// Runs bcrypt when it is the request's turn, on a thread where it does not block other requests.
async fn compare(login: Login, place: Place) -> Option<bool> {
    let turn = place.turn().await?;
    // bcrypt continues even if the client closes its connection, so the task holds the turn.
    let comparing = tokio::task::spawn_blocking(move || {
        let right = login.is_right();
        drop(turn);
        right
    });
    comparing.await.ok()
}

/// Nothing was compared. The client may try again.
fn later<'g>(status: StatusCode, wait: Duration, notes: &mut Notes) -> Gate<'g> {
    notes.rejected = Some("rate_limited");
    let wait = HeaderValue::from(seconds_up(wait));
    Gate::Reject(Response::empty(status).with(RETRY_AFTER, wait))
}

impl BasicCheck {
    fn unauthorized<'g>(&self, why: &'static str, notes: &mut Notes) -> Gate<'g> {
        notes.rejected = Some(why);
        let response = Response::empty(StatusCode::UNAUTHORIZED);
        Gate::Reject(response.with(WWW_AUTHENTICATE, self.challenge.clone()))
    }
}

/// The decoded credentials of an `Authorization` header with this scheme.
fn credentials(value: &HeaderValue) -> Option<Vec<u8>> {
    let text = value.to_str().ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || rest.len() > 2 * MAX_BYTES {
        return None;
    }
    BASE64.decode(rest.trim_matches(' ')).ok()
}

/// Name and password. The name contains no colon, but the password may (RFC 7617 §2). Neither contains control
/// characters.
fn split(credentials: &[u8]) -> Option<(&str, &[u8])> {
    if credentials.iter().any(u8::is_ascii_control) {
        return None;
    }
    let at = credentials.iter().position(|byte| *byte == b':')?;
    let (name, rest) = credentials.split_at_checked(at)?;
    Some((std::str::from_utf8(name).ok()?, rest.get(1..)?))
}

/// For the property test: parses arbitrary bytes and must not panic.
#[cfg(test)]
pub(super) fn parse_anything(value: &HeaderValue) -> Option<String> {
    let credentials = credentials(value)?;
    split(&credentials).map(|(name, _)| name.to_owned())
}
