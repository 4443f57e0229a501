//! The variables: the view of an expression on a request, its response and its token. Each is created when it is
//! read.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;

use super::language::{
    Budget, Elements, Facts, Failed, List, Map, Members, Type, Value, Variable, rfc3339,
};
use crate::ext::geoip::Locator;
use crate::jose::Claims;
use crate::runtime::forward::QueryRules;
use crate::runtime::json::{self, Growth};
use crate::runtime::pipe::{PipeRequest, PipeResponse};
use crate::runtime::request::Params;
use crate::runtime::template::escape;
use crate::upstream::budget::{Charge, Full};

/// The indexes of the variables in [`variables`].
pub(super) const NOW: usize = 0;
pub(super) const REQUEST: std::ops::Range<usize> = 1..6;
pub(super) const REQ_PARAMS: usize = 3;
pub(super) const REQ_HEADERS: usize = 4;
pub(super) const REQ_QUERY: usize = 5;
pub(super) const RESPONSE: std::ops::Range<usize> = 6..10;
pub(super) const RESP_DATA: usize = 9;
pub(super) const JWT: usize = 10;
/// Only in policies, for `clientIP()` and `geoIP()`.
pub(super) const CLIENT: usize = 11;
pub(super) const GEO: usize = 12;

/// Every variable that an expression may use, at any place.
pub(super) fn variables() -> [Variable; 11] {
    let texts = || Type::map(Type::list(Type::String));
    let of = |name, kind| Variable { name, kind };
    [
        of("now", Type::String),
        of("req_method", Type::String),
        of("req_path", Type::String),
        of("req_params", Type::map(Type::String)),
        of("req_headers", texts()),
        of("req_querystring", texts()),
        of("resp_completed", Type::Bool),
        of("resp_metadata_status", Type::Int),
        of("resp_metadata_headers", texts()),
        of("resp_data", Type::map(Type::Dyn)),
        of("JWT", Type::map(Type::Dyn)),
    ]
}

/// The data available at one moment.
#[derive(Debug)]
pub(super) struct Moment<'a> {
    /// Time since the Unix epoch.
    pub(super) now: Duration,
    pub(super) part: Part<'a>,
}

/// The subject of a moment.
#[derive(Debug)]
pub(super) enum Part<'a> {
    Request(Request<'a>),
    Response(Response<'a>),
    Token(&'a Claims),
}

#[derive(Debug)]
pub(super) struct Request<'a> {
    inner: &'a PipeRequest,
    params: Upper<'a>,
    headers: Fields<'a>,
    query: OnceCell<Query>,
}

#[derive(Debug)]
pub(super) struct Response<'a> {
    inner: &'a PipeResponse,
    headers: Option<Fields<'a>>,
}

impl<'a> Request<'a> {
    pub(super) fn new(inner: &'a PipeRequest) -> Request<'a> {
        Request {
            inner,
            params: Upper(&inner.params),
            headers: Fields(&inner.headers),
            query: OnceCell::new(),
        }
    }

    fn variable(&self, index: usize, budget: &Budget) -> Result<Option<Value<'_>>, Failed> {
        Ok(Some(match index {
            1 => Value::text(self.inner.method.as_str()),
            2 => decoded(&self.inner.path, budget)?,
            3 => Value::Map(Map::Foreign(&self.params)),
            4 => Value::Map(Map::Foreign(&self.headers)),
            5 => {
                if self.query.get().is_none() {
                    let query = Query::read(self.inner.query.as_deref());
                    // It is not there yet.
                    let _ = self.query.set(query.map_err(|full| budget.stop(full))?);
                }
                match self.query.get() {
                    Some(query) => Value::Map(Map::Foreign(query)),
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        }))
    }
}

impl<'a> Response<'a> {
    pub(super) fn new(inner: &'a PipeResponse) -> Response<'a> {
        Response {
            inner,
            headers: inner.reply.as_ref().map(|reply| Fields(&reply.headers)),
        }
    }

    fn variable(&self, index: usize) -> Option<Value<'_>> {
        Some(match index {
            6 => Value::Bool(self.inner.complete),
            7 => {
                let reply = self.inner.reply.as_ref();
                Value::Int(reply.map_or(0, |reply| reply.status.as_u16().into()))
            }
            8 => match &self.headers {
                Some(headers) => Value::Map(Map::Foreign(headers)),
                None => nothing(),
            },
            RESP_DATA => match &self.inner.data {
                json::Value::Object(members) => Value::Map(Map::Foreign(members)),
                _ => nothing(),
            },
            _ => return None,
        })
    }
}

fn nothing<'a>() -> Value<'a> {
    Value::Map(Map::Made([].into()))
}

/// A path without its percent-encoding, as the router compares it.
fn decoded<'p>(path: &'p str, budget: &Budget) -> Result<Value<'p>, Failed> {
    if !path.contains('%') {
        return Ok(Value::text(path));
    }
    budget.text(LOSSY * path.len(), || {
        percent_decode_str(path).decode_utf8_lossy()
    })
}

/// A byte that is not UTF-8 becomes a character of three bytes.
const LOSSY: usize = 3;

impl Facts for Moment<'_> {
    fn variable(&self, index: usize, budget: &Budget) -> Result<Option<Value<'_>>, Failed> {
        Ok(match (index, &self.part) {
            (NOW, _) => Some(Value::made(rfc3339(self.now))),
            (JWT, Part::Token(claims)) => Some(Value::Map(Map::Foreign(claims.map()))),
            (_, Part::Request(request)) => request.variable(index, budget)?,
            (_, Part::Response(response)) => response.variable(index),
            _ => None,
        })
    }

    fn name(&self, index: usize) -> &'static str {
        let all = variables();
        all.get(index).map_or("", |variable| variable.name)
    }
}

/// What a policy sees: everything that is known at its moment.
#[derive(Debug)]
pub(crate) struct PolicyFacts<'a> {
    now: Duration,
    request: Option<Request<'a>>,
    response: Option<Response<'a>>,
    claims: Option<&'a Claims>,
    client: Option<IpAddr>,
    locator: Option<&'a Locator>,
    /// Within: `None` if the record cannot be read.
    place: OnceCell<Option<serde_json::Map<String, serde_json::Value>>>,
}

impl<'a> PolicyFacts<'a> {
    /// A request, before its work.
    pub(crate) fn request(
        now: Duration,
        request: &'a PipeRequest,
        locator: Option<&'a Locator>,
    ) -> PolicyFacts<'a> {
        PolicyFacts {
            now,
            request: Some(Request::new(request)),
            response: None,
            claims: request.claims.as_deref(),
            client: Some(request.client),
            locator,
            place: OnceCell::new(),
        }
    }

    /// A response, and the request that it is for.
    pub(crate) fn response(
        now: Duration,
        request: &'a PipeRequest,
        response: &'a PipeResponse,
        locator: Option<&'a Locator>,
    ) -> PolicyFacts<'a> {
        PolicyFacts {
            response: Some(Response::new(response)),
            ..PolicyFacts::request(now, request, locator)
        }
    }

    /// A verified token.
    pub(crate) fn token(now: Duration, claims: &'a Claims) -> PolicyFacts<'a> {
        PolicyFacts {
            now,
            request: None,
            response: None,
            claims: Some(claims),
            client: None,
            locator: None,
            place: OnceCell::new(),
        }
    }

    fn place(&self) -> Option<Value<'_>> {
        let (locator, client) = (self.locator?, self.client?);
        let place = self.place.get_or_init(|| locator.members(client).ok());
        Some(Value::Map(Map::Foreign(place.as_ref()?)))
    }

    /// Whether an expression asked for the place of the client, and its record cannot be read.
    pub(crate) fn lacks_place(&self) -> bool {
        matches!(self.place.get(), Some(None))
    }
}

impl Facts for PolicyFacts<'_> {
    fn variable(&self, index: usize, budget: &Budget) -> Result<Option<Value<'_>>, Failed> {
        let (response, client) = (self.response.as_ref(), self.client);
        Ok(match index {
            NOW => Some(Value::made(rfc3339(self.now))),
            JWT => self
                .claims
                .map(|claims| Value::Map(Map::Foreign(claims.map()))),
            CLIENT => client.map(|client| Value::made(client.to_canonical().to_string())),
            GEO => self.place(),
            index if REQUEST.contains(&index) => match &self.request {
                Some(request) => request.variable(index, budget)?,
                None => None,
            },
            index => response.and_then(|response| response.variable(index)),
        })
    }

    fn name(&self, index: usize) -> &'static str {
        let all = variables();
        all.get(index).map_or("", |variable| variable.name)
    }
}

/// Path parameters under names with an upper-case first letter: as in KrakenD, `id` is `Id` here.
#[derive(Debug)]
struct Upper<'a>(&'a Params);

fn upper(name: &str) -> Cow<'_, str> {
    match name.chars().next() {
        Some(first) if first.is_ascii_lowercase() => {
            let mut name = name.to_owned();
            if let Some(first) = name.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            Cow::Owned(name)
        }
        _ => Cow::Borrowed(name),
    }
}

impl Members for Upper<'_> {
    fn count(&self) -> usize {
        self.0.0.len()
    }

    fn get(&self, name: &str, budget: &Budget) -> Result<Option<Value<'_>>, Failed> {
        let mut all = self.0.0.iter();
        let Some((_, value)) = all.find(|(known, _)| upper(known) == name) else {
            return Ok(None);
        };
        Ok(Some(match escape::text(value) {
            Cow::Borrowed(value) => Value::text(value),
            Cow::Owned(value) => budget.text(value.len(), || value)?,
        }))
    }

    fn names(&self, budget: &Budget) -> Result<Vec<Value<'_>>, Failed> {
        let names = self.0.0.iter().map(|(name, _)| name);
        names
            .map(|name| budget.text(name.len(), || upper(name)))
            .collect()
    }
}

/// Headers under their canonical names. As in KrakenD, other spellings are not found.
#[derive(Debug)]
struct Fields<'a>(&'a HeaderMap);

/// Converts `x-user-id` to `X-User-Id`.
pub(in crate::ext) fn usual(name: &str) -> String {
    let mut first = true;
    let letter = |c: char| {
        let written = if first {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        };
        first = c == '-';
        written
    };
    name.chars().map(letter).collect()
}

impl Members for Fields<'_> {
    fn count(&self) -> usize {
        self.0.keys_len()
    }

    fn get(&self, name: &str, budget: &Budget) -> Result<Option<Value<'_>>, Failed> {
        let values = || self.0.get_all(name).iter();
        let count = values().count();
        if count == 0 || usual(name) != name {
            return Ok(None);
        }
        budget.make_places(count)?;
        let values: Result<Vec<_>, Failed> = values().map(|value| field(value, budget)).collect();
        budget.list(count, values?).map(Some)
    }

    fn names(&self, budget: &Budget) -> Result<Vec<Value<'_>>, Failed> {
        let names = self.0.keys().map(|name| name.as_str());
        names
            .map(|name| budget.text(name.len(), || usual(name)))
            .collect()
    }
}

fn field<'v>(value: &'v HeaderValue, budget: &Budget) -> Result<Value<'v>, Failed> {
    match str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Value::text(text)),
        Err(_) => budget.text(LOSSY * value.len(), || {
            String::from_utf8_lossy(value.as_bytes())
        }),
    }
}

/// A parsed query, and what is charged for it.
#[derive(Debug)]
struct Query {
    all: BTreeMap<String, Vec<String>>,
    _held: Charge,
}

/// A parameter of a query with a name of its own: a place in the map, and a list with room for four texts.
const PARAMETER: usize = 320;

impl Query {
    fn read(query: Option<&str>) -> Result<Query, Full> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut growth = Growth::default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for pair in QueryRules::All.pairs(query, None) {
            growth.add(PARAMETER + LOSSY * (pair.name.len() + pair.value.len()))?;
            all.entry(text(&pair.name))
                .or_default()
                .push(text(&pair.value));
        }
        Ok(Query {
            all,
            _held: growth.into_charge(),
        })
    }
}

impl Members for Query {
    fn count(&self) -> usize {
        self.all.len()
    }

    fn get(&self, name: &str, _: &Budget) -> Result<Option<Value<'_>>, Failed> {
        let values = self.all.get(name);
        Ok(values.map(|values| Value::List(List::Foreign(values))))
    }

    fn names(&self, _: &Budget) -> Result<Vec<Value<'_>>, Failed> {
        Ok(self.all.keys().map(|name| Value::text(name)).collect())
    }
}

impl Elements for Vec<String> {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Option<Value<'_>> {
        self.as_slice().get(index).map(|text| Value::text(text))
    }
}

/// Opens the parts of the data that an expression reads and that may still be slices. `held` charges what they take.
///
/// # Errors
/// The process holds too much already.
pub(super) fn open(
    value: &mut json::Value,
    path: &[Box<str>],
    held: &mut Vec<Charge>,
) -> Result<(), Full> {
    if let Some((first, rest)) = path.split_first()
        && value.kind() == json::Kind::Object
    {
        let member = value.as_object_mut().and_then(|all| all.get_mut(first));
        return member.map_or(Ok(()), |member| open(member, rest, held));
    }
    held.push(value.charge_expanded()?);
    expand(value);
    Ok(())
}

fn expand(value: &mut json::Value) {
    match value {
        json::Value::Raw(_) => *value = value.expanded(),
        json::Value::Array(items) => items.iter_mut().for_each(expand),
        json::Value::Object(members) => members.values_mut().for_each(expand),
        _ => {}
    }
}
