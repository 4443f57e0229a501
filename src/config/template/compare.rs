//! Deep equality of values, as Go's `reflect.DeepEqual`.

use std::rc::Rc;

use super::budget::Budget;
use super::value::{List, Map, Value};

/// Values nested deeper are not compared, so that the stack suffices.
const MAX_DEPTH: usize = 256;

/// Whether two values are equal. Kinds are distinguished. Each list and map uses a step of the budget.
///
/// # Errors
/// The values are nested too deeply, or the budget is used up.
pub(super) fn equal(left: &Value, right: &Value, budget: &mut Budget) -> Result<bool, String> {
    let mut comparison = Comparison {
        budget,
        open: Vec::new(),
        depth: 0,
    };
    comparison.equal(left, right)
}

struct Comparison<'b> {
    budget: &'b mut Budget,
    /// The pairs of maps that are being compared. A map may contain itself, and then such a pair counts as equal.
    open: Vec<(*const (), *const ())>,
    depth: usize,
}

impl Comparison<'_> {
    fn equal(&mut self, left: &Value, right: &Value) -> Result<bool, String> {
        Ok(match (left, right) {
            (left, right) if left.is_nothing() && right.is_nothing() => true,
            (Value::Bool(left), Value::Bool(right)) => left == right,
            (Value::Int(left), Value::Int(right)) | (Value::Int64(left), Value::Int64(right)) => {
                left == right
            }
            (Value::Float(left), Value::Float(right)) => left == right,
            (Value::Text(left), Value::Text(right)) => left == right,
            (Value::Time(left), Value::Time(right)) => left == right,
            (Value::List(left), Value::List(right)) => {
                self.enter()?;
                let equal = self.lists(left, right)?;
                self.depth -= 1;
                equal
            }
            (Value::Map(left), Value::Map(right)) => {
                self.enter()?;
                let equal = self.maps(left, right)?;
                self.depth -= 1;
                equal
            }
            (Value::Object(one), Value::Object(other)) => {
                Rc::ptr_eq(one, other) || (left.named().is_some() && left.named() == right.named())
            }
            _ => false,
        })
    }

    fn enter(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!(
                "the values are nested too deeply (more than {MAX_DEPTH})"
            ));
        }
        self.budget.step().map(drop)
    }

    fn lists(&mut self, left: &List, right: &List) -> Result<bool, String> {
        if left.element != right.element
            || left.items.is_some() != right.items.is_some()
            || left.items().len() != right.items().len()
        {
            return Ok(false);
        }
        for (left, right) in left.items().iter().zip(right.items()) {
            if !self.equal(left, right)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn maps(&mut self, left: &Map, right: &Map) -> Result<bool, String> {
        let address = |map: &Map| Rc::as_ptr(&map.entries).cast::<()>();
        let pair = (address(left), address(right));
        if pair.0 == pair.1 || self.open.contains(&pair) {
            return Ok(true);
        }
        if left.element != right.element || left.len() != right.len() {
            return Ok(false);
        }
        self.open.push(pair);
        for (key, value) in left.snapshot() {
            let Some(other) = right.get(&key) else {
                return Ok(false);
            };
            if !self.equal(&value, &other)? {
                return Ok(false);
            }
        }
        self.open.pop();
        Ok(true)
    }
}
