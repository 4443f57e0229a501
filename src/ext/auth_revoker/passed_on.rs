//! The revoked tokens that a process passes to the one that takes over from it.
//!
//! | kind | of | value |
//! |---|---|---|
//! | `revoked` | what the list is made for; an earlier list: its shape, and its place | the elements |
//! | `revoked-shape` | the same | the shape in clear form, so that a list with other dimensions can read the elements |
//! | `logouts` | | the users who have logged out |
//! | `revoke-later` | the element | an element that was revoked after the list was given |
//!
//! The first one has the time until all its elements expire. Programs without `revoked-shape` read only a list of their own.

use std::cmp::Reverse;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::earlier::Added;
use super::revocation_list::{CHANGED, RevocationList, log_joined};
use crate::jose::bloom::{BloomHash, BloomShape, FrozenTokens};
use crate::runtime::upgrade_state::UpgradeState;
use crate::upstream::passed::{self, Lines, Passed, digest};

const TOKENS: &str = "revoked";
const SHAPE: &str = "revoked-shape";
const LOGOUTS: &str = "logouts";
const LATE: &str = "revoke-later";

/// A longer life has this length for the other process.
const MAX_LIFE: Duration = Duration::from_secs(u32::MAX as u64);

/// The line for the process that takes over, about an element that was revoked after it got the list. `None` if the element
/// is too long.
pub(super) fn late_line(element: &[u8]) -> Option<String> {
    let mut line = String::new();
    let passed = passed(element.to_vec(), None);
    passed::write(&mut line, LATE, &element, &passed).then_some(line)
}

fn passed(value: Vec<u8>, life: Option<Duration>) -> Passed {
    Passed {
        age: Duration::ZERO,
        life: life.map(|life| life.min(MAX_LIFE)),
        value: Bytes::from(value),
    }
}

impl UpgradeState for RevocationList {
    fn give(&self) -> String {
        let (mut text, now) = (String::new(), self.clock.now());
        if let Some(bytes) = self.tokens.to_bytes(now) {
            let tokens = passed(bytes, self.tokens.life(now));
            let shape = self.tokens.shape();
            if !give_list(&mut text, &self.shape, shape, &tokens) {
                log::error!(
                    "[SERVICE: Revoker] the list is too large for an upgrade: the new process starts without it"
                );
            }
        }
        for (place, list) in self.earlier.current(now).iter().enumerate() {
            let tokens = passed(list.bytes().to_vec(), list.life(now));
            let of = ("earlier", place, shape_text(list.shape()));
            if !give_list(&mut text, &of, list.shape(), &tokens) {
                log::error!(
                    "[SERVICE: Revoker] an earlier list is too large for an upgrade: the new process starts without it"
                );
            }
        }
        let logouts = passed(self.logouts.to_bytes(now), None);
        if !passed::write(&mut text, LOGOUTS, &LOGOUTS, &logouts) {
            log::error!(
                "[SERVICE: Revoker] the logouts are too large for an upgrade: the new process starts without them"
            );
        }
        text
    }

    fn take(&self, given: &str) {
        self.take_lists(given);
        if let Some(passed) = Lines::new(given, LOGOUTS).find(&LOGOUTS) {
            self.logouts.add_bytes(&passed.value, self.clock.now());
        }
        let late = Lines::new(given, LATE);
        for passed in late.digests().filter_map(|digest| late.get(digest)) {
            self.add_passed(&passed.value);
        }
    }
}

impl RevocationList {
    fn take_lists(&self, given: &str) {
        let (tokens, shapes) = (Lines::new(given, TOKENS), Lines::new(given, SHAPE));
        let (own, now) = (digest(&self.shape), self.clock.now());
        let (mut earlier, mut lost) = (Vec::new(), 0);
        for of in tokens.digests() {
            let shape = shapes.get(of).and_then(|shape| read_shape(&shape.value));
            match (tokens.get(of), shape) {
                (Some(list), _) if of == own && self.tokens.add_bytes(&list.value, now) => {}
                (Some(list), Some(shape)) => match frozen(shape, list, now) {
                    Some(list) => earlier.push(Arc::new(list)),
                    None => lost += 1,
                },
                _ => lost += 1,
            }
        }
        if lost > 0 {
            log::error!(
                "[SERVICE: Revoker] the new process cannot read a list of the old one: revoked tokens are valid again. {CHANGED}, or the programs are of different versions"
            );
        }
        if earlier.is_empty() {
            return;
        }
        let life = earlier.iter().filter_map(|list| list.life(now)).max();
        log::info!(
            "[SERVICE: Revoker] lists with other dimensions taken over from the old process: {}. What was revoked before stays revoked until its \"TTL\" is over, at most for {} s",
            earlier.len(),
            life.unwrap_or_default().as_secs() + 1
        );
        // If there is no space for all, the next one to expire is lost.
        earlier.sort_by_key(|list| Reverse(list.life(now)));
        let Added { joined, lost } = self.earlier.add(earlier, now);
        log_joined(joined);
        if lost > 0 {
            log::error!(
                "[SERVICE: Revoker] there is no space for {lost} earlier lists of the old process: their revoked tokens are valid again"
            );
        }
    }
}

/// Adds the lines of a list. Returns `false` if there is no space for it.
fn give_list(text: &mut String, of: &impl Hash, shape: BloomShape, tokens: &Passed) -> bool {
    let in_clear = passed(shape_text(shape).into_bytes(), None);
    passed::write(text, TOKENS, of, tokens) && passed::write(text, SHAPE, of, &in_clear)
}

fn frozen(shape: BloomShape, list: Passed, now: Duration) -> Option<FrozenTokens> {
    let ends = now.saturating_add(list.life?);
    FrozenTokens::new(shape, list.value.into(), ends)
}

/// A shape in clear form. The first number is the version of this form.
fn shape_text(shape: BloomShape) -> String {
    let BloomShape { bits, hashes, hash } = shape;
    format!("1 {bits} {hashes} {}", hash.name())
}

fn read_shape(text: &[u8]) -> Option<BloomShape> {
    let mut fields = std::str::from_utf8(text).ok()?.split(' ');
    if fields.next()? != "1" {
        return None;
    }
    let shape = BloomShape {
        bits: fields.next()?.parse().ok()?,
        hashes: fields.next()?.parse().ok()?,
        hash: BloomHash::parse(fields.next()?)?,
    };
    fields.next().is_none().then_some(shape)
}
