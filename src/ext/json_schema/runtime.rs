//! The step that validates a body before any backend is called.

use std::borrow::Cow;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::schema::{Rejection, Schema};
use crate::runtime::failure::{Failure, Guard, Kind};
use crate::runtime::heavy::{Heavy, aside};
use crate::runtime::json::{self, Depth};
use crate::runtime::pipe::{Passed, PipeRequest, PipeStep};
use crate::upstream::budget::{Charge, Full};

/// Rejects bodies that do not match the schema.
#[derive(Debug)]
pub(super) struct BodyCheck {
    pub(super) schema: Schema,
}

impl BodyCheck {
    fn check(&self, body: &Bytes, deadline: Instant) -> Result<(), Failure> {
        if body.is_empty() {
            return Err(rejected("could not validate an empty body"));
        }
        let _held = charge(body).map_err(|_| Failure::full())?;
        let value = aside(body.len(), deadline, || read(body))?.map_err(rejected)?;
        match self.schema.check(value, body.len(), Heavy::until(deadline)) {
            Ok(()) => Ok(()),
            Err(Rejection::Unfit(lines)) => Err(rejected(lines)),
            Err(Rejection::Costly) => Err(rejected("validating the body needs too much work")),
            Err(Rejection::Cut(cut)) => Err(cut.into()),
            Err(Rejection::GaveUp) => Err(Failure::new(
                Kind::Guarded(Guard::Schema),
                "the body could not be validated",
            )),
        }
    }
}

fn rejected(text: impl Into<Cow<'static, str>>) -> Failure {
    Failure {
        status: StatusCode::BAD_REQUEST,
        ..Failure::new(Kind::Guarded(Guard::Schema), text)
    }
}

/// Charges the tree of a body, and what is copied of it for a moment: a text while it is read, a name while it is
/// checked, and the body if it is repaired.
pub(in crate::ext) fn charge(body: &Bytes) -> Result<Charge, Full> {
    let mut charge = json::charge(body)?;
    charge.join(json::charge_bytes(2 * body.len())?);
    Ok(charge)
}

/// Parses a body that must be a single JSON value. As in KrakenD, invalid UTF-8 counts as U+FFFD, and so does half of
/// a surrogate pair.
pub(in crate::ext) fn read(body: &Bytes) -> Result<Value, Cow<'static, str>> {
    let text = String::from_utf8_lossy(body);
    let parsed = serde_json::from_str(&text).or_else(|error| match paired(&text) {
        Some(text) => serde_json::from_str(&text),
        None => Err(error),
    });
    parsed.map_err(|error| match json::parse(body, Depth::TopLevel) {
        Err(said) => said.to_string().into(),
        Ok(_) if error.is_syntax() && error.to_string().starts_with("trailing characters") => {
            "invalid character after top-level value".into()
        }
        // The nesting is too deep, or a number is out of range.
        Ok(_) => error.to_string().into(),
    })
}

/// The same text with `\ufffd` in place of each unpaired half of a surrogate pair. `None` if there is none.
fn paired(text: &str) -> Option<String> {
    let mut out = String::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        at += match escaped(text, at) {
            None => 2,
            Some(0xd800..=0xdbff) if matches!(escaped(text, at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                out.push_str(text.get(copied..at)?);
                out.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            Some(_) => 6,
        };
    }
    out.push_str(text.get(copied..)?);
    (copied > 0).then_some(out)
}

/// The code unit of a `\uXXXX` at `at`.
fn escaped(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten()
}

#[async_trait]
impl PipeStep for BodyCheck {
    fn needs_body(&self) -> bool {
        true
    }

    fn parses_body(&self) -> bool {
        true
    }

    async fn before(&self, request: &mut PipeRequest) -> Result<Passed, Failure> {
        self.check(&request.body, request.deadline.into_std())?;
        Ok(Passed::default())
    }
}
