//! Session tickets: a returning client resumes its session without a full handshake (RFC 8446 §2.2, RFC 5077).
//!
//! The library creates new keys with each configuration, so every reload would cost all clients a handshake. Here the
//! keys belong to the process: they survive reloads, are passed to the process that takes over, and may come from a
//! file that several gateways share. A ticket is bound to the requirements on the client: after a change of the CAs
//! for client certificates, no session can be resumed that the old ones allowed.

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls::server::ProducesTickets;

use crate::named_file;
use crate::runtime::listen::{SharedSecret, SharedSecrets};
use crate::upstream::PemError;

/// How long a ticket is valid.
const LIFE: Duration = Duration::from_secs(12 * 3600);
/// How long one of our own keys is used for encryption.
const TURN: Duration = Duration::from_secs(6 * 3600);
/// A file with more keys is an error.
const MAX_KEYS: usize = 16;
const SECRET_BYTES: usize = 32;
const NAME_BYTES: usize = 16;
const TIME_BYTES: usize = 8;

/// The keys of this process. The first one encrypts, and all decrypt.
pub(crate) struct Tickets {
    ring: ArcSwap<Ring>,
    /// Whether the keys are our own and are rotated.
    rotates: bool,
    rotation: Mutex<()>,
    /// Keys from elsewhere. Once they are available they take precedence.
    shared: Option<Foreign>,
}

struct Foreign {
    secrets: SharedSecrets,
    /// The keys that were last derived from them.
    made: ArcSwap<(Arc<Vec<SharedSecret>>, Arc<Ring>)>,
}

impl Foreign {
    fn ring(&self) -> Arc<Ring> {
        let secrets = self.secrets.current();
        let made = self.made.load();
        if Arc::ptr_eq(&made.0, &secrets) {
            return Arc::clone(&made.1);
        }
        let keys = secrets.iter().filter_map(|secret| {
            let key = TicketKey::new(secret_of(&secret.text).ok()?, secret.made);
            key.map(Arc::new)
        });
        let ring = Arc::new(Ring(keys.collect()));
        self.made.store(Arc::new((secrets, Arc::clone(&ring))));
        ring
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets")
            .field("rotates", &self.rotates)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Ring(Vec<Arc<TicketKey>>);

struct TicketKey {
    secret: [u8; SECRET_BYTES],
    /// Seconds since the Unix epoch.
    made: u64,
    name: [u8; NAME_BYTES],
    aead: RandomizedNonceKey,
}

impl TicketKey {
    fn new(secret: [u8; SECRET_BYTES], made: u64) -> Option<TicketKey> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis session tickets");
        let strong = salt.extract(&secret);
        let mut name = [0; NAME_BYTES];
        let mut key = [0; 32];
        expand(&strong, b"name", &mut name)?;
        expand(&strong, b"key", &mut key)?;
        Some(TicketKey {
            secret,
            made,
            name,
            aead: RandomizedNonceKey::new(&AES_256_GCM, &key).ok()?,
        })
    }
}

/// The length of a derived key.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand(strong: &hkdf::Prk, what: &[u8], out: &mut [u8]) -> Option<()> {
    let info = [what];
    strong.expand(&info, Length(out.len())).ok()?.fill(out).ok()
}

impl Tickets {
    /// Our own keys. Without randomness there are no keys and no tickets.
    pub(crate) fn own() -> Tickets {
        let tickets = Tickets::with(Ring::default(), true);
        tickets.rotate(now());
        tickets
    }

    /// The keys of the previous process, in the format of [`Tickets::to_hand_over`].
    pub(crate) fn handed_over(text: &str) -> Option<Tickets> {
        let keys = text.lines().map(|line| {
            let (made, secret) = line.split_once(' ')?;
            TicketKey::new(secret_of(secret).ok()?, made.parse().ok()?).map(Arc::new)
        });
        let keys: Vec<_> = keys.collect::<Option<_>>()?;
        let usable = (1..=MAX_KEYS).contains(&keys.len());
        usable.then(|| Tickets::with(Ring(keys), true))
    }

    /// The keys in a file: one per line, 32 bytes in hexadecimal or base64. Lines that begin with `#` are comments.
    ///
    /// # Errors
    /// The file cannot be read, contains no key, or has invalid content.
    pub(crate) fn of_file(path: &Path) -> Result<Tickets, PemError> {
        read(path).map(|ring| Tickets::with(ring, false))
    }

    fn with(ring: Ring, rotates: bool) -> Tickets {
        Tickets {
            ring: ArcSwap::from_pointee(ring),
            rotates,
            rotation: Mutex::new(()),
            shared: None,
        }
    }

    /// Adds keys that several gateways share. The keys of this value are used for encryption only until those are
    /// available.
    pub(crate) fn shared_by(mut self, secrets: SharedSecrets) -> Tickets {
        self.shared = Some(Foreign {
            secrets,
            made: ArcSwap::default(),
        });
        self
    }

    /// The keys to encrypt with.
    fn encrypting(&self, now: u64) -> Arc<Ring> {
        let foreign = self.shared.as_ref().map(Foreign::ring);
        foreign
            .filter(|ring| !ring.0.is_empty())
            .unwrap_or_else(|| self.current(now))
    }

    /// The key with this name, which is not secret.
    fn named(&self, name: &[u8], now: u64) -> Option<Arc<TicketKey>> {
        let of = |ring: &Ring| ring.0.iter().find(|key| key.name == name).cloned();
        let foreign = self.shared.as_ref().map(Foreign::ring);
        foreign
            .and_then(|ring| of(&ring))
            .or_else(|| of(&self.current(now)))
    }

    /// Replaces these keys by those of `other`. Our own keys are kept, so that a reload costs no client a handshake.
    pub(crate) fn renew(&self, other: &Tickets) {
        if !self.rotates {
            self.ring.store(other.ring.load_full());
        }
    }

    /// One line for each key, for the process that takes over, with those that several gateways share before our own: where
    /// they come from may be unavailable when that process starts. Empty if the keys are in a file, which it reads itself.
    pub(crate) fn to_hand_over(&self) -> String {
        let mut text = String::new();
        if !self.rotates {
            return text;
        }
        let foreign = self.shared.as_ref().map(Foreign::ring).unwrap_or_default();
        let own = self.current(now());
        let mut names = HashSet::new();
        let all = foreign.0.iter().chain(&own.0);
        for key in all.filter(|key| names.insert(key.name)).take(MAX_KEYS) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} {}", key.made, hex::encode(key.secret));
        }
        text
    }

    /// Tickets for a listener whose requirements on clients have the digest `binding`.
    pub(crate) fn bound(self: &Arc<Self>, binding: [u8; 32]) -> Arc<dyn ProducesTickets> {
        Arc::new(Bound {
            tickets: Arc::clone(self),
            binding,
        })
    }

    fn current(&self, now: u64) -> Arc<Ring> {
        let ring = self.ring.load_full();
        let newest = ring.0.first().map_or(0, |key| key.made);
        if !self.rotates || now < newest.saturating_add(TURN.as_secs()) {
            return ring;
        }
        self.rotate(now);
        self.ring.load_full()
    }

    /// Adds a new key in front and removes those whose tickets have all expired.
    fn rotate(&self, now: u64) {
        // If another thread holds the lock, the old key is used.
        let Ok(_only_one) = self.rotation.try_lock() else {
            return;
        };
        let mut secret = [0; SECRET_BYTES];
        if rand::fill(&mut secret).is_err() {
            return;
        }
        let Some(new) = TicketKey::new(secret, now) else {
            return;
        };
        let oldest = now.saturating_sub((LIFE + TURN).as_secs());
        let old = self.ring.load();
        let kept = old.0.iter().filter(|key| key.made > oldest).cloned();
        let keys = std::iter::once(Arc::new(new)).chain(kept).take(MAX_KEYS);
        self.ring.store(Arc::new(Ring(keys.collect())));
    }

    fn seal(&self, binding: &[u8; 32], message: &[u8], now: u64) -> Option<Vec<u8>> {
        let ring = self.encrypting(now);
        let key = ring.0.first()?;
        let mut sealed = [&now.to_be_bytes(), message].concat();
        let aad = Aad::from(binding);
        let nonce = key.aead.seal_in_place_append_tag(aad, &mut sealed).ok()?;
        Some([&key.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, binding: &[u8; 32], ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let key = self.named(name, now)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let aad = Aad::from(binding);
        let plain = key.aead.open_in_place(nonce, aad, &mut sealed).ok()?;
        let (made, message) = plain.split_at_checked(TIME_BYTES)?;
        let made = u64::from_be_bytes(made.try_into().ok()?);
        // The clocks of several gateways differ slightly.
        let fresh = now < made.saturating_add(LIFE.as_secs()) && made < now.saturating_add(3600);
        fresh.then(|| message.to_vec())
    }
}

#[derive(Debug)]
struct Bound {
    tickets: Arc<Tickets>,
    binding: [u8; 32],
}

impl ProducesTickets for Bound {
    fn enabled(&self) -> bool {
        !self.tickets.ring.load().0.is_empty()
    }

    fn lifetime(&self) -> u32 {
        LIFE.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.seal(&self.binding, plain, now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.tickets.open(&self.binding, cipher, now())
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn read(path: &Path) -> Result<Ring, PemError> {
    let rejected = |reason: String| PemError {
        path: path.to_owned(),
        reason,
    };
    let text = named_file::read_text(path, named_file::SMALL)
        .map_err(|error| rejected(error.to_string()))?;
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let secret =
            secret_of(line).map_err(|why| rejected(format!("line {}: {why}", index + 1)))?;
        let key = TicketKey::new(secret, 0);
        keys.push(Arc::new(key.ok_or_else(|| {
            rejected("it cannot be used as a key".to_owned())
        })?));
    }
    match keys.len() {
        0 => Err(rejected(
            "it has no key (openssl rand -hex 32 makes one)".to_owned(),
        )),
        1..=MAX_KEYS => Ok(Ring(keys)),
        more => Err(rejected(format!(
            "it has {more} keys; {MAX_KEYS} are allowed"
        ))),
    }
}

/// 32 bytes in hexadecimal or base64, of either alphabet and with or without padding. An error never contains them.
fn secret_of(text: &str) -> Result<[u8; SECRET_BYTES], String> {
    // No key in base64 has hexadecimal digits only, except by a very small chance.
    let bytes = if text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        hex::decode(text).ok()
    } else {
        let usual = text.replace('-', "+").replace('_', "/");
        STANDARD_NO_PAD.decode(usual.trim_end_matches('=')).ok()
    };
    let bytes = bytes.ok_or("is neither hexadecimal nor base64")?;
    let length = bytes.len();
    bytes
        .try_into()
        .map_err(|_| format!("a key has {SECRET_BYTES} bytes, this one has {length}"))
}

#[cfg(test)]
mod tests;
