//! A short list that only grows, with lookups that take no lock.

use std::sync::OnceLock;

/// Values by key, in insertion order. It suits a handful of keys, such as statuses.
#[derive(Debug)]
pub struct Grown<K, V>(OnceLock<Box<Node<K, V>>>);

#[derive(Debug)]
struct Node<K, V> {
    key: K,
    value: V,
    next: OnceLock<Box<Node<K, V>>>,
}

impl<K, V> Default for Grown<K, V> {
    fn default() -> Grown<K, V> {
        Grown(OnceLock::new())
    }
}

impl<K: PartialEq + Clone, V> Grown<K, V> {
    /// The value of `key`, which is created if it does not exist.
    pub fn get_or_make(&self, key: &K, make: impl Fn() -> V) -> &V {
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

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let first = self.0.get();
        let nodes = std::iter::successors(first, |node| node.next.get());
        nodes.map(|node| (&node.key, &node.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_one_value() {
        let grown = Grown::default();
        for key in [200, 404, 200, 500, 404] {
            assert_eq!(*grown.get_or_make(&key, || key * 2), key * 2);
        }
        let keys: Vec<i32> = grown.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [200, 404, 500]);
    }
}
