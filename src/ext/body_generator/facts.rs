//! What a template sees of a request and a response.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use crate::config::template::Datum;
use crate::runtime::decode::{Decoder, Kind};
use crate::runtime::failure::Failure;
use crate::runtime::forward::QueryRules;
use crate::runtime::json::{self, Depth, Value};
use crate::runtime::pipe::{PipeRequest, PipeResponse};
use crate::upstream::budget::{Charge, Full};
use crate::upstream::title_case;

/// Larger bodies are not decoded for templates.
const MAX_BYTES: usize = 8 << 20;

/// The members, and their charge.
#[derive(Debug, Default)]
pub(super) struct Facts {
    members: Vec<(&'static str, Datum)>,
    /// For what exists only while members are made.
    building: Charge,
    /// For the members.
    held: Charge,
}

/// A pair of a form or a query: its name and its value in lists and maps that grow.
const PAIR: usize = 256;

impl Facts {
    pub(super) fn add(&mut self, name: &'static str, value: Datum) {
        self.members.push((name, value));
    }

    pub(super) fn done(self) -> (Vec<(&'static str, Datum)>, Charge) {
        (self.members, self.held)
    }

    /// Adds the members for a request.
    ///
    /// # Errors
    /// The process holds too much already.
    pub(super) fn request(&mut self, request: &PipeRequest) -> Result<(), Failure> {
        let params = request.params.0.iter();
        let params = params.map(|(name, value)| (first_upper(name), Datum::text(value)));
        let body = self.body(&request.body, &request.headers)?;
        self.pairs(request.query.as_deref().unwrap_or_default().as_bytes())?;
        self.members.extend([
            ("req_body", body),
            ("req_headers", headers(&request.headers)),
            ("req_querystring", query(request.query.as_deref())),
            ("req_params", Datum::map(params)),
            ("req_path", Datum::text(&*request.path)),
            ("req_method", Datum::text(request.method.as_str())),
        ]);
        Ok(())
    }

    /// Adds the members for a response. Status and headers are those of a streamed one.
    ///
    /// # Errors
    /// The process holds too much already.
    pub(super) fn response(&mut self, response: &PipeResponse) -> Result<(), Failure> {
        self.add("resp_completed", Datum::bool(response.complete));
        match &response.reply {
            Some(reply) => {
                let text = reply.body.clone().unwrap_or_default();
                let body = self.body(&text, &reply.headers)?;
                self.members.extend([
                    ("resp_body", body),
                    ("resp_status", Datum::integer(reply.status.as_u16().into())),
                    ("resp_headers", headers(&reply.headers)),
                ]);
            }
            None => {
                let charge = || response.data.charge_expanded();
                self.charge(charge)?;
                self.add("resp_body", datum(&response.data.expanded()));
            }
        }
        Ok(())
    }

    /// Charges a tree twice: as it is read, and as the template sees it.
    fn charge(&mut self, charge: impl Fn() -> Result<Charge, Full>) -> Result<(), Failure> {
        self.building
            .join(charge().map_err(|Full| Failure::full())?);
        self.held.join(charge().map_err(|Full| Failure::full())?);
        Ok(())
    }

    /// Charges pairs that are about to be read.
    fn pairs(&mut self, text: &[u8]) -> Result<(), Failure> {
        let count = memchr::memchr_iter(b'&', text).count();
        let charge = json::charge_bytes(PAIR * count + 2 * text.len());
        self.held.join(charge.map_err(|Full| Failure::full())?);
        Ok(())
    }

    /// A body, decoded as its type says. One that cannot be decoded is a text, and no body is an empty object.
    fn body(&mut self, body: &Bytes, headers: &HeaderMap) -> Result<Datum, Failure> {
        if body.is_empty() {
            return Ok(Datum::map::<&str>([]));
        }
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let kind = String::from_utf8_lossy(kind.unwrap_or_default()).to_ascii_lowercase();
        if body.len() > MAX_BYTES {
            self.charge(|| json::charge_bytes(body.len()))?;
            return Ok(Datum::text(body));
        }
        if kind.starts_with("application/x-www-form-urlencoded") {
            self.pairs(body)?;
            return Ok(form(body));
        }
        if kind.contains("xml") {
            self.charge(|| json::charge_xml(body))?;
        } else {
            self.charge(|| json::charge(body))?;
        }
        let decoded = if kind.contains("xml") {
            let decoder = Decoder {
                encoding: Kind::Xml,
                is_collection: false,
            };
            let decoded = decoder.decode(body, Depth::Full);
            decoded.ok().map(|(value, _charge)| value)
        } else {
            json::parse(body, Depth::Full).ok()
        };
        Ok(decoded.map_or_else(|| Datum::text(body), |value| datum(&value)))
    }
}

/// The size of the bodies that members are made of.
pub(super) fn size(request: &PipeRequest, response: Option<&PipeResponse>) -> usize {
    let reply = response.and_then(|response| response.reply.as_ref());
    let reply = reply.and_then(|reply| reply.body.as_ref());
    request.body.len() + reply.map_or(0, Bytes::len)
}

/// A JSON value. Slices are expanded.
pub(super) fn datum(value: &Value) -> Datum {
    match value {
        Value::Null => Datum::null(),
        Value::Bool(value) => Datum::bool(*value),
        Value::Number(text) => Datum::number(text),
        Value::String(text) => Datum::text(&**text),
        Value::Array(items) => Datum::list(items.iter().map(datum)),
        Value::Object(members) => {
            let members = members.iter();
            Datum::map(members.map(|(name, value)| (&**name, datum(value))))
        }
        Value::Raw(_) => datum(&value.expanded()),
    }
}

/// A name that is there once has a text, another one a list.
fn form(body: &Bytes) -> Datum {
    let mut fields: BTreeMap<Cow<'_, str>, Vec<Datum>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        fields.entry(name).or_default().push(Datum::text(&*value));
    }
    Datum::map(fields.into_iter().map(|(name, mut values)| {
        let value = match values.len() {
            1 => values.remove(0),
            _ => Datum::list(values),
        };
        (name.into_owned(), value)
    }))
}

/// Lists of values under names as Go spells them.
fn headers(headers: &HeaderMap) -> Datum {
    Datum::map(headers.keys().map(|name| {
        let values = headers.get_all(name).iter();
        let values = Datum::list(values.map(|value| Datum::text(value.as_bytes())));
        (title_case(name.as_str()), values)
    }))
}

fn query(query: Option<&str>) -> Datum {
    let mut names: BTreeMap<Vec<u8>, Vec<Datum>> = BTreeMap::new();
    for pair in &QueryRules::All.pairs(query, None) {
        let values = names.entry(pair.name.to_vec()).or_default();
        values.push(Datum::text(&pair.value));
    }
    let names = names.into_iter();
    Datum::map(names.map(|(name, values)| (name, Datum::list(values))))
}

/// `id` is `Id`, as in KrakenD.
fn first_upper(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
