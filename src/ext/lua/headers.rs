//! The access of scripts to headers.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use mlua::{Error, Lua, MultiValue, Result, Value};

use super::collections::{List, Table, of_args};
use super::failure::Stop;
use super::library::{need_arguments, text};
use super::run::{Fields, MAX_FIELDS, Run, field_bytes, run_for, text_length, too_many_fields};
use super::tree::{Node, texts_bytes};
use crate::upstream::budget::Charge;
use crate::upstream::title_case;

/// How an object finds its headers.
pub(super) type Pick = fn(&mut Run) -> Result<&mut Fields>;

/// Whether a name must be spelled like `Content-Type` for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    Any,
    Canonical,
}

/// `headers()`, `headers(name)`, `headers(name, value)`. The value `nil` removes the header.
pub(super) fn headers(
    lua: &Lua,
    pick: Pick,
    spelling: Spelling,
    args: &MultiValue,
) -> Result<Value> {
    let mut run = run_for(lua, args)?;
    match (args.front(), args.get(1)) {
        (None, _) => {
            let id = table_of(&mut run, pick)?;
            drop(run);
            Ok(Value::UserData(lua.create_userdata(Table(id))?))
        }
        (Some(name), None) => {
            let name = text(name)?;
            let first = first(&pick(&mut run)?.map, &name, spelling);
            let value = first.cloned();
            let value = value.as_ref().map(HeaderValue::as_bytes);
            let value = value.unwrap_or_default();
            run.fund(lua, value.len()).map_err(Stop::raised)?;
            lua.create_string(value).map(Value::String)
        }
        (Some(name), Some(value)) => {
            let name = named_field(name)?;
            let others = pick(&mut run)?.changed.len();
            let charge = charge(&mut run, &name, text_length(value), others)?;
            let value = match value {
                Value::Nil => None,
                value => Some(field_value(text(value)?, charge)?),
            };
            pick(&mut run)?.set(name, value)?;
            Ok(Value::Nil)
        }
    }
}

/// `headerList(name)`, `headerList(name, list)`.
pub(super) fn header_list(
    lua: &Lua,
    pick: Pick,
    spelling: Spelling,
    args: &MultiValue,
) -> Result<Value> {
    let mut run = run_for(lua, args)?;
    let name = text(args.front().ok_or_else(need_arguments)?)?;
    let Some(list) = args.get(1) else {
        let (count, bytes) = sizes(&pick(&mut run)?.map, &name, spelling);
        run.spend(texts_bytes(count, bytes))?;
        let values = values(&pick(&mut run)?.map, &name, spelling);
        let id = run.tree.texts(values).map_err(Error::external)?;
        drop(run);
        return Ok(Value::UserData(lua.create_userdata(List::of(id))?));
    };
    let name = field_name(&name)?;
    let others = pick(&mut run)?.changed.len();
    drop(charge(&mut run, &name, 0, others)?);
    let mut values = Vec::new();
    match list {
        Value::Nil => {}
        Value::Table(table) => {
            for value in table.sequence_values::<Value>() {
                let value = value?;
                let lines = others + few(&values)?;
                let charge = charge(&mut run, &name, text_length(&value), lines)?;
                values.push(field_value(text(&value)?, charge)?);
            }
        }
        other => {
            let texts = run.tree.item_texts(of_args::<List>(other)?.id());
            for value in texts.map_err(Error::external)? {
                let lines = others + few(&values)?;
                let charge = charge(&mut run, &name, value.len(), lines)?;
                let value = value.into_string().into_bytes();
                values.push(field_value(value.into(), charge)?);
            }
        }
    }
    pick(&mut run)?.set(name, values)?;
    Ok(Value::Nil)
}

/// The number of lines, to which one is to be added.
fn few(lines: &[HeaderValue]) -> Result<usize> {
    if lines.len() >= MAX_FIELDS {
        return Err(too_many_fields());
    }
    Ok(lines.len())
}

/// A value that is longer holds its own charge, which lasts as long as its last copy: in the call to a backend, or in
/// the response.
const LONG: usize = 1 << 10;
/// From this number of headers on, each of them does.
const MANY: usize = 32;

/// Charges a header of `length` bytes before it is made. There are `others` already.
pub(super) fn charge(
    run: &mut Run,
    name: &HeaderName,
    length: usize,
    others: usize,
) -> Result<Charge> {
    let bytes = field_bytes(name, length);
    let mut charge = Charge::default();
    if length <= LONG && others < MANY {
        run.spend(bytes)?;
    } else {
        run.tree.count(bytes).map_err(Error::external)?;
        charge.cover(bytes).map_err(Error::external)?;
    }
    Ok(charge)
}

/// All headers: a table of lists, as a copy.
fn table_of(run: &mut Run, pick: Pick) -> Result<super::tree::Id> {
    let map = &pick(run)?.map;
    // A list for each name, and what refers to both before they are in the table. Each invalid byte becomes three.
    let names = map
        .keys()
        .map(|name| texts_bytes(1, 2 * name.as_str().len()));
    let values = map.values().map(|value| texts_bytes(1, 3 * value.len()));
    let bytes = names.chain(values).sum();
    run.spend(bytes)?;
    let fields = &pick(run)?.map;
    let all: Vec<(String, Vec<Box<str>>)> = fields
        .keys()
        .map(|name| {
            let values = fields.get_all(name).iter().map(lossy).collect();
            (title_case(name.as_str()), values)
        })
        .collect();
    let tree = &mut run.tree;
    let id = tree.object().map_err(Error::external)?;
    for (name, values) in all {
        let list = tree.texts(values).map_err(Error::external)?;
        tree.set_member(id, &name, Node::List(list))
            .map_err(Error::external)?;
    }
    Ok(id)
}

/// The first value of the header `name`.
pub(super) fn first<'h>(
    map: &'h HeaderMap,
    name: &[u8],
    spelling: Spelling,
) -> Option<&'h HeaderValue> {
    map.get(found(name, spelling)?)
}

/// All values of the header `name`.
pub(super) fn values(map: &HeaderMap, name: &[u8], spelling: Spelling) -> Vec<Box<str>> {
    match found(name, spelling) {
        Some(name) => map.get_all(name).iter().map(lossy).collect(),
        None => Vec::new(),
    }
}

/// The number of those values, and their bytes.
pub(super) fn sizes(map: &HeaderMap, name: &[u8], spelling: Spelling) -> (usize, usize) {
    let found = found(name, spelling);
    let values = found.iter().flat_map(|name| map.get_all(name));
    values.fold((0, 0), |(count, bytes), value| {
        // Each invalid byte becomes three.
        (count + 1, bytes + 3 * value.len())
    })
}

fn found(name: &[u8], spelling: Spelling) -> Option<HeaderName> {
    let known = HeaderName::from_bytes(name).ok()?;
    let exact = spelling == Spelling::Any || title_case(known.as_str()).as_bytes() == name;
    exact.then_some(known)
}

fn lossy(value: &HeaderValue) -> Box<str> {
    String::from_utf8_lossy(value.as_bytes()).into()
}

/// A valid header name.
fn field_name(name: &[u8]) -> Result<HeaderName> {
    HeaderName::from_bytes(name).map_err(|_| bad_name())
}

fn bad_name() -> Error {
    Error::runtime("invalid header field name")
}

/// The longest name, as for the `http` crate.
const MAX_NAME: usize = 64 << 10;

/// The header name in an argument.
pub(super) fn named_field(name: &Value) -> Result<HeaderName> {
    if text_length(name) > MAX_NAME {
        return Err(bad_name());
    }
    field_name(&text(name)?)
}

/// A valid header value, which contains no line break, and its charge.
pub(super) fn field_value(value: Cow<'_, [u8]>, charge: Charge) -> Result<HeaderValue> {
    let value = HeaderValue::from_maybe_shared(charge.hold(Bytes::from(value.into_owned())));
    let mut value = value.map_err(|_| Error::runtime("invalid header field value"))?;
    // The target of a redirect must not see it.
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_headers_hold_is_charged() {
        let (mut run, mut map, mut held) = (Run::default(), HeaderMap::new(), 0);
        for index in 0..1000 {
            let name = field_name(format!("x-name-{index}").as_bytes()).unwrap();
            held += charge(&mut run, &name, 100, 0).unwrap().bytes() + field_bytes(&name, 100);
            map.insert(&name, HeaderValue::from_bytes(&[b'v'; 100]).unwrap());
            // An entry has a name, a value, a hash and links. While the map grows it has its old entries, too, and its
            // copy for a call has as many.
            let entry = size_of::<HeaderName>() + size_of::<HeaderValue>() + 32 + 8;
            let texts = 2 * 16 + 112;
            let real = (index + 1) * texts + map.capacity() * entry * 5 / 2;
            // The map of a request has room for a few.
            assert!(index < 4 || held >= real, "{index}: {held} {real}");
        }
        assert!(held < 8 * map.capacity() * 104);
    }

    #[test]
    fn a_long_value_holds_its_charge_as_long_as_it_exists() {
        let (mut run, name) = (Run::default(), HeaderName::from_static("x-a"));
        let long = charge(&mut run, &name, 5000, 0).unwrap();
        assert!(long.bytes() >= 5000);
        let value = field_value(vec![b'x'; 5000].into(), long).unwrap();
        assert!(value.is_sensitive() && value.len() == 5000);
        assert_eq!(charge(&mut run, &name, 500, 0).unwrap().bytes(), 0);
        assert!(charge(&mut run, &name, 500, MANY).unwrap().bytes() > 500);
        // The limit of the request counts them all.
        assert!(charge(&mut run, &name, 64 << 20, 0).is_err());
    }
}
