//! Names and passwords of requests.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, PAD_INDIFFERENT};
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::users::{Proof, Users};
use crate::ext::rate_limit::{Clients, Rate, Verdict, seconds_up};
use crate::runtime::answer::Answer;
use crate::runtime::clock::Clock;
use crate::runtime::request::{Head, Notes};
use crate::runtime::step::{EndpointStep, Gate};

/// bcrypt runs at once, each on a thread of the blocking pool.
const AT_ONCE: usize = 4;
/// Requests that may wait for their turn; more are sent away.
const WAITING: usize = 64;
/// Passwords that one client may have compared: this many at once, then one a second. Right ones are compared once.
const GUESSES: u64 = 20;
/// How long a client's guesses are remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Longer names and passwords are nobody's; bcrypt itself looks at 72 bytes.
const MOST_BYTES: usize = 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, PAD_INDIFFERENT);

/// How many passwords are being compared, and how many each client has had compared. One for the process.
#[derive(Debug)]
pub struct Attempts {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
    clients: Clients,
    clock: Clock,
}

impl Attempts {
    /// Nobody has tried anything yet.
    pub fn new(clock: Clock) -> Attempts {
        Attempts {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            places: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            clients: Clients::new(Rate::new(1.0, GUESSES), 16, MEMORY),
            clock,
        }
    }

    /// A place in the queue for one comparison, or the refusal.
    fn begin(&self, client: IpAddr) -> Result<OwnedSemaphorePermit, (StatusCode, Duration)> {
        let verdict = self.clients.take(&network(client), self.clock.now());
        if let Verdict::Refused { retry_after } = verdict {
            return Err((StatusCode::TOO_MANY_REQUESTS, retry_after));
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1)))
    }
}

/// One client: an address, or the 64 bits that a provider gives to one customer (RFC 6177).
fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::")
        }
    }
}

/// `auth/basic` of one endpoint.
#[derive(Debug)]
pub struct BasicCheck {
    pub users: Arc<Users>,
    pub attempts: Arc<Attempts>,
    /// `Basic realm="…", charset="UTF-8"`
    pub challenge: HeaderValue,
}

/// What bcrypt said, once it has.
type Slot = OnceLock<bool>;

impl EndpointStep for BasicCheck {
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes, attempt: u8) -> Gate<'a> {
        if attempt > 0 {
            let said = notes.awaited.take();
            let said = said.and_then(|slot| slot.downcast::<Slot>().ok());
            return match said.and_then(|slot| slot.get().copied()) {
                Some(true) => Gate::Pass,
                _ => self.unauthorized("wrong_password", notes),
            };
        }
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
        match self.attempts.begin(head.client) {
            Ok(place) => self.compare(name, password, proof, place, notes),
            Err((status, wait)) => {
                notes.refused = Some("rate_limited");
                let wait = HeaderValue::from(seconds_up(wait));
                Gate::Refuse(Answer::empty(status).with(RETRY_AFTER, wait))
            }
        }
    }
}

impl BasicCheck {
    /// Has bcrypt compare, on a thread where it holds up nobody.
    fn compare(
        &self,
        name: &str,
        password: &[u8],
        proof: Proof,
        place: OwnedSemaphorePermit,
        notes: &mut Notes,
    ) -> Gate<'static> {
        let slot = Arc::new(Slot::new());
        notes.awaited = Some(slot.clone());
        let (users, turns) = (Arc::clone(&self.users), Arc::clone(&self.attempts.turns));
        let hash = Arc::clone(users.hash(name));
        let (name, password) = (name.to_owned(), password.to_owned());
        Gate::Wait(Box::pin(async move {
            let Ok(turn) = turns.acquire_owned().await else {
                return;
            };
            // A client that leaves does not stop bcrypt, so both permits go with it.
            let comparing = tokio::task::spawn_blocking(move || {
                let right = bcrypt::verify(password, &hash).unwrap_or(false);
                if right {
                    users.learn(&name, proof);
                }
                drop((turn, place));
                right
            });
            if let Ok(right) = comparing.await {
                // Set once: nobody else writes to it.
                let _ = slot.set(right);
            }
        }))
    }

    fn unauthorized(&self, why: &'static str, notes: &mut Notes) -> Gate<'static> {
        notes.refused = Some(why);
        let answer = Answer::empty(StatusCode::UNAUTHORIZED);
        Gate::Refuse(answer.with(WWW_AUTHENTICATE, self.challenge.clone()))
    }
}

/// The decoded credentials of an `Authorization` of this scheme.
fn credentials(value: &HeaderValue) -> Option<Vec<u8>> {
    let text = value.to_str().ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || rest.len() > 2 * MOST_BYTES {
        return None;
    }
    BASE64.decode(rest.trim_matches(' ')).ok()
}

/// Name and password. The name has no colon, the password may (RFC 7617 §2); neither has control characters.
fn split(credentials: &[u8]) -> Option<(&str, &[u8])> {
    if credentials.iter().any(u8::is_ascii_control) {
        return None;
    }
    let at = credentials.iter().position(|byte| *byte == b':')?;
    let (name, rest) = credentials.split_at_checked(at)?;
    Some((std::str::from_utf8(name).ok()?, rest.get(1..)?))
}

/// Parses whatever it is given, for the property test: must not panic.
#[cfg(test)]
pub(super) fn parse_anything(value: &HeaderValue) -> Option<String> {
    let credentials = credentials(value)?;
    split(&credentials).map(|(name, _)| name.to_owned())
}
