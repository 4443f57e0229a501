//! Parts of an answer become one.

use smallvec::SmallVec;

use crate::runtime::failure::Failure;
use crate::runtime::json::{Object, Value};

/// What one backend contributed.
#[derive(Debug)]
pub(super) struct Part {
    /// An object or null.
    pub(super) data: Value,
    pub(super) complete: bool,
}

impl Part {
    pub(super) fn complete(data: Value) -> Part {
        Part {
            data,
            complete: true,
        }
    }
}

/// What all backends of an endpoint contributed.
#[derive(Debug)]
pub(super) struct Merged {
    /// `None` when nobody answered.
    pub(super) data: Option<Value>,
    pub(super) complete: bool,
    /// In order of arrival.
    pub(super) failures: SmallVec<[Failure; 1]>,
    /// Whether the failures are those of a group: its answer is 500 whatever they say, and the log numbers them.
    pub(super) group: bool,
}

impl Merged {
    /// The answer of one backend.
    pub(super) fn single(result: Result<Part, Failure>) -> Merged {
        let (data, complete, failures) = match result {
            Ok(part) => (Some(part.data), part.complete, SmallVec::new()),
            Err(failure) => (None, false, SmallVec::from_iter([failure])),
        };
        Merged {
            data,
            complete,
            failures,
            group: false,
        }
    }

    /// The answers of `total` backends, given in the file's order: of equal names the later backend's wins.
    /// Null contributes nothing and leaves the whole incomplete.
    pub(super) fn group(
        parts: impl IntoIterator<Item = Part>,
        total: usize,
        failures: SmallVec<[Failure; 1]>,
    ) -> Merged {
        let mut merged: Option<Object> = None;
        let mut answers = 0;
        let mut complete = true;
        for part in parts {
            answers += 1;
            complete &= part.complete;
            match (part.data, &mut merged) {
                (Value::Object(object), None) => merged = Some(object),
                (Value::Object(object), Some(merged)) => merged.extend(object),
                _ => complete = false,
            }
        }
        Merged {
            data: (answers > 0).then(|| Value::Object(merged.unwrap_or_default())),
            complete: complete && answers == total && failures.is_empty(),
            failures,
            group: true,
        }
    }
}
