//! What a template sees of a request and a response.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use crate::config::template::Datum;
use crate::runtime::decode::{Decoder, Kind};
use crate::runtime::forward::QueryRules;
use crate::runtime::json::{self, Depth, Value};
use crate::runtime::pipe::{PipeRequest, PipeResponse};
use crate::upstream::title_case;

/// Larger bodies are not decoded for templates.
const MAX_BYTES: usize = 8 << 20;

/// The members for a request.
pub(super) fn request(request: &PipeRequest) -> Vec<(&'static str, Datum)> {
    let params = request.params.0.iter();
    let params = params.map(|(name, value)| (first_upper(name), Datum::text(value)));
    vec![
        ("req_body", body(&request.body, &request.headers)),
        ("req_headers", headers(&request.headers)),
        ("req_querystring", query(request.query.as_deref())),
        ("req_params", Datum::map(params)),
        ("req_path", Datum::text(&*request.path)),
        ("req_method", Datum::text(request.method.as_str())),
    ]
}

/// The members for a response. Status and headers are those of a streamed one.
pub(super) fn response(response: &PipeResponse) -> Vec<(&'static str, Datum)> {
    let mut members = vec![("resp_completed", Datum::bool(response.complete))];
    match &response.reply {
        Some(reply) => {
            let text = reply.body.clone().unwrap_or_default();
            members.push(("resp_body", body(&text, &reply.headers)));
            members.push(("resp_status", Datum::integer(reply.status.as_u16().into())));
            members.push(("resp_headers", headers(&reply.headers)));
        }
        None => members.push(("resp_body", datum(&response.data.expanded()))),
    }
    members
}

/// The bytes that the data may be made of, for limits of memory.
pub(super) fn texts(request: &PipeRequest, response: Option<&PipeResponse>) -> [Bytes; 2] {
    let reply = response.and_then(|response| response.reply.as_ref());
    let reply = reply.and_then(|reply| reply.body.clone());
    [request.body.clone(), reply.unwrap_or_default()]
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

/// A body, decoded as its type says. One that cannot be decoded is a text, and no body is an empty object.
fn body(body: &Bytes, headers: &HeaderMap) -> Datum {
    if body.is_empty() {
        return Datum::map::<&str>([]);
    }
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = String::from_utf8_lossy(kind.unwrap_or_default()).to_ascii_lowercase();
    if body.len() > MAX_BYTES {
        return Datum::text(body);
    }
    if kind.starts_with("application/x-www-form-urlencoded") {
        return form(body);
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
    decoded.map_or_else(|| Datum::text(body), |value| datum(&value))
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
