//! A value in, a client's body out.

use bytes::Bytes;
use http::HeaderValue;

use crate::runtime::decode::Kind;
use crate::runtime::json::{self, Style, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Json,
}

impl Encoding {
    pub fn encode(
        &self,
        data: Option<&Value>,
        _accept: Option<&str>,
        canonical: bool,
        _single_backend: Option<Kind>,
    ) -> (HeaderValue, Bytes) {
        (
            HeaderValue::from_static("application/json; charset=utf-8"),
            json::to_bytes(data.unwrap_or(&Value::Null), Style::canonical(canonical)),
        )
    }
}
