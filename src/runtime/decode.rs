//! An upstream's body in, a value out.

use bytes::Bytes;

use crate::runtime::failure::{Failure, Kind as FailureKind};
use crate::runtime::json::{self, Depth, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Json,
    NoOp,
}

#[derive(Debug, Clone)]
pub struct Decoder {
    pub encoding: Kind,
    pub is_collection: bool,
}

impl Decoder {
    pub fn decode(&self, body: &Bytes, depth: Depth) -> Result<Value, Failure> {
        json::parse(body, depth)
            .map_err(|error| Failure::new(FailureKind::Decode, error.to_string()))
    }
}
