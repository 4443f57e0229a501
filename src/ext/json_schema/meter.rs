//! JSON values that count their use: every access of the validator to a value is a step, and steps are limited.
//!
//! A schema that refers to itself within `anyOf` or `oneOf` makes the validator's work exponential in the depth of a
//! body, and reporting all failures makes the memory exponential too. The crate has no limit of its own, but allows
//! custom access to values: reading through [`Seen`] stops when the steps are used up or the request's deadline has
//! passed.
//!
//! The crate copies the value of each failure into the failure, once for each `anyOf` or `oneOf` around it, and so it
//! does with the places of both. Here the copy of a list, an object or a long text is `null`, and the bytes of all other
//! copies are counted and charged.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jsonschema::JsonType;
use jsonschema::json::{self, Json, Node, NodeIdentity};
use jsonschema_value::LazyInstance;
use serde_json::{Map, Number, Value};

use super::unique;
use crate::runtime::heavy::{Cut, Heavy};
use crate::runtime::json::Growth;

/// Steps between two checks of the clock: tens of microseconds.
const STEPS_PER_LOOK: u64 = 1024;

/// The number of bytes of a text that count as one step.
const BYTES_PER_STEP: usize = 16;

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
    static IS_NAME: Cell<bool> = const { Cell::new(false) };
}

/// What work may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) steps: u64,
    /// The bytes of all failures.
    pub(super) bytes: usize,
    /// The bytes of one failure, without the copy of its value.
    pub(super) failure: usize,
}

struct Meter {
    heavy: Heavy,
    left: Budget,
    /// What failures hold.
    growth: Growth,
}

/// Longer texts are not copied into failures.
const MAX_COPY: usize = 1024;

/// Runs `work` within `budget`.
///
/// # Errors
/// The work was stopped.
pub(super) fn metered<T>(
    budget: Budget,
    heavy: &mut Option<Heavy>,
    work: impl FnOnce() -> T,
) -> Result<T, Stopped> {
    let Some(lent) = heavy.take() else {
        return Err(Stopped::Broken);
    };
    METER.set(Some(Meter {
        heavy: lent,
        left: budget,
        growth: Growth::default(),
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
pub(super) fn step(steps: u64) {
    UNTIL_LOOK.with(|until| match until.get().checked_sub(steps) {
        Some(left) => until.set(left),
        None => look(steps),
    });
}

pub(super) fn text_steps(text: &str) -> u64 {
    1 + (text.len() / BYTES_PER_STEP) as u64
}

/// Stops the validator by unwinding. `resume_unwind` is not a panic and calls no hook.
#[cold]
fn look(steps: u64) {
    let stopped = METER.with_borrow_mut(|meter| {
        let meter = meter.as_mut()?;
        let steps = steps.max(STEPS_PER_LOOK);
        match meter.left.steps.checked_sub(steps) {
            None => return Some(Stopped::Spent),
            Some(left) => meter.left.steps = left,
        }
        meter.heavy.look().err().map(Stopped::Cut)
    });
    if let Some(stopped) = stopped {
        resume_unwind(Box::new(stopped));
    }
    UNTIL_LOOK.set(STEPS_PER_LOOK);
}

/// Counts a failure with a copy of `bytes`.
fn failed(bytes: usize) {
    let stopped = METER.with_borrow_mut(|meter| {
        let Meter { left, growth, .. } = meter.as_mut()?;
        let bytes = left.failure.saturating_add(bytes);
        let (Some(rest), Ok(())) = (left.bytes.checked_sub(bytes), growth.add(bytes)) else {
            return Some(Stopped::Spent);
        };
        left.bytes = rest;
        None
    });
    if let Some(stopped) = stopped {
        resume_unwind(Box::new(stopped));
    }
}

/// The approximate size of a value as text.
fn text_size(value: &Value) -> usize {
    step(1);
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(text_size).sum::<usize>() + items.len() + 2,
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| name.len() + 4 + text_size(value);
            members.iter().map(member).sum::<usize>() + 2
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 24,
    }
}

/// The value of failures of lists, objects and long texts: those are looked up in the body if they are needed.
static LOOKED_UP: Value = Value::Null;

/// While the name of a member is checked, which cannot be looked up.
struct InName(bool);

impl InName {
    fn enter() -> InName {
        InName(IS_NAME.replace(true))
    }
}

impl Drop for InName {
    fn drop(&mut self) {
        IS_NAME.set(self.0);
    }
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
        let name = Value::String(string.to_owned());
        let _in_name = InName::enter();
        f(Seen(&name))
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

    /// The crate makes a text of it.
    fn to_value(&self) -> Cow<'a, Value> {
        failed(text_size(self.0));
        Cow::Borrowed(self.0)
    }

    fn lazy_value(&self) -> LazyInstance<'a> {
        match self.0 {
            Value::Array(_) | Value::Object(_) => {
                failed(0);
                LazyInstance::from(&LOOKED_UP)
            }
            Value::String(text) if text.len() > MAX_COPY && !IS_NAME.get() => {
                failed(0);
                LazyInstance::from(&LOOKED_UP)
            }
            value => {
                failed(value.as_str().map_or(0, str::len));
                LazyInstance::from(value)
            }
        }
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
        unique::are_unique(self.0)
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn heavy() -> Option<Heavy> {
        Some(Heavy::until(Instant::now() + Duration::from_secs(60)))
    }

    fn steps(steps: u64) -> Budget {
        Budget {
            steps,
            bytes: usize::MAX,
            failure: 0,
        }
    }

    #[test]
    fn the_bytes_of_failures_are_limited() {
        let text = json!("x".repeat(400));
        let list = json!(vec![text.clone(); 1000]);
        let budget = Budget {
            bytes: 10_000,
            failure: 100,
            ..steps(1_000_000)
        };
        let all = |value: &Value, times: usize| {
            let look = || (0..times).for_each(|_| drop(Seen(value).lazy_value()));
            metered(budget, &mut heavy(), look)
        };
        assert_eq!(all(&text, 20), Ok(()));
        assert_eq!(all(&text, 21), Err(Stopped::Spent));
        assert_eq!(all(&list, 100), Ok(()));
        let shown = || Seen(&list).to_value().to_string();
        assert_eq!(metered(budget, &mut heavy(), shown), Err(Stopped::Spent));
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
            metered(steps(10_000), &mut lent, endless),
            Err::<(), _>(Stopped::Spent)
        );
        let broken = metered(steps(10_000), &mut lent, || panic!("on purpose"));
        assert_eq!(broken, Err::<(), _>(Stopped::Broken));
        assert_eq!(metered(steps(10_000), &mut lent, || 7), Ok(7));
        let mut late = Some(Heavy::until(Instant::now() + Duration::from_millis(5)));
        let cut = metered(steps(u64::MAX), &mut late, endless);
        assert_eq!(cut, Err::<(), _>(Stopped::Cut(Cut::Deadline)));
    }
}
