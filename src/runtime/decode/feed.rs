//! RSS.
use crate::runtime::json::Value;
use bytes::Bytes;
pub(super) fn decode(_: &Bytes) -> Result<Value, super::xml::Error> {
    Err(super::xml::Error::Empty)
}
