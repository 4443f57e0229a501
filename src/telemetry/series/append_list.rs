//! A short list that only grows, with lookups that take no lock.

use std::sync::OnceLock;

/// The maximum number of keys that others can invent. A lookup walks over all of them.
const MAX_KEYS: usize = 64;

/// Values by key, in insertion order. It suits a handful of keys, such as statuses.
#[derive(Debug)]
pub(crate) struct AppendList<K, V>(OnceLock<Box<Node<K, V>>>);

#[derive(Debug)]
struct Node<K, V> {
    key: K,
    value: V,
    next: OnceLock<Box<Node<K, V>>>,
}

impl<K, V> Default for AppendList<K, V> {
    fn default() -> AppendList<K, V> {
        AppendList(OnceLock::new())
    }
}

impl<K: PartialEq + Clone, V> AppendList<K, V> {
    /// The value of `key`, which is created if it does not exist.
    pub(crate) fn get_or_make(&self, key: &K, make: impl Fn() -> V) -> &V {
        let mut place = &self.0;
        loop {
            let node = place.get_or_init(|| {
                Box::new(Node {
                    key: key.clone(),
                    value: make(),
                    next: OnceLock::new(),
                })
            });
            if node.key == *key {
                return &node.value;
            }
            place = &node.next;
        }
    }

    /// The same for keys that others can invent, such as hosts that backends redirect to. `is_key` finds the value. Only
    /// a new value needs a key: `[key, others]`, of which the second is for keys beyond the limit.
    pub(crate) fn get_or_make_bounded(
        &self,
        is_key: impl Fn(&K) -> bool,
        [key, others]: [&dyn Fn() -> K; 2],
        make: impl Fn(&K) -> V,
    ) -> &V {
        if let Some((_, value)) = self.iter().find(|(known, _)| is_key(known)) {
            return value;
        }
        let full = self.iter().count() >= MAX_KEYS;
        let key = if full { others() } else { key() };
        self.get_or_make(&key, || make(&key))
    }

    /// All values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let first = self.0.get();
        let nodes = std::iter::successors(first, |node| node.next.get());
        nodes.map(|node| (&node.key, &node.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(grown: &AppendList<i32, i32>, key: i32) -> &i32 {
        grown.get_or_make_bounded(|known| *known == key, [&|| key, &|| 0], |key| *key)
    }

    #[test]
    fn invented_keys_share_a_value_beyond_the_limit() {
        let grown = AppendList::default();
        for key in 1..10_000 {
            let value = *get(&grown, key);
            let known = usize::try_from(key).unwrap() <= MAX_KEYS;
            assert_eq!(value, if known { key } else { 0 });
        }
        assert_eq!(*get(&grown, 7), 7);
        assert_eq!(grown.iter().count(), MAX_KEYS + 1);
    }

    #[test]
    fn each_key_has_one_value() {
        let grown = AppendList::default();
        for key in [200, 404, 200, 500, 404] {
            assert_eq!(*grown.get_or_make(&key, || key * 2), key * 2);
        }
        let keys: Vec<i32> = grown.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [200, 404, 500]);
    }
}
