//! `request` and `response`: the access of scripts around an endpoint's work or a call.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Method, StatusCode};
use mlua::{Error, Lua, MultiValue, Result, UserData, UserDataMethods, Value};
use percent_encoding::{percent_decode_str, percent_encode};

use super::client::Client;
use super::collections::{List, Table};
use super::failure::Stop;
use super::headers::{Spelling, header_list, headers};
use super::library::{lossy, text};
use super::run::{Fields, RequestView, ResponseView, Run, run, run_for, text_length};
use super::tree::{Node, Tree};
use crate::runtime::forward::QueryRules;
use crate::runtime::json::{Value as Json, charge_bytes};
use crate::runtime::pipe::PipeRequest;
use crate::runtime::request::Params;
use crate::runtime::template::{self, escape};

/// The result of `request.load()`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request;

/// The result of `response.load()`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Response;

impl UserData for Request {
    fn add_methods<M: UserDataMethods<Request>>(methods: &mut M) {
        methods.add_method("method", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = request(&mut run)?;
            let Some(value) = args.front() else {
                return string(lua, view.request.method.as_str());
            };
            view.request.method = method(value)?;
            Ok(Value::Nil)
        });
        methods.add_method("path", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = request(&mut run)?;
            let Some(value) = args.front() else {
                return match &view.shadow {
                    Some(shadow) => {
                        let path: Vec<u8> = percent_decode_str(&shadow.path).collect();
                        string(lua, path)
                    }
                    None => {
                        let path: Vec<u8> = percent_decode_str(&view.request.path).collect();
                        string(lua, path)
                    }
                };
            };
            match &mut view.shadow {
                Some(shadow) => shadow.path = target(value)?,
                None => {
                    let path = part(value)?;
                    view.request.path = percent_encode(&path, template::escape::DECODED)
                        .to_string()
                        .into();
                }
            }
            Ok(Value::Nil)
        });
        methods.add_method("query", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = request(&mut run)?;
            let bytes = pairs_bytes(match &view.shadow {
                Some(shadow) => shadow.query.as_deref(),
                None => view.request.query.as_deref(),
            });
            let new = args.front().map_or(0, text_length) / 2 * PAIR;
            run.fund(lua, bytes.max(new)).map_err(Stop::raised)?;
            let view = request(&mut run)?;
            let query = match &mut view.shadow {
                Some(shadow) => &mut shadow.query,
                None => &mut view.request.query,
            };
            let Some(value) = args.front() else {
                let pairs = QueryRules::All.pairs(query.as_deref(), None);
                return string(lua, template::query(&pairs).unwrap_or_default().as_bytes());
            };
            let text = url_part(value)?;
            *query = template::query(&QueryRules::All.pairs(Some(&text), None));
            Ok(Value::Nil)
        });
        methods.add_method("url", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = request(&mut run)?;
            let Some(value) = args.front() else {
                return match view.request.origin {
                    Some(_) => string(lua, view.request.url()),
                    None => string(lua, ""),
                };
            };
            set_url(&mut view.request, &target(value)?)?;
            Ok(Value::Nil)
        });
        methods.add_method("params", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let run = &mut *run;
            let view = run.request.as_deref_mut();
            let view = view.ok_or_else(|| not_here("request"))?;
            let params = match &mut view.shadow {
                Some(shadow) => &mut shadow.params,
                None => &mut view.request.params,
            };
            match (args.front(), args.get(1)) {
                (None, _) => params_table(lua, &mut run.tree, params, capitalised),
                (Some(name), None) => {
                    let name = plain(name)?;
                    let found = params
                        .0
                        .iter()
                        .find(|(known, _)| capitalised(known) == name);
                    string(lua, escape::bytes(found.map_or("", |(_, value)| value)))
                }
                (Some(name), Some(value)) => {
                    let bytes = param_bytes(name, value);
                    run.tree.spend(bytes).map_err(Error::external)?;
                    let (name, value) = (url_part(name)?, escape::kept(&part(value)?));
                    set_param(params, |known| capitalised(known) == name, &name, value)?;
                    Ok(Value::Nil)
                }
            }
        });
        methods.add_method("headers", |lua, _, args: MultiValue| {
            headers(lua, request_fields, Spelling::Any, &args)
        });
        methods.add_method("headerList", |lua, _, args: MultiValue| {
            header_list(lua, request_fields, Spelling::Any, &args)
        });
        methods.add_method("body", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = request(&mut run)?;
            let Some(value) = args.front() else {
                let body = view.request.body.clone();
                return run.body(lua, &body);
            };
            view.request.body = bytes(value)?;
            Ok(Value::Nil)
        });
    }
}

impl UserData for Response {
    fn add_methods<M: UserDataMethods<Response>>(methods: &mut M) {
        methods.add_method("isComplete", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = response(&mut run)?;
            let Some(value) = args.front() else {
                return Ok(Value::Boolean(view.complete));
            };
            let Value::Boolean(complete) = value else {
                let kind = value.type_name();
                let text = format!("bad argument #1 to isComplete (boolean expected, got {kind})");
                return Err(Error::runtime(text));
            };
            view.complete = *complete;
            Ok(Value::Nil)
        });
        methods.add_method("statusCode", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = response(&mut run)?;
            let Some(value) = args.front() else {
                let new = view.new_status.map(|status| status.as_u16());
                return Ok(Value::Number(new.unwrap_or(view.status).into()));
            };
            let status = status(value).ok_or_else(|| Error::runtime("invalid status code"))?;
            view.new_status = Some(status);
            Ok(Value::Nil)
        });
        methods.add_method("data", |lua, _, _: MultiValue| {
            let id = response(&mut *run(lua)?)?.data;
            lua.create_userdata(Table(id))
        });
        methods.add_method("headers", |lua, _, args: MultiValue| {
            headers(lua, response_fields, Spelling::Canonical, &args)
        });
        methods.add_method("headerList", |lua, _, args: MultiValue| {
            header_list(lua, response_fields, Spelling::Canonical, &args)
        });
        methods.add_method("body", |lua, _, args: MultiValue| {
            let mut run = run_for(lua, &args)?;
            let view = response(&mut run)?;
            let Some(value) = args.front() else {
                return match view.body.clone() {
                    Some(body) => run.body(lua, &body),
                    None => Err(unread("response")),
                };
            };
            view.body = Some(bytes(value)?);
            view.new_body = true;
            Ok(Value::Nil)
        });
    }
}

fn request(run: &mut Run) -> Result<&mut RequestView> {
    run.request
        .as_deref_mut()
        .ok_or_else(|| not_here("request"))
}

fn response(run: &mut Run) -> Result<&mut ResponseView> {
    run.response
        .as_deref_mut()
        .ok_or_else(|| not_here("response"))
}

fn request_fields(run: &mut Run) -> Result<&mut Fields> {
    request(run).map(|view| &mut view.headers)
}

fn response_fields(run: &mut Run) -> Result<&mut Fields> {
    response(run).map(|view| &mut view.headers)
}

pub(super) fn not_here(name: &str) -> Error {
    Error::runtime(format!("there is no {name} here"))
}

pub(super) fn unread(what: &str) -> Error {
    Error::runtime(format!(
        "the {what}'s body was not read, because the script does not contain the word body"
    ))
}

pub(super) fn string(lua: &Lua, bytes: impl AsRef<[u8]>) -> Result<Value> {
    lua.create_string(bytes).map(Value::String)
}

/// A UTF-8 string. Invalid bytes are replaced.
pub(super) fn plain(value: &Value) -> Result<String> {
    Ok(match value {
        Value::String(text) => lossy(&text.as_bytes()),
        value => lossy(&text(value)?),
    })
}

/// The longest part of a request besides its headers and its body: of the URL, a parameter, or the host.
pub(super) const MAX_PART: usize = 64 << 10;

/// The bytes of such a part.
pub(super) fn part(value: &Value) -> Result<Cow<'static, [u8]>> {
    if text_length(value) > MAX_PART {
        return Err(too_long());
    }
    text(value)
}

/// The error beyond [`MAX_PART`].
pub(super) fn too_long() -> Error {
    Error::runtime("a part of a URL is longer than 64 KiB")
}

/// The same as [`plain`] text.
pub(super) fn url_part(value: &Value) -> Result<String> {
    Ok(String::from_utf8_lossy(&part(value)?).into_owned())
}

/// A pair of a query while it is changed: its place in a list that grows, and its decoded name and value.
pub(super) const PAIR: usize = 256;

/// What the pairs of a query take while it is read or changed.
pub(super) fn pairs_bytes(query: Option<&str>) -> usize {
    let query = query.unwrap_or_default().as_bytes();
    let count = memchr::memchr_iter(b'&', query).count() + 1;
    count * PAIR + 4 * query.len()
}

/// A body, which is charged until it is dropped.
pub(super) fn bytes(value: &Value) -> Result<Bytes> {
    match value {
        Value::String(text) => {
            let text = text.as_bytes();
            let charge = charge_bytes(text.len()).map_err(Error::external)?;
            Ok(charge.hold_copy(&text))
        }
        value => Ok(Bytes::from(text(value)?.into_owned())),
    }
}

pub(super) fn method(value: &Value) -> Result<Method> {
    Method::from_bytes(&part(value)?).map_err(|_| Error::runtime("invalid method"))
}

/// Part of a request target, which must not contain line breaks.
pub(super) fn target(value: &Value) -> Result<String> {
    let target = url_part(value)?;
    if target.bytes().all(|byte| byte > b' ' && byte != 0x7f) {
        Ok(target)
    } else {
        Err(Error::runtime("a URL cannot contain blanks or line breaks"))
    }
}

/// A valid status of a response.
pub(super) fn status(value: &Value) -> Option<StatusCode> {
    let number = match value {
        Value::Integer(number) => u16::try_from(*number).ok()?,
        // As in KrakenD, a fraction is dropped.
        Value::Number(number) => *number as u16,
        Value::String(text) => str::from_utf8(&text.as_bytes()).ok()?.trim().parse().ok()?,
        _ => return None,
    };
    let status = StatusCode::from_u16(number).ok()?;
    (!status.is_informational()).then_some(status)
}

/// The URL itself is not shown: it may contain credentials.
const NOT_A_URL: &str = "not a URL with http:// or https:// and a host";

/// Sets the destination of a call, including the host.
fn set_url(request: &mut PipeRequest, url: &str) -> Result<()> {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Around an endpoint there is no host yet, and a URL has no effect.
        if request.origin.is_none() {
            return Ok(());
        }
        return Err(Error::runtime(NOT_A_URL));
    };
    if request.origin.is_none() {
        return Ok(());
    }
    let url = url.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (origin, target) = url.split_at((scheme.len() + 3 + end).min(url.len()));
    if end == 0 || !matches!(scheme, "http" | "https") {
        return Err(Error::runtime(NOT_A_URL));
    }
    if target.starts_with('/') {
        request.set_target(target)
    } else {
        request.set_target(&format!("/{target}"))
    }
    request.origin = Some(origin.into());
    Ok(())
}

pub(super) fn params_table(
    lua: &Lua,
    tree: &mut Tree,
    params: &Params,
    spelled: impl Fn(&str) -> String,
) -> Result<Value> {
    let id = tree.object().map_err(Error::external)?;
    for (name, value) in &params.0 {
        // The copies of both, before they are in the table.
        tree.prepare(2 * (name.len() + value.len()))
            .map_err(Error::external)?;
        let value = Node::Leaf(Json::string(escape::text(value)));
        tree.set_member(id, &spelled(name), value)
            .map_err(Error::external)?;
    }
    lua.create_userdata(Table(id)).map(Value::UserData)
}

/// What one more parameter takes: its place in a list that grows, and its texts. A byte that is not UTF-8 is kept as
/// several.
pub(super) fn param_bytes(name: &Value, value: &Value) -> usize {
    256 + 3 * text_length(name) + 6 * text_length(value)
}

/// The maximum number of parameters, because lookups are linear.
const MAX_PARAMS: usize = 1000;

pub(super) fn set_param(
    params: &mut Params,
    is: impl Fn(&str) -> bool,
    name: &str,
    value: String,
) -> Result<()> {
    let bytes = params.0.iter().map(|(_, value)| value.len()).sum::<usize>();
    if bytes + value.len() > 4 * MAX_PART {
        return Err(Error::runtime("the parameters are longer than 256 KiB"));
    }
    let is_full = params.0.len() >= MAX_PARAMS;
    match params.0.iter_mut().find(|(known, _)| is(known)) {
        Some((_, old)) => *old = value,
        None if is_full => {
            return Err(Error::runtime("too many parameters"));
        }
        None => params.0.push((name.into(), value)),
    }
    Ok(())
}

/// Converts `id` to `Id`, as KrakenD names parameters after its router.
fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// `ctx.load`, `request.load`, `response.load`.
pub(super) fn loaders(lua: &Lua) -> Result<[mlua::Function; 3]> {
    Ok([
        lua.create_function(|lua, _: MultiValue| lua.create_userdata(Client))?,
        lua.create_function(|lua, _: MultiValue| lua.create_userdata(Request))?,
        lua.create_function(|lua, _: MultiValue| lua.create_userdata(Response))?,
    ])
}

/// A `luaList` of texts that are charged.
pub(super) fn list(lua: &Lua, run: &mut Run, values: Vec<Box<str>>) -> Result<Value> {
    let id = run.tree.texts(values).map_err(Error::external)?;
    lua.create_userdata(List::of(id)).map(Value::UserData)
}
