//! JSON values that count their use: every access of the validator to a value is a step, and steps are limited.
//!
//! A schema that refers to itself within `anyOf` or `oneOf` makes the validator's work exponential in the depth of a
//! body, and reporting all failures makes the memory exponential too. The crate has no limit of its own, but allows
//! custom access to values: reading through [`Seen`] stops when the steps are used up or the request's deadline has
//! passed.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use ahash::RandomState;
use jsonschema::JsonType;
use jsonschema::json::{self, Json, Node, NodeIdentity};
use serde_json::{Map, Number, Value};

use crate::runtime::heavy::{Cut, Heavy};

/// Steps between two checks of the clock: tens of microseconds.
const STEPS_PER_LOOK: u64 = 1024;

/// The number of bytes of a text that count as one step.
const BYTES_PER_STEP: usize = 16;

/// Lists of at most this length are compared item by item.
const FEW_ITEMS: usize = 15;

/// Why the work was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// All steps are used up.
    Spent,
    /// The request's deadline has passed, or there is too much heavy work.
    Cut(Cut),
    /// The validator panicked.
    Broken,
}

thread_local! {
    /// Steps until the next check of the clock. `u64::MAX` means that nothing is counted.
    static UNTIL_LOOK: Cell<u64> = const { Cell::new(u64::MAX) };
    static METER: RefCell<Option<Meter>> = const { RefCell::new(None) };
}

struct Meter {
    heavy: Heavy,
    left: u64,
}

/// Runs `work` for at most `steps` steps.
///
/// # Errors
/// The work was stopped.
pub(super) fn metered<T>(
    steps: u64,
    heavy: &mut Option<Heavy>,
    work: impl FnOnce() -> T,
) -> Result<T, Stopped> {
    let Some(lent) = heavy.take() else {
        return Err(Stopped::Broken);
    };
    METER.set(Some(Meter {
        heavy: lent,
        left: steps,
    }));
    UNTIL_LOOK.set(0);
    let done = catch_unwind(AssertUnwindSafe(work));
    UNTIL_LOOK.set(u64::MAX);
    *heavy = METER.take().map(|meter| meter.heavy);
    done.map_err(|payload: Box<dyn Any + Send>| {
        let stopped = payload.downcast::<Stopped>();
        stopped.map_or(Stopped::Broken, |stopped| *stopped)
    })
}

#[inline]
fn step(steps: u64) {
    UNTIL_LOOK.with(|until| match until.get().checked_sub(steps) {
        Some(left) => until.set(left),
        None => look(steps),
    });
}

fn text_steps(text: &str) -> u64 {
    1 + (text.len() / BYTES_PER_STEP) as u64
}

/// Stops the validator by unwinding. `resume_unwind` is not a panic and calls no hook.
#[cold]
fn look(steps: u64) {
    let stopped = METER.with_borrow_mut(|meter| {
        let meter = meter.as_mut()?;
        let steps = steps.max(STEPS_PER_LOOK);
        match meter.left.checked_sub(steps) {
            None => return Some(Stopped::Spent),
            Some(left) => meter.left = left,
        }
        meter.heavy.look().err().map(Stopped::Cut)
    });
    if let Some(stopped) = stopped {
        resume_unwind(Box::new(stopped));
    }
    UNTIL_LOOK.set(STEPS_PER_LOOK);
}

/// The access to [`Seen`] values.
pub(super) struct Metered;

/// A value that counts its use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a>(pub(super) &'a Value);

impl Json for Metered {
    type Node<'a> = Seen<'a>;
    type PreparedKey = String;
    type StringBuffer = ();

    const KEYS_PER_LOOKUP: usize = 2;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(Seen<'_>) -> T) -> T {
        step(text_steps(string));
        f(Seen(&Value::String(string.to_owned())))
    }
}

impl<'a> Node<'a, Metered> for Seen<'a> {
    type Object = Members<'a>;
    type Array = Items<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Members<'a>> {
        step(1);
        self.0.as_object().map(Members)
    }

    fn as_array(&self) -> Option<Items<'a>> {
        step(1);
        self.0.as_array().map(|items| Items(items))
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.0.as_str();
        step(text.map_or(1, text_steps));
        text.map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        step(1);
        self.0.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        step(1);
        self.0.as_bool()
    }

    fn is_null(&self) -> bool {
        step(1);
        self.0.is_null()
    }

    fn json_type(&self) -> JsonType {
        step(1);
        match self.0 {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        step(1);
        json::cmp::equal(self.0, expected)
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Borrowed(self.0)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        step(1);
        Some(NodeIdentity::new(
            std::ptr::from_ref::<Value>(self.0) as usize
        ))
    }
}

/// The members of an object.
#[derive(Clone, Copy)]
pub(super) struct Members<'a>(&'a Map<String, Value>);

impl<'a> json::Object<'a, Metered> for Members<'a> {
    type Node = Seen<'a>;
    type MemberName = &'a str;
    type MembersIter = MembersIter<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &String) -> Option<Seen<'a>> {
        step(1);
        self.0.get(key).map(Seen)
    }

    fn members(&self) -> MembersIter<'a> {
        MembersIter(self.0.iter())
    }
}

pub(super) struct MembersIter<'a>(serde_json::map::Iter<'a>);

impl<'a> Iterator for MembersIter<'a> {
    type Item = (&'a str, Seen<'a>);

    fn next(&mut self) -> Option<(&'a str, Seen<'a>)> {
        let (name, value) = self.0.next()?;
        // Names are matched against patterns.
        step(text_steps(name));
        Some((name, Seen(value)))
    }
}

/// The items of a list.
#[derive(Clone, Copy)]
pub(super) struct Items<'a>(&'a [Value]);

impl<'a> json::Array<'a, Metered> for Items<'a> {
    type Node = Seen<'a>;
    type ElementsIter = ItemsIter<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> ItemsIter<'a> {
        ItemsIter(self.0.iter())
    }

    fn is_unique(&self) -> bool {
        are_unique(self.0)
    }
}

pub(super) struct ItemsIter<'a>(std::slice::Iter<'a, Value>);

impl<'a> Iterator for ItemsIter<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Seen<'a>> {
        step(1);
        self.0.next().map(Seen)
    }
}

/// `uniqueItems`. The crate's own implementation compares all lists that contain only lists, such as `[[]]` and
/// `[[[]]]`, with each other, which is quadratic in their number. This one takes the nesting into account.
fn are_unique(items: &[Value]) -> bool {
    if items.len() <= FEW_ITEMS {
        let mut rest = items;
        while let Some((first, others)) = rest.split_first() {
            if others.iter().any(|other| same(first, other)) {
                return false;
            }
            rest = others;
        }
        return true;
    }
    let state = RandomState::new();
    let mut known: std::collections::HashMap<u64, Vec<&Value>, RandomState> =
        std::collections::HashMap::default();
    items.iter().all(|item| {
        let like_it = known.entry(digest(item, &state)).or_default();
        let is_new = !like_it.iter().any(|other| same(other, item));
        like_it.push(item);
        is_new
    })
}

fn same(a: &Value, b: &Value) -> bool {
    step(1);
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        (a, b) => json::cmp::equal(a, b),
    }
}

/// A hash that is the same for equal values, with a secret seed.
fn digest(value: &Value, state: &RandomState) -> u64 {
    let mut hasher = state.build_hasher();
    match value {
        Value::Null => 0_u8.hash(&mut hasher),
        Value::Bool(yes) => (1_u8, yes).hash(&mut hasher),
        Value::Number(number) => {
            // Removes the sign of a zero.
            let float = number.as_f64().unwrap_or_default() + 0.0;
            (2_u8, float.to_bits()).hash(&mut hasher);
        }
        Value::String(text) => {
            step(text_steps(text));
            (3_u8, text).hash(&mut hasher);
        }
        Value::Array(items) => {
            (4_u8, items.len()).hash(&mut hasher);
            for item in items {
                digest(item, state).hash(&mut hasher);
            }
        }
        Value::Object(members) => {
            (5_u8, members.len()).hash(&mut hasher);
            // Independent of the order.
            let members = members
                .iter()
                .map(|(name, value)| state.hash_one((name, digest(value, state))));
            members.fold(0_u64, u64::wrapping_add).hash(&mut hasher);
        }
    }
    step(1);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn heavy() -> Option<Heavy> {
        Some(Heavy::until(Instant::now() + Duration::from_secs(60)))
    }

    #[test]
    fn items_are_compared_as_json_values() {
        let with = |items: Vec<Value>| {
            let few = are_unique(&items);
            // The same result among many other items, where they are looked up by their digests.
            let more = (100..140).map(|n| json!({ "n": n }));
            let many: Vec<Value> = items.into_iter().chain(more).collect();
            assert_eq!(few, are_unique(&many), "{many:?}");
            few
        };
        assert!(with(vec![json!([]), json!([[]]), json!([[[]]]), json!({})]));
        assert!(with(vec![json!([1, 2]), json!([2, 1]), json!([[1], 2])]));
        assert!(with(vec![json!(1), json!("1"), json!(true), json!(null)]));
        assert!(!with(vec![json!(1), json!(1.0)]));
        assert!(!with(vec![json!(0), json!(-0.0)]));
        assert!(!with(vec![
            json!({"a": 1, "b": [2]}),
            json!({"b": [2.0], "a": 1})
        ]));
        assert!(with(vec![json!({"a": 1}), json!({"a": 1, "b": null})]));
    }

    #[test]
    fn the_steps_of_lists_of_empty_lists_are_linear() {
        // All lists with the same number of brackets: the worst case of a hash that ignores nesting.
        fn lists(pairs: usize) -> Vec<Value> {
            match pairs {
                0 => vec![json!([])],
                _ => (0..pairs)
                    .flat_map(|first| {
                        let others = lists(pairs - 1 - first);
                        lists(first).into_iter().flat_map(move |head| {
                            others.clone().into_iter().map(move |rest| {
                                let mut all = vec![head.clone()];
                                all.extend(rest.as_array().into_iter().flatten().cloned());
                                json!(all)
                            })
                        })
                    })
                    .collect(),
            }
        }
        let items = lists(10);
        assert_eq!(items.len(), 16_796);
        let steps = 40 * items.len() as u64;
        let judged = metered(steps, &mut heavy(), || are_unique(&items));
        assert_eq!(judged, Ok(true));
    }

    #[test]
    fn work_ends_after_its_steps_or_at_the_deadline() {
        let mut lent = heavy();
        let endless = || {
            loop {
                step(1);
            }
        };
        assert_eq!(
            metered(10_000, &mut lent, endless),
            Err::<(), _>(Stopped::Spent)
        );
        let broken = metered(10_000, &mut lent, || panic!("on purpose"));
        assert_eq!(broken, Err::<(), _>(Stopped::Broken));
        assert_eq!(metered(10_000, &mut lent, || 7), Ok(7));
        let mut late = Some(Heavy::until(Instant::now() + Duration::from_millis(5)));
        let cut = metered(u64::MAX, &mut late, endless);
        assert_eq!(cut, Err::<(), _>(Stopped::Cut(Cut::Deadline)));
    }
}
