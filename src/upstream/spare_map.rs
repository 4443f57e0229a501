//! Header maps that are used again.
//!
//! A map takes two allocations, and a request needs several maps. Each thread keeps a few empty ones.

use std::cell::Cell;

use http::HeaderMap;

/// A larger map is not kept.
const MOST_FIELDS: usize = 32;
/// The number of maps that a thread keeps.
const MOST_MAPS: usize = 8;

thread_local! {
    static SPARE: Cell<Vec<HeaderMap>> = const { Cell::new(Vec::new()) };
}

/// An empty map with room for `capacity` fields.
pub(crate) fn header_map(capacity: usize) -> HeaderMap {
    let mut maps = SPARE.take();
    let map = maps.pop();
    SPARE.set(maps);
    match map {
        Some(map) if map.capacity() >= capacity => map,
        _ => HeaderMap::with_capacity(capacity),
    }
}

/// A copy, with room for one more field.
pub(crate) fn copy_of(headers: &HeaderMap) -> HeaderMap {
    let mut copy = header_map(headers.len() + 1);
    for (name, value) in headers {
        copy.append(name, value.clone());
    }
    copy
}

/// Takes a map that is no longer needed.
pub(crate) fn keep(mut map: HeaderMap) {
    // The number of fields bounds what the map holds besides its capacity: several values of a name.
    if map.capacity() == 0 || map.capacity().max(map.len()) > MOST_FIELDS {
        return;
    }
    map.clear();
    // While the thread ends, the thread-local list no longer exists.
    let _ = SPARE.try_with(|spare| {
        let mut maps = spare.take();
        if maps.len() < MOST_MAPS {
            maps.push(map);
        }
        spare.set(maps);
    });
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, COOKIE};
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn spare() -> usize {
        let maps = SPARE.take();
        let count = maps.len();
        SPARE.set(maps);
        count
    }

    #[test]
    fn a_map_is_empty_when_it_is_used_again() {
        let mut map = HeaderMap::with_capacity(6);
        map.insert(COOKIE, HeaderValue::from_static("secret"));
        let capacity = map.capacity();
        keep(map);
        assert_eq!(spare(), 1);
        let map = header_map(4);
        assert!(map.is_empty() && map.get(COOKIE).is_none());
        assert_eq!((map.capacity(), spare()), (capacity, 0));
    }

    #[test]
    fn a_map_with_little_room_is_not_used_for_many_fields() {
        keep(HeaderMap::with_capacity(3));
        assert!(header_map(20).capacity() >= 20);
        assert_eq!(spare(), 0);
    }

    #[test]
    fn few_small_maps_are_kept() {
        for _ in 0..100 {
            keep(HeaderMap::with_capacity(3));
            keep(HeaderMap::new());
            keep(HeaderMap::with_capacity(1000));
        }
        let mut many = HeaderMap::with_capacity(3);
        for _ in 0..1000 {
            many.append(COOKIE, HeaderValue::from_static("a"));
        }
        keep(many);
        assert_eq!(spare(), MOST_MAPS);
        let maps = SPARE.take();
        assert!(maps.iter().all(|map| map.capacity() <= MOST_FIELDS));
    }

    #[test]
    fn a_copy_has_all_values_and_their_marks() {
        let mut map = HeaderMap::new();
        let mut secret = HeaderValue::from_static("a=b");
        secret.set_sensitive(true);
        map.append(COOKIE, secret);
        map.append(COOKIE, HeaderValue::from_static("c=d"));
        map.append(ACCEPT, HeaderValue::from_static("*/*"));
        map.append(
            HeaderName::from_static("x-own"),
            HeaderValue::from_static("1"),
        );
        let copy = copy_of(&map);
        assert_eq!(copy, map);
        let marks = |map: &HeaderMap| -> Vec<bool> {
            let values = map.get_all(COOKIE).iter();
            values.map(HeaderValue::is_sensitive).collect()
        };
        assert_eq!(marks(&copy), [true, false]);
    }
}
