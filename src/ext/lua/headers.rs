//! The access of scripts to headers.

use crate::upstream::title_case;
use http::{HeaderMap, HeaderName, HeaderValue};
use mlua::{Error, Lua, MultiValue, Result, Value};

use super::collections::{List, Table, of_args};
use super::library::{need_arguments, text};
use super::run::{Fields, Run, field_bytes, run};
use super::tree::Node;

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
    let mut run = run(lua)?;
    match (args.front(), args.get(1)) {
        (None, _) => {
            let id = table_of(&mut run, pick)?;
            drop(run);
            Ok(Value::UserData(lua.create_userdata(Table(id))?))
        }
        (Some(name), None) => {
            let name = text(name)?;
            let first = first(&pick(&mut run)?.map, &name, spelling);
            let value = first.map(HeaderValue::as_bytes).unwrap_or_default();
            lua.create_string(value).map(Value::String)
        }
        (Some(name), Some(value)) => {
            let name = field_name(&text(name)?)?;
            let value = match value {
                Value::Nil => None,
                value => Some(field_value(&text(value)?)?),
            };
            run.spend(field_bytes(
                &name,
                value.as_ref().map_or(0, HeaderValue::len),
            ))?;
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
    let mut run = run(lua)?;
    let name = text(args.front().ok_or_else(need_arguments)?)?;
    let Some(list) = args.get(1) else {
        let values = values(&pick(&mut run)?.map, &name, spelling);
        let id = run
            .tree
            .texts(values.into_iter())
            .map_err(Error::external)?;
        drop(run);
        return Ok(Value::UserData(lua.create_userdata(List::of(id))?));
    };
    let name = field_name(&name)?;
    run.spend(field_bytes(&name, 0))?;
    let values = match list {
        Value::Nil => Vec::new(),
        Value::Table(table) => table
            .sequence_values::<Value>()
            .map(|value| counted_value(&mut run, &name, &text(&value?)?))
            .collect::<Result<_>>()?,
        other => run
            .tree
            .item_texts(of_args::<List>(other)?.id())
            .map_err(Error::external)?
            .iter()
            .map(|value| counted_value(&mut run, &name, value.as_bytes()))
            .collect::<Result<_>>()?,
    };
    pick(&mut run)?.set(name, values)?;
    Ok(Value::Nil)
}

fn counted_value(run: &mut Run, name: &HeaderName, value: &[u8]) -> Result<HeaderValue> {
    run.spend(field_bytes(name, value.len()))?;
    field_value(value)
}

/// All headers: a table of lists, as a copy.
fn table_of(run: &mut Run, pick: Pick) -> Result<super::tree::Id> {
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
        let list = tree.texts(values.into_iter()).map_err(Error::external)?;
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

fn found(name: &[u8], spelling: Spelling) -> Option<HeaderName> {
    let known = HeaderName::from_bytes(name).ok()?;
    let exact = spelling == Spelling::Any || title_case(known.as_str()).as_bytes() == name;
    exact.then_some(known)
}

fn lossy(value: &HeaderValue) -> Box<str> {
    String::from_utf8_lossy(value.as_bytes()).into()
}

/// A valid header name.
pub(super) fn field_name(name: &[u8]) -> Result<HeaderName> {
    HeaderName::from_bytes(name).map_err(|_| Error::runtime("invalid header field name"))
}

/// A valid header value, which contains no line break.
pub(super) fn field_value(value: &[u8]) -> Result<HeaderValue> {
    let value = HeaderValue::from_bytes(value);
    let mut value = value.map_err(|_| Error::runtime("invalid header field value"))?;
    // The target of a redirect must not see it.
    value.set_sensitive(true);
    Ok(value)
}
