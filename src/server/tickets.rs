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
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const HOUR: u64 = 3600;
    const NOW: u64 = 4_000_000_000;
    const MTLS: [u8; 32] = [7; 32];

    #[test]
    fn a_ticket_is_valid_for_twelve_hours_with_the_same_requirements() {
        let tickets = Tickets::own();
        let ticket = tickets.seal(&MTLS, b"session", NOW).unwrap();
        assert_ne!(tickets.seal(&MTLS, b"session", NOW).unwrap(), ticket);
        let open = |now| tickets.open(&MTLS, &ticket, now);
        assert_eq!(open(NOW + HOUR).as_deref(), Some(&b"session"[..]));
        assert_eq!(
            tickets.open(&[8; 32], &ticket, NOW),
            None,
            "other authorities"
        );
        assert_eq!(open(NOW + 12 * HOUR), None);
        let mut forged = ticket.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(tickets.open(&MTLS, &forged, NOW), None);
        for end in 0..ticket.len() {
            assert_eq!(tickets.open(&MTLS, &ticket[..end], NOW), None);
        }
        assert_eq!(Tickets::own().open(&MTLS, &ticket, NOW), None);
    }

    #[test]
    fn our_own_keys_are_rotated_and_the_old_ones_still_decrypt() {
        let tickets = Tickets::own();
        let mut seen = Vec::new();
        let mut ticket = tickets.seal(&MTLS, b"0", NOW).unwrap();
        for turn in 1..20_u64 {
            let now = NOW + turn * 6 * HOUR;
            assert!(tickets.open(&MTLS, &ticket, now).is_some(), "turn {turn}");
            ticket = tickets.seal(&MTLS, b"0", now).unwrap();
            assert!(!seen.contains(&ticket[..NAME_BYTES].to_vec()));
            seen.push(ticket[..NAME_BYTES].to_vec());
            assert!(tickets.ring.load().0.len() <= 4);
        }
    }

    #[test]
    fn a_new_process_decrypts_the_tickets_of_the_previous_one() {
        let old = Tickets::own();
        let now = now();
        let ticket = old.seal(&MTLS, b"session", now).unwrap();
        let new = Tickets::handed_over(&old.to_hand_over()).unwrap();
        assert!(new.open(&MTLS, &ticket, now).is_some());
        assert!(
            old.open(&MTLS, &new.seal(&MTLS, b"s", now).unwrap(), now)
                .is_some()
        );
        for text in ["", "x", "1 zz\n", "1\n"] {
            assert!(Tickets::handed_over(text).is_none(), "{text}");
        }
    }

    #[test]
    fn shared_keys_take_precedence_over_our_own() {
        let secrets = SharedSecrets::default();
        let (here, there) = (
            Tickets::own().shared_by(secrets.clone()),
            Tickets::own().shared_by(secrets.clone()),
        );
        let own = here.seal(&MTLS, b"own", NOW).unwrap();
        assert_eq!(there.open(&MTLS, &own, NOW), None);
        let one = SharedSecret {
            made: NOW,
            text: "11".repeat(32),
        };
        let two = SharedSecret {
            made: NOW,
            text: "22".repeat(32),
        };
        secrets.set(vec![one.clone()]);
        let first = here.seal(&MTLS, b"first", NOW).unwrap();
        assert!(there.open(&MTLS, &first, NOW).is_some());
        assert!(here.open(&MTLS, &own, NOW).is_some());
        secrets.set(vec![two, one]);
        let second = here.seal(&MTLS, b"second", NOW).unwrap();
        assert_ne!(first[..NAME_BYTES], second[..NAME_BYTES]);
        for ticket in [first, second] {
            assert!(there.open(&MTLS, &ticket, NOW).is_some());
        }
    }

    #[test]
    fn a_new_process_has_shared_keys_before_their_store_responds() {
        let (secrets, now) = (SharedSecrets::default(), now());
        let fleet = Tickets::own().shared_by(secrets.clone());
        let early = fleet.seal(&MTLS, b"early", now).unwrap();
        let secret = |digits: &str, made| SharedSecret {
            made,
            text: digits.repeat(32),
        };
        secrets.set(vec![secret("22", now), secret("11", now - HOUR)]);
        let shared = fleet.seal(&MTLS, b"shared", now).unwrap();
        let given = fleet.to_hand_over();
        let new = Tickets::handed_over(&given).unwrap();
        let new = new.shared_by(SharedSecrets::default());
        for ticket in [&early, &shared] {
            assert!(new.open(&MTLS, ticket, now).is_some());
        }
        let sealed = new.seal(&MTLS, b"new", now).unwrap();
        assert!(fleet.open(&MTLS, &sealed, now).is_some());
        // It has the same keys as its own and from the store.
        let new = Tickets::handed_over(&given).unwrap().shared_by(secrets);
        assert_eq!(new.to_hand_over(), given);
        assert_eq!(given.lines().count(), 3);
    }

    #[test]
    fn keys_in_a_file_are_shared_and_replaced_in_two_steps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Tickets::of_file(&path).map_err(|error| error.reason)
        };
        let (one, two) = ("11".repeat(32), STANDARD.encode([2; 32]));
        for other in [
            two.trim_end_matches('=').to_owned(),
            "-_".repeat(21) + "8=",
            "-_".repeat(21) + "8",
        ] {
            assert!(of(&other).is_ok(), "{other}");
        }
        let here = of(&format!("# first\n{one}\n")).unwrap();
        let there = of(&format!("{one}\n\n{two}\n")).unwrap();
        let ticket = here.seal(&MTLS, b"session", NOW).unwrap();
        assert!(there.open(&MTLS, &ticket, NOW).is_some());
        assert_eq!(there.to_hand_over(), "");
        here.renew(&of(&format!("{two}\n{one}\n")).unwrap());
        assert!(here.open(&MTLS, &ticket, NOW).is_some());
        let new = here.seal(&MTLS, b"session", NOW).unwrap();
        assert!(there.open(&MTLS, &new, NOW).is_some());
        assert_eq!(here.open(&MTLS, &ticket, NOW + 12 * HOUR), None);
        for (text, words) in [
            ("", "it has no key"),
            ("# nothing\n", "it has no key"),
            ("secret!\n", "line 1: is neither hexadecimal nor base64"),
            ("c2hvcnQ=\n", "a key has 32 bytes, this one has 5"),
            ("11\n", "a key has 32 bytes, this one has 1"),
            ("111\n", "line 1: is neither"),
            (&*"11".repeat(31), "a key has 32 bytes, this one has 31"),
            (&*"11".repeat(64), "a key has 32 bytes, this one has 64"),
            (&*format!("{one}\n").repeat(17), "it has 17 keys"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
