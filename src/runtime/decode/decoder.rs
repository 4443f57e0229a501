//! The input encodings by name.

use bytes::Bytes;

use crate::runtime::decode::{feed, xml, yaml};
use crate::runtime::failure::{self, Failure};
use crate::runtime::heavy;
use crate::runtime::json::{self, Depth, Growth, Object, Value};
use crate::upstream::budget::{Charge, Full};

/// How the body of a backend is decoded: `encoding` and `is_collection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoder {
    pub encoding: Kind,
    pub is_collection: bool,
}

/// The encodings of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Json,
    /// JSON of any type.
    SafeJson,
    String,
    Xml,
    Rss,
    Yaml,
    NoOp,
}

impl Kind {
    /// Parses the name in any letter case, except `no-op`. As in KrakenD, an unknown name means JSON.
    pub fn parse(name: &str) -> Kind {
        match name.to_ascii_lowercase().as_str() {
            "safejson" => Kind::SafeJson,
            "string" => Kind::String,
            "xml" => Kind::Xml,
            "rss" => Kind::Rss,
            "yaml" => Kind::Yaml,
            "no-op" if name == "no-op" => Kind::NoOp,
            _ => Kind::Json,
        }
    }
}

impl Decoder {
    /// Decodes a body, whatever its `Content-Type`. The result is an object, or null if the JSON was null, and the
    /// charge for its memory, which is to be kept as long as the data.
    ///
    /// # Errors
    /// The body does not match the encoding: the text is KrakenD's. Or there is no memory for the result.
    pub fn decode(&self, body: &Bytes, depth: Depth) -> Result<(Value, Charge), Failure> {
        let known = self.charge(body, depth).map_err(|_| Failure::full())?;
        let mut growth = Growth::default();
        let value = self.value(body, depth, &mut growth)?;
        let mut charge = growth.into_charge();
        if let Some(known) = known {
            charge.join(known);
        }
        Ok((value, charge))
    }

    /// The size of the work of decoding `body`, as [`heavy`] counts it: that of the body. A few bytes of YAML with aliases
    /// may repeat others thousands of times, so they count as a large body.
    #[inline]
    pub(crate) fn work(&self, body: &Bytes) -> usize {
        if self.encoding == Kind::Yaml && memchr::memchr(b'*', body).is_some() {
            body.len().max(heavy::LARGE)
        } else {
            body.len()
        }
    }

    fn value(&self, body: &Bytes, depth: Depth, growth: &mut Growth) -> Result<Value, Failure> {
        match self.encoding {
            Kind::Json => self.json(body, depth, growth),
            Kind::SafeJson => safe_json(body, depth, growth),
            Kind::String => Ok(wrapped("content", Value::string(text(body)))),
            Kind::Xml => {
                let data = xml::decode(body).map_err(broken)?;
                Ok(if self.is_collection {
                    wrapped("collection", data)
                } else {
                    data
                })
            }
            Kind::Rss => feed::decode(body, depth, growth).map_err(|error| match error {
                feed::Error::Full(_) => Failure::full(),
                error => broken(error),
            }),
            Kind::Yaml => {
                let (value, charge) = yaml::decode(body).map_err(broken)?;
                growth.adopt(charge);
                self.object(value)
            }
            Kind::NoOp => Ok(Value::Object(Object::new())),
        }
    }

    /// Charges the tree that decoding builds, where its size is known before.
    fn charge(&self, body: &Bytes, depth: Depth) -> Result<Option<Charge>, Full> {
        match self.encoding {
            Kind::Json | Kind::SafeJson if depth == Depth::Full => json::charge(body).map(Some),
            // A feed may be JSON.
            Kind::Rss if body.trim_ascii_start().first() == Some(&b'{') => {
                json::charge(body).map(Some)
            }
            Kind::Xml => json::charge_xml(body).map(Some),
            _ => Ok(None),
        }
    }

    fn json(&self, body: &Bytes, depth: Depth, growth: &mut Growth) -> Result<Value, Failure> {
        self.object(json::parse_within(body, depth, growth).map_err(not_json)?)
    }

    /// An object, or a list if the file says so.
    fn object(&self, value: Value) -> Result<Value, Failure> {
        let found = value.kind();
        let wanted = match (self.is_collection, found) {
            (false, json::Kind::Object | json::Kind::Null) => return Ok(value),
            (true, json::Kind::Array | json::Kind::Null) => {
                return Ok(wrapped("collection", value));
            }
            (false, _) => "map[string]interface {}",
            (true, _) => "[]interface {}",
        };
        Err(broken(json::Error::WrongType {
            found: found.name(),
            wanted,
        }))
    }
}

/// Decodes arbitrary bytes in one encoding, for the fuzz targets and a property test.
#[doc(hidden)]
pub fn decode_anything(encoding: Kind, body: &[u8]) -> Result<Value, Failure> {
    let decoder = Decoder {
        encoding,
        is_collection: false,
    };
    let decoded = decoder.decode(&Bytes::copy_from_slice(body), Depth::Full);
    decoded.map(|(value, _)| value)
}

fn safe_json(body: &Bytes, depth: Depth, growth: &mut Growth) -> Result<Value, Failure> {
    json::parse_within(body, depth, growth)
        .map(as_object)
        .map_err(not_json)
}

/// An object as it is, a list as the member `collection`, and anything else as the member `content`.
pub(crate) fn as_object(value: Value) -> Value {
    match value.kind() {
        json::Kind::Object => value,
        json::Kind::Array => wrapped("collection", value),
        _ => wrapped("content", value),
    }
}

fn wrapped(name: &str, value: Value) -> Value {
    Value::Object(Object::from([(name.into(), value)]))
}

/// The body as text. Each byte that is not UTF-8 becomes one U+FFFD, as in KrakenD.
fn text(body: &Bytes) -> String {
    let mut text = String::with_capacity(body.len());
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    text
}

fn not_json(error: json::Error) -> Failure {
    match error {
        json::Error::Full(_) => Failure::full(),
        error => broken(error),
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(failure::Kind::Decode, error.to_string())
}
