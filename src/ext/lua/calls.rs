//! `http_response`: calls that scripts make.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use mlua::{Error, Lua, MultiValue, Result, UserData, UserDataMethods, Value};

use super::failure::Stop;
use super::headers::{Spelling, charge, field_value, first, named_field, sizes, values};
use super::library::text;
use super::objects::{bytes, list, method, url_part};
use super::run::{
    MAX_FIELDS, Run, add_field, field_bytes, run, run_for, text_length, too_many_fields,
};
use super::tree::texts_bytes;
use crate::upstream::SideResponse;

/// A call that a script waits for.
#[derive(Debug)]
pub(super) struct HttpCall {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// The response, with its complete body.
#[derive(Debug)]
pub(super) struct HttpResponse(pub(super) SideResponse);

impl UserData for HttpResponse {
    fn add_methods<M: UserDataMethods<HttpResponse>>(methods: &mut M) {
        methods.add_method("statusCode", |_, response, _: MultiValue| {
            Ok(response.0.status.as_u16())
        });
        methods.add_method("headers", |lua, response, args: MultiValue| {
            drop(run_for(lua, &args)?);
            let name = text(args.front().ok_or_else(super::library::need_arguments)?)?;
            let value = first(&response.0.headers, &name, Spelling::Any);
            let length = value.map_or(0, HeaderValue::len);
            run(lua)?.fund(lua, length).map_err(Stop::raised)?;
            lua.create_string(value.map(|value| value.as_bytes()).unwrap_or_default())
        });
        methods.add_method("headerList", |lua, response, args: MultiValue| {
            drop(run_for(lua, &args)?);
            let name = text(args.front().ok_or_else(super::library::need_arguments)?)?;
            let headers = &response.0.headers;
            let (count, bytes) = sizes(headers, &name, Spelling::Any);
            run(lua)?.spend(texts_bytes(count, bytes))?;
            let values = values(headers, &name, Spelling::Any);
            list(lua, &mut *run(lua)?, values)
        });
        methods.add_method("body", |lua, response, _: MultiValue| {
            run(lua)?.body(lua, &response.0.body)
        });
        // The body was read to its end, so the connection is already released.
        methods.add_method("close", |_, _, _: MultiValue| Ok(()));
    }
}

/// The two halves of `http_response.new`: one records the call, the other returns the response. In between the script
/// is suspended, so that no thread waits.
pub(super) fn halves(lua: &Lua) -> Result<[mlua::Function; 2]> {
    let begin = lua.create_function(|lua, args: MultiValue| {
        let mut run = run_for(lua, &args)?;
        let call = call(&mut run, &args)?;
        run.call = Some(call);
        Ok(())
    })?;
    let end = lua.create_function(|lua, _: MultiValue| {
        let mut run = run(lua)?;
        let answered = run.answered.take();
        if let Some(Ok(response)) = &answered {
            let fields = response.0.headers.iter();
            let bytes = fields.map(|(name, value)| field_bytes(name, value.len()));
            run.spend(bytes.sum())?;
        }
        drop(run);
        match answered {
            Some(Ok(response)) => lua.create_userdata(response),
            Some(Err(error)) => Err(error),
            None => Err(Error::runtime("no answer")),
        }
    })?;
    Ok([begin, end])
}

fn call(run: &mut Run, args: &MultiValue) -> Result<HttpCall> {
    if !matches!(args.len(), 1 | 3 | 4) {
        return Err(Error::runtime("need 1, 3 or 4 arguments"));
    }
    let method = match args.len() {
        1 => Method::GET,
        _ => args.get(1).map_or(Ok(Method::GET), method)?,
    };
    Ok(HttpCall {
        method,
        url: args.front().map_or(Ok(String::new()), url_part)?,
        headers: fields(run, args.get(3))?,
        body: args.get(2).map_or(Ok(Bytes::new()), bytes)?,
    })
}

/// Headers from a native table. A value may be a list of values.
fn fields(run: &mut Run, value: Option<&Value>) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    let table = match value {
        None | Some(Value::Nil) => return Ok(map),
        Some(Value::Table(table)) => table,
        Some(_) => return Err(Error::runtime("the headers must be a table")),
    };
    table.for_each(|name: Value, value: Value| {
        let name = named_field(&name)?;
        if !matches!(value, Value::Table(_)) {
            map.remove(&name);
        }
        let mut add = |value: &Value| {
            if map.len() >= MAX_FIELDS {
                return Err(too_many_fields());
            }
            let charge = charge(run, &name, text_length(value), map.len())?;
            add_field(&mut map, &name, field_value(text(value)?, charge)?)
        };
        match value {
            Value::Table(values) => values.sequence_values::<Value>().try_for_each(|v| add(&v?)),
            value => add(&value),
        }
    })?;
    Ok(map)
}
