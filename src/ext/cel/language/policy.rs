//! The functions and macros of policies (`security/policies`): those of KrakenD's Enterprise Edition whose shape is known,
//! the extensions `strings` and `encoders` of cel-go, and a few of ours.

use std::net::IpAddr;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use super::check::{Checked, Checker, Flaw, Places, no_overload};
use super::eval::{Budget, Failed};
use super::policy_strings;
use super::syntax::{Kind, Node};
use super::tree::{Expr, Function, Literal, Policy as P};
use super::types::Type;
use super::value::{List, Map, Value};

type Given<'a> = Result<Value<'a>, Failed>;

/// One signature. The receiver of a member call is its first argument.
struct Signature {
    name: &'static str,
    member: bool,
    function: P,
    takes: &'static [T],
    gives: T,
}

/// A type in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum T {
    Bool,
    Int,
    String,
    Bytes,
    Strings,
    Number,
    Headers,
}

const fn global(name: &'static str, function: P, takes: &'static [T], gives: T) -> Signature {
    Signature {
        name,
        member: false,
        function,
        takes,
        gives,
    }
}

const fn member(name: &'static str, function: P, takes: &'static [T], gives: T) -> Signature {
    Signature {
        member: true,
        ..global(name, function, takes, gives)
    }
}

const TABLE: &[Signature] = &[
    global(
        "between",
        P::Between,
        &[T::Number, T::Number, T::Number],
        T::Bool,
    ),
    member(
        "between",
        P::Between,
        &[T::Number, T::Number, T::Number],
        T::Bool,
    ),
    member(
        "containsCookie",
        P::ContainsCookie,
        &[T::Headers, T::String, T::String],
        T::Bool,
    ),
    global("inCIDR", P::InCidr, &[T::String, T::String], T::Bool),
    member("charAt", P::CharAt, &[T::String, T::Int], T::String),
    member("indexOf", P::IndexOf, &[T::String, T::String], T::Int),
    member(
        "indexOf",
        P::IndexOf,
        &[T::String, T::String, T::Int],
        T::Int,
    ),
    member(
        "lastIndexOf",
        P::LastIndexOf,
        &[T::String, T::String],
        T::Int,
    ),
    member("lowerAscii", P::LowerAscii, &[T::String], T::String),
    member("upperAscii", P::UpperAscii, &[T::String], T::String),
    member(
        "replace",
        P::Replace,
        &[T::String, T::String, T::String],
        T::String,
    ),
    member("split", P::Split, &[T::String, T::String], T::Strings),
    member("substring", P::Substring, &[T::String, T::Int], T::String),
    member(
        "substring",
        P::Substring,
        &[T::String, T::Int, T::Int],
        T::String,
    ),
    member("trim", P::Trim, &[T::String], T::String),
    member("join", P::Join, &[T::Strings], T::String),
    member("join", P::Join, &[T::Strings, T::String], T::String),
    member("reverse", P::Reverse, &[T::String], T::String),
    global("base64.encode", P::EncodeBase64, &[T::Bytes], T::String),
    global("base64.decode", P::DecodeBase64, &[T::String], T::Bytes),
];

/// Macros that read the request by themselves, and whether they read its headers. The others read the query.
const MACROS: [(&str, P, bool, T); 6] = [
    ("hasHeader", P::HasHeader, true, T::Bool),
    ("getHeader", P::GetHeader, true, T::String),
    ("hasCookie", P::HasCookie, true, T::Bool),
    ("getCookie", P::GetCookie, true, T::String),
    ("hasQuerystring", P::HasQuery, false, T::Bool),
    ("getQuerystring", P::GetQuery, false, T::String),
];

/// The names of all functions.
pub(super) fn list(macros: bool) -> String {
    let mut names: Vec<&str> = super::overloads::names()
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric()))
        .chain(TABLE.iter().map(|known| known.name))
        .collect();
    if macros {
        names.extend(MACROS.iter().map(|(name, ..)| *name));
        names.extend(["isEmpty", "clientIP", "geoIP"]);
    }
    names.extend(["has", "all", "exists", "exists_one", "map", "filter"]);
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// Checks a call of one of these functions. `None` if it is none of them. `macros` are the variables that macros read.
pub(super) fn call(
    checker: &mut Checker<'_>,
    name: &str,
    on: Option<&Node>,
    args: &[Node],
    macros: Option<&Places>,
) -> Option<Result<Checked, Flaw>> {
    let mut on = on;
    let mut full = name.to_owned();
    if let Some(Node {
        kind: Kind::Name(space),
        ..
    }) = on
        && space == "base64"
        && !checker.is_variable(space)
    {
        full = format!("{space}.{name}");
        on = None;
    }
    if let (None, Some(places)) = (on, macros)
        && let Some(found) = of_request(checker, &full, args, places)
    {
        return Some(found);
    }
    let mut known = TABLE
        .iter()
        .filter(|known| known.name == full && known.member == on.is_some())
        .peekable();
    known.peek()?;
    Some(listed(checker, &full, on, args, known))
}

fn listed<'k>(
    checker: &mut Checker<'_>,
    name: &str,
    on: Option<&Node>,
    args: &[Node],
    mut known: impl Iterator<Item = &'k Signature>,
) -> Result<Checked, Flaw> {
    let (mut exprs, mut kinds) = (Vec::new(), Vec::new());
    for node in on.into_iter().chain(args) {
        let (expr, kind) = checker.node(node)?;
        exprs.push(expr);
        kinds.push(kind);
    }
    let fits = |known: &&Signature| {
        known.takes.len() == kinds.len()
            && known
                .takes
                .iter()
                .zip(&kinds)
                .all(|(takes, kind)| takes.takes(kind))
    };
    let Some(found) = known.find(fits) else {
        return Err(no_overload(name, on.is_some(), &kinds));
    };
    if found.function == P::InCidr
        && let Some(Expr::Literal(Literal::String(network))) = exprs.get(1)
        && parsed_network(network).is_none()
    {
        return Err(Flaw::new(format!("{network:?} is not a network")));
    }
    // `between(min, max, x)` and `x.between(min, max)` are one function.
    if found.function == P::Between && !found.member {
        exprs.rotate_right(1);
    }
    Ok((applied(found.function, exprs), found.gives.known()))
}

/// `hasHeader('X-A')` and the like, `isEmpty(x)`, `clientIP()`, `geoIP()`.
fn of_request(
    checker: &mut Checker<'_>,
    name: &str,
    args: &[Node],
    places: &Places,
) -> Option<Result<Checked, Flaw>> {
    match (name, args) {
        ("isEmpty", [of]) => Some(
            checker
                .node(of)
                .map(|(of, _)| (Expr::IsEmpty(Box::new(of)), Type::Bool)),
        ),
        ("clientIP", []) => Some(known_now(checker.variable(places.client), name)),
        ("geoIP", []) => {
            let found = known_now(checker.variable(places.geo), name);
            Some(found.map_err(|flaw| Flaw {
                hint: Some(
                    "\"portcullis/geoip\" in the service gives it to policies about requests and responses"
                        .to_owned(),
                ),
                ..flaw
            }))
        }
        _ => {
            let (_, function, of_headers, gives) =
                MACROS.iter().find(|(known, ..)| *known == name)?;
            let place = if *of_headers {
                places.headers
            } else {
                places.query
            };
            Some(looked_up(checker, name, args, (*function, place, *gives)))
        }
    }
}

fn known_now(found: Option<Checked>, name: &str) -> Result<Checked, Flaw> {
    found.ok_or_else(|| Flaw::new(format!("'{name}' is not known here")))
}

fn looked_up(
    checker: &mut Checker<'_>,
    name: &str,
    args: &[Node],
    (function, place, gives): (P, usize, T),
) -> Result<Checked, Flaw> {
    let [arg] = args else {
        return Err(Flaw::new(format!("'{name}' takes one name")));
    };
    let (arg, kind) = checker.node(arg)?;
    if !T::String.takes(&kind) {
        return Err(no_overload(name, false, &[kind]));
    }
    let (map, _) = known_now(checker.variable(place), name)?;
    Ok((applied(function, vec![map, arg]), gives.known()))
}

fn applied(function: P, args: Vec<Expr>) -> Expr {
    Expr::Call {
        function: Function::Policy(function),
        args: args.into(),
    }
}

impl T {
    fn takes(self, kind: &Type) -> bool {
        match (self, kind) {
            (_, Type::Dyn) => true,
            (T::Number, Type::Int | Type::Uint | Type::Double) => true,
            (T::Strings, Type::List(of)) => matches!(**of, Type::String | Type::Dyn),
            (T::Headers, Type::Map(..)) => true,
            (this, kind) => this.known() == *kind,
        }
    }

    fn known(self) -> Type {
        match self {
            T::Number | T::Headers => Type::Dyn,
            T::Bool => Type::Bool,
            T::Int => Type::Int,
            T::String => Type::String,
            T::Bytes => Type::Bytes,
            T::Strings => Type::list(Type::String),
        }
    }
}

/// Whether a value has nothing in it: empty text, an empty list or map, or null.
pub(super) fn is_empty(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.as_str().is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.count() == 0,
        Value::Map(map) => map.count() == 0,
        _ => false,
    }
}

/// Applies a function. Types are checked again, because a dynamic value may have any type.
pub(super) fn apply<'a>(function: P, args: &[Value<'a>], budget: &Budget) -> Given<'a> {
    for arg in args {
        if let Value::String(text) = arg {
            budget.spend_bytes(text.len())?;
        }
    }
    match (function, args) {
        (P::Between, [x, least, most]) => {
            let low = x.order(least, budget)?.is_ge();
            Ok(Value::Bool(low && x.order(most, budget)?.is_le()))
        }
        (
            P::HasHeader | P::GetHeader | P::HasCookie | P::GetCookie | P::HasQuery | P::GetQuery,
            [Value::Map(map), Value::String(name)],
        ) => look_up(function, map, name.as_str(), budget),
        (
            P::ContainsCookie,
            [
                Value::Map(headers),
                Value::String(name),
                Value::String(value),
            ],
        ) => {
            let cookies = cookies(headers, name.as_str(), budget)?;
            Ok(Value::Bool(
                cookies.iter().any(|known| known == value.as_str()),
            ))
        }
        (P::InCidr, [Value::String(address), Value::String(network)]) => {
            in_network(address.as_str(), network.as_str())
        }
        (P::Join, [Value::List(list)]) => join(list, "", budget),
        (P::Join, [Value::List(list), Value::String(between)]) => {
            join(list, between.as_str(), budget)
        }
        (P::EncodeBase64, [Value::Bytes(bytes)]) => {
            budget.spend_bytes(bytes.len())?;
            let length = bytes.len().div_ceil(3) * 4;
            budget.text(length, || STANDARD.encode(bytes))
        }
        (P::DecodeBase64, [Value::String(text)]) => decoded(text.as_str(), budget),
        (function, [Value::String(text), rest @ ..]) => {
            policy_strings::of_text(function, text, rest, budget)
        }
        _ => Err(Failed::NO_OVERLOAD),
    }
}

fn look_up<'a>(function: P, map: &Map<'a>, name: &str, budget: &Budget) -> Given<'a> {
    let first = |values: Option<Value<'a>>| match values {
        Some(Value::List(list)) => list.get(0),
        other => other,
    };
    let found = match function {
        P::HasHeader | P::GetHeader => {
            budget.make_text(name.len())?;
            first(map.named(&crate::ext::cel::usual(name), budget)?)
        }
        P::HasCookie | P::GetCookie => cookies(map, name, budget)?
            .into_iter()
            .next()
            .map(Value::made),
        _ => first(map.named(name, budget)?),
    };
    match function {
        P::HasHeader | P::HasCookie | P::HasQuery => Ok(Value::Bool(found.is_some())),
        _ => found.ok_or_else(|| Failed::no_such_key(name)),
    }
}

/// The place of a text in a list that grows.
const GROWING: usize = 3 * size_of::<String>();

/// The values of the cookies with this name, in order (RFC 6265 §5.4).
fn cookies(headers: &Map<'_>, name: &str, budget: &Budget) -> Result<Vec<String>, Failed> {
    let Some(Value::List(lines)) = headers.named("Cookie", budget)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for line in lines.iter() {
        let Value::String(line) = line else { continue };
        budget.spend_bytes(line.len())?;
        let pairs = line
            .as_str()
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='));
        let values = pairs.filter(|(known, _)| *known == name);
        for (_, value) in values {
            let value = value.trim_matches('"');
            budget.make_text(value.len() + GROWING)?;
            found.push(value.to_owned());
        }
    }
    Ok(found)
}

fn parsed_network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>();
    network
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .ok()
}

fn in_network<'a>(address: &str, network: &str) -> Given<'a> {
    let address: IpAddr = address
        .parse()
        .map_err(|_| Failed::of("inCIDR: the first argument is not an address"))?;
    let network = parsed_network(network)
        .ok_or_else(|| Failed::of("inCIDR: the second argument is not a network"))?;
    Ok(Value::Bool(network.contains(&address.to_canonical())))
}

fn decoded<'a>(text: &str, budget: &Budget) -> Given<'a> {
    budget.make_text(text.len().saturating_mul(2))?;
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| Failed::of("base64.decode: the argument is not base64"))?;
    Ok(Value::Bytes(Rc::from(bytes)))
}

fn join<'a>(list: &List<'_>, between: &str, budget: &Budget) -> Given<'a> {
    let mut length = 0_usize;
    for item in list.iter() {
        let Value::String(item) = item else {
            return Err(Failed::NO_OVERLOAD);
        };
        budget.spend(1)?;
        budget.spend_bytes(item.len() + between.len())?;
        length += item.len() + between.len();
    }
    budget.text(length, || {
        let mut joined = String::with_capacity(length);
        for (index, item) in list.iter().enumerate() {
            if index > 0 {
                joined.push_str(between);
            }
            if let Value::String(item) = item {
                joined.push_str(item.as_str());
            }
        }
        joined
    })
}
