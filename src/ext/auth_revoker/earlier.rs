//! Earlier lists: what was revoked before the dimensions of the list changed. They are read until their elements expire.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::revocation_list::RevocationList;
use crate::jose::bloom::FrozenTokens;

/// The most earlier lists. A lookup reads all of them.
const MAX_LISTS: usize = 8;

/// The most bytes of all of them. A single one may have more: the file in use before had its size.
const MAX_BYTES: usize = 128 << 20;

/// How often lists whose elements have all expired are dropped.
const SWEEP: Duration = Duration::from_secs(60);

/// The lists, the newest first.
#[derive(Debug, Default)]
pub struct Earlier {
    lists: ArcSwapOption<Vec<Arc<FrozenTokens>>>,
    /// Held while the lists change. Lookups do not need it.
    changing: Mutex<()>,
}

/// What happened to lists that were added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    /// How many were joined with another one, for lack of space. Nothing is lost.
    pub joined: usize,
    /// How many had no place.
    pub lost: usize,
}

impl Earlier {
    /// Whether an element is in one of the lists.
    pub(super) fn contains(&self, element: &[u8], now: Duration) -> bool {
        let lists = self.lists.load();
        let lists = lists.as_ref();
        lists.is_some_and(|lists| lists.iter().any(|list| list.contains(element, now)))
    }

    /// The lists whose elements have not all expired, the newest first.
    pub(super) fn current(&self, now: Duration) -> Vec<Arc<FrozenTokens>> {
        let lists = self.lists.load_full();
        let lists = lists.iter().flat_map(|lists| lists.iter());
        let current = lists.filter(|list| list.life(now).is_some());
        current.cloned().collect()
    }

    /// Adds lists, the newest first.
    pub(super) fn add(&self, more: Vec<Arc<FrozenTokens>>, now: Duration) -> Added {
        let _changing = self.changing();
        let mut lists = more;
        lists.extend(self.current(now));
        let mut added = Added::default();
        while !fits(&lists) {
            if join(&mut lists) {
                added.joined += 1;
            } else {
                lists.pop();
                added.lost += 1;
            }
        }
        self.set(lists);
        added
    }

    /// Drops the lists whose elements have all expired.
    pub(super) fn sweep(&self, now: Duration) {
        let _changing = self.changing();
        if self.lists.load().is_some() {
            self.set(self.current(now));
        }
    }

    fn set(&self, lists: Vec<Arc<FrozenTokens>>) {
        let lists = (!lists.is_empty()).then(|| Arc::new(lists));
        self.lists.store(lists);
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        // The lists change in one step, so a panic leaves no partial change.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fits(lists: &[Arc<FrozenTokens>]) -> bool {
    let bytes = lists.iter().map(|list| list.bytes().len());
    lists.len() <= 1 || lists.len() <= MAX_LISTS && bytes.sum::<usize>() <= MAX_BYTES
}

/// Joins the two oldest lists of one shape. Their elements then expire together, with the last. `false` if no two have
/// the same shape.
fn join(lists: &mut Vec<Arc<FrozenTokens>>) -> bool {
    let joined = lists.iter().enumerate().rev().find_map(|(older, list)| {
        let newer = lists.iter().take(older).enumerate();
        newer
            .rev()
            .find_map(|(newer, other)| Some((newer, older, other.joined(list)?)))
    });
    let Some((newer, older, joined)) = joined else {
        return false;
    };
    lists.remove(older);
    if let Some(place) = lists.get_mut(newer) {
        *place = Arc::new(joined);
    }
    true
}

/// Drops expired lists until their owner is dropped.
pub(super) async fn sweep(list: Weak<RevocationList>) {
    while let Some(list) = list.upgrade() {
        list.earlier.sweep(list.clock.now());
        drop(list);
        tokio::time::sleep(SWEEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::bloom::{BloomHash, BloomShape, RevokedTokens};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A list for so many elements with one element, which is revoked at this second.
    fn frozen(elements: u64, element: &str, second: u64) -> Arc<FrozenTokens> {
        let shape = BloomShape::new(elements, 1e-6, BloomHash::Optimal).unwrap();
        let list = RevokedTokens::new(shape, at(10), at(second)).unwrap();
        list.add(element.as_bytes(), at(second), elements);
        Arc::new(list.freeze(at(second)).unwrap())
    }

    #[test]
    fn lists_are_read_until_they_expire() {
        let earlier = Earlier::default();
        assert!(!earlier.contains(b"a", at(0)));
        let none = Added::default();
        assert_eq!(earlier.add(vec![frozen(10, "a", 0)], at(0)), none);
        assert_eq!(earlier.add(vec![frozen(20, "b", 5)], at(5)), none);
        assert!(earlier.contains(b"a", at(29)) && !earlier.contains(b"a", at(30)));
        assert!(earlier.contains(b"b", at(34)) && !earlier.contains(b"c", at(5)));
        assert_eq!(earlier.current(at(30)).len(), 1);
        earlier.sweep(at(30));
        assert_eq!(earlier.lists.load().as_ref().unwrap().len(), 1);
        earlier.sweep(at(35));
        assert!(earlier.lists.load().is_none());
    }

    #[test]
    fn lists_of_one_shape_are_joined_before_one_is_lost() {
        let earlier = Earlier::default();
        for number in 0..20 {
            let added = earlier.add(vec![frozen(10, &number.to_string(), number)], at(number));
            let joined = usize::from(number >= 8);
            assert_eq!(added, Added { joined, lost: 0 }, "{number}");
        }
        assert_eq!(earlier.current(at(19)).len(), MAX_LISTS);
        for number in 0..20 {
            assert!(
                earlier.contains(number.to_string().as_bytes(), at(19)),
                "{number}"
            );
        }
        // Those that were not joined end at their own time.
        assert!(!earlier.contains(b"18", at(48)) && earlier.contains(b"19", at(48)));
    }

    #[test]
    fn the_oldest_list_is_lost_if_nothing_can_be_joined() {
        let earlier = Earlier::default();
        for number in 0..10 {
            let list = frozen(10 + number, &number.to_string(), number);
            let lost = usize::from(number >= 8);
            assert_eq!(
                earlier.add(vec![list], at(number)),
                Added { joined: 0, lost }
            );
        }
        assert!(!earlier.contains(b"1", at(9)) && earlier.contains(b"2", at(9)));
        // By bytes: one list may have any size.
        let earlier = Earlier::default();
        let large = frozen(40_000_000, "large", 0);
        assert!(large.bytes().len() > MAX_BYTES);
        assert_eq!(earlier.add(vec![large], at(0)), Added::default());
        let added = earlier.add(vec![frozen(10, "small", 0)], at(0));
        assert_eq!(added, Added { joined: 0, lost: 1 });
        assert!(earlier.contains(b"small", at(0)) && !earlier.contains(b"large", at(0)));
    }
}
