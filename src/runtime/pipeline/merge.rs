//! Merges the parts of a response.

use bytes::Bytes;
use http::StatusCode;
use smallvec::SmallVec;

use crate::runtime::failure::Failure;
use crate::runtime::json::{Object, Value};
use crate::runtime::pipe::Meta;
use crate::runtime::response::Fields;
use crate::runtime::step::Answer;
use crate::upstream::budget::Charge;

/// The result of one backend.
#[derive(Debug)]
pub(super) struct Part {
    /// An object or null.
    pub(super) data: Value,
    pub(super) complete: bool,
    /// What the client receives in addition to the data, with `pass_through`.
    pub(super) passed: Option<Box<Passed>>,
    /// The body of a `no-op` backend in a sequence, for `resp0` in `sequential_propagated_params`.
    pub(super) text: Option<Bytes>,
    pub(super) meta: Option<Box<Meta>>,
    /// A message was sent, and there is no data. It makes no other response incomplete.
    pub(super) sent: bool,
    /// The status of the upstream. `None` if none was called.
    pub(super) answered: Option<StatusCode>,
    /// For the memory of the data.
    pub(super) held: Charge,
}

/// The status and some headers of an upstream.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) status: StatusCode,
    pub(super) fields: Fields,
}

impl Part {
    pub(super) fn complete(data: Value) -> Part {
        Part {
            data,
            complete: true,
            passed: None,
            text: None,
            meta: None,
            sent: false,
            answered: None,
            held: Charge::default(),
        }
    }

    /// The result of a message that was sent.
    pub(super) fn sent() -> Part {
        Part {
            sent: true,
            ..Part::complete(Value::Null)
        }
    }

    /// What the upstream has said.
    pub(super) fn answer(&self) -> Answer {
        self.answered.map_or(Answer::NotAsked, Answer::Status)
    }

    /// The result of a call that was not made.
    pub(super) fn skipped() -> Part {
        Part {
            complete: false,
            ..Part::complete(Value::Object(Object::new()))
        }
    }
}

/// The results of all backends of an endpoint.
#[derive(Debug)]
pub(super) struct Merged {
    /// `None` if no backend responded.
    pub(super) data: Option<Value>,
    pub(super) complete: bool,
    /// In order of arrival.
    pub(super) failures: SmallVec<[Failure; 1]>,
    /// Whether the failures are those of a group: the status is then always 500, and the log numbers them.
    pub(super) group: bool,
    /// That of the only backend.
    pub(super) passed: Option<Box<Passed>>,
    /// That of the only backend with data.
    pub(super) meta: Option<Box<Meta>>,
    /// No backend was to be called.
    pub(super) idle: bool,
    /// For the memory of the data, as long as it is needed.
    pub(super) held: Charge,
}

impl Merged {
    /// Replaces the responses if the conditions of all backends are false.
    pub(super) fn idle() -> Merged {
        Merged {
            idle: true,
            ..Merged::single(Ok(Part::complete(Value::Object(Object::new()))))
        }
    }

    /// The response of one backend.
    pub(super) fn single(result: Result<Part, Failure>) -> Merged {
        match result {
            Ok(part) => Merged {
                data: Some(part.data),
                complete: part.complete,
                failures: SmallVec::new(),
                group: false,
                passed: part.passed,
                meta: part.meta,
                idle: false,
                held: part.held,
            },
            Err(failure) => Merged {
                data: None,
                complete: false,
                failures: SmallVec::from_iter([failure]),
                group: false,
                passed: None,
                meta: None,
                idle: false,
                held: Charge::default(),
            },
        }
    }

    /// The responses of `total` backends, in the order of the file: for equal names, the value of the later backend is
    /// used. A null adds nothing and makes the result incomplete. If it is the only response, the result is null.
    pub(super) fn group(
        parts: impl IntoIterator<Item = Part>,
        total: usize,
        failures: SmallVec<[Failure; 1]>,
    ) -> Merged {
        let mut merged: Option<Object> = None;
        let mut responses = 0;
        let mut complete = true;
        let mut held = Charge::default();
        let mut metas: SmallVec<[Option<Box<Meta>>; 4]> = SmallVec::new();
        for part in parts {
            if matches!(part.data, Value::Object(_)) {
                metas.push(part.meta);
            }
            responses += 1;
            complete &= part.complete;
            held.join(part.held);
            match (part.data, &mut merged) {
                (Value::Object(object), None) => merged = Some(object),
                (Value::Object(object), Some(merged)) => merged.extend(object),
                _ => complete &= part.sent,
            }
        }
        Merged {
            data: match (merged, responses) {
                (_, 0) => None,
                (None, 1) => Some(Value::Null),
                (merged, _) => Some(Value::Object(merged.unwrap_or_default())),
            },
            complete: complete && responses == total && failures.is_empty(),
            failures,
            group: true,
            passed: None,
            meta: match &mut *metas {
                [one] => one.take(),
                _ => None,
            },
            idle: false,
            held,
        }
    }
}
