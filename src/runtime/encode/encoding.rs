//! The output encodings by name.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderValue;

use crate::runtime::decode::Kind;
use crate::runtime::encode::document::Document;
use crate::runtime::encode::negotiate;
use crate::runtime::json::{self, Object, Style, Value};
use crate::upstream::budget::{Charge, Full};

/// How an endpoint encodes its response: `output_encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Json,
    /// The array under `collection`.
    JsonCollection,
    /// The text under `content`.
    String,
    Xml,
    Yaml,
    /// Selected by the client's `Accept`.
    Negotiate,
    /// The response of the only backend, streamed. Nothing is encoded here.
    NoOp,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const XML: HeaderValue = HeaderValue::from_static("application/xml");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml; charset=utf-8");

impl Encoding {
    /// Parses the name, which is case-sensitive. An empty name means the default.
    ///
    /// As in KrakenD, an unknown name means the encoding of the backend, if there is exactly one (`single_backend`)
    /// and its encoding is also an output encoding, and otherwise JSON. Unlike in KrakenD, `fast-json` is always
    /// JSON.
    pub fn parse(name: &str, single_backend: Option<Kind>) -> Encoding {
        match name {
            "" | "json" | "fast-json" => Encoding::Json,
            "json-collection" => Encoding::JsonCollection,
            "string" => Encoding::String,
            "xml" => Encoding::Xml,
            "yaml" => Encoding::Yaml,
            "negotiate" => Encoding::Negotiate,
            "no-op" => Encoding::NoOp,
            _ => match single_backend {
                Some(Kind::String) => Encoding::String,
                Some(Kind::Xml) => Encoding::Xml,
                Some(Kind::NoOp) => Encoding::NoOp,
                _ => Encoding::Json,
            },
        }
    }

    /// Charges the copy without slices that encoding makes of `data`, while it is encoded.
    ///
    /// # Errors
    /// The process holds too much already.
    pub fn charge(
        self,
        data: &Value,
        accept: Option<&str>,
        canonical: bool,
    ) -> Result<Option<Charge>, Full> {
        match self {
            Encoding::NoOp | Encoding::String => Ok(None),
            Encoding::Negotiate => {
                negotiate::choose(accept.unwrap_or_default()).charge(data, None, canonical)
            }
            Encoding::Json | Encoding::JsonCollection if !canonical => Ok(None),
            _ => data.charge_expanded().map(Some),
        }
    }

    /// The `Content-Type` and the body for `data`, which is charged. `None` is the null that a backend may return.
    ///
    /// # Errors
    /// The process holds too much already.
    pub fn encode(
        self,
        data: Option<&Value>,
        accept: Option<&str>,
        canonical: bool,
    ) -> Result<(HeaderValue, Bytes), Full> {
        let data = data.unwrap_or(&Value::Null);
        let style = Style::canonical(canonical);
        Ok(match self {
            Encoding::Json => (JSON, Document::Json(data, style).text()?),
            Encoding::JsonCollection => (JSON, collection(data, style)?),
            Encoding::String => (TEXT, content(data)?),
            Encoding::Xml => (XML, Document::Xml(&tree(data)).text()?),
            Encoding::Yaml => (YAML, Document::Yaml(&tree(data)).text()?),
            Encoding::Negotiate => {
                let chosen = negotiate::choose(accept.unwrap_or_default());
                return chosen.encode(Some(data), None, canonical);
            }
            // The server streams such a response, so there is no data to encode.
            Encoding::NoOp => (TEXT, Bytes::new()),
        })
    }
}

fn collection(data: &Value, style: Style) -> Result<Bytes, Full> {
    match member(data, "collection") {
        Some(collection) => Document::Json(&collection, style).text(),
        None => Ok(Bytes::from_static(b"[]")),
    }
}

fn content(data: &Value) -> Result<Bytes, Full> {
    let Some(content) = member(data, "content") else {
        return Ok(Bytes::new());
    };
    let charge = json::charge_bytes(content.weight())?;
    Ok(match content.expanded() {
        Value::String(text) => charge.hold(Bytes::from(String::from(text))),
        _ => Bytes::new(),
    })
}

fn member<'d>(data: &'d Value, name: &str) -> Option<Cow<'d, Value>> {
    match data {
        Value::Object(object) => object.get(name).map(Cow::Borrowed),
        Value::Raw(_) => data
            .clone()
            .as_object_mut()
            .and_then(|object| object.remove(name))
            .map(Cow::Owned),
        _ => None,
    }
}

/// The data without slices. Any value except an object counts as an empty object.
fn tree(data: &Value) -> Object {
    match data.expanded() {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
