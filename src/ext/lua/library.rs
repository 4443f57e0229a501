//! The functions for scripts besides Lua's own and those written in `prelude.lua`.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use mlua::{Error, Function, Lua, LuaString, MultiValue, Result, Table, Value};

use super::failure::{CustomError, Stop, located};
use super::objects::status;
use super::pool::Outside;
use super::run::{run, run_for, text_length};
use super::tree::number_text;
use super::{calls, collections, objects, syntax, text as strings};
use crate::named_file;

/// The maximum size of a file that a script loads at run time.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The functions from which `prelude.lua` builds a script's globals, by name.
pub(super) fn raw(lua: &Lua, outside: &Arc<Outside>) -> Result<Table> {
    let raw = lua.create_table()?;
    let [table, list, nil] = collections::constructors(lua)?;
    let [client, request, response] = objects::loaders(lua)?;
    let [call, http_response] = calls::halves(lua)?;
    for (name, function) in [
        ("new_table", table),
        ("new_list", list),
        ("new_nil", nil),
        ("load_ctx", client),
        ("load_request", request),
        ("load_response", response),
        ("http_call", call),
        ("http_answer", http_response),
        ("custom_error", lua.create_function(custom_error)?),
        ("caught", lua.create_function(caught)?),
        ("print", print(lua, Arc::clone(outside))?),
        ("number_text", lua.create_function(number)?),
        ("read_file", lua.create_function(read_file)?),
        ("lengths", lua.create_function(lengths)?),
        ("older", lua.create_function(older)?),
        ("look", lua.create_function(look)?),
        ("taint", lua.create_function(taint)?),
        ("random", lua.create_function(random)?),
        ("randomseed", lua.create_function(randomseed)?),
        ("collect", lua.create_function(collect)?),
        ("getinfo", lua.create_function(getinfo)?),
        ("traceback", lua.create_function(traceback)?),
    ] {
        raw.raw_set(name, function)?;
    }
    raw.raw_set("text", strings::functions(lua)?)?;
    Ok(raw)
}

/// A string, or a value that Lua converts to one.
pub(super) fn text(value: &Value) -> Result<Cow<'static, [u8]>> {
    Ok(match value {
        Value::String(text) => Cow::Owned(text.as_bytes().to_vec()),
        Value::Integer(number) => Cow::Owned(number.to_string().into_bytes()),
        Value::Number(number) => Cow::Owned(plain_number(*number).into_bytes()),
        Value::Boolean(true) => Cow::Borrowed(b"true"),
        Value::Boolean(false) => Cow::Borrowed(b"false"),
        other => {
            return Err(Error::runtime(format!(
                "a string was expected, not a {}",
                other.type_name()
            )));
        }
    })
}

fn plain_number(number: f64) -> String {
    number_text(number).unwrap_or_else(|| match number {
        n if n.is_nan() => "nan".to_owned(),
        n if n > 0.0 => "inf".to_owned(),
        _ => "-inf".to_owned(),
    })
}

/// The error of a function that was called with too few arguments.
pub(super) fn need_arguments() -> Error {
    Error::runtime("need arguments")
}

/// `custom_error(message, status, content_type)`, which does not return.
fn custom_error(lua: &Lua, args: MultiValue) -> Result<()> {
    let message = args.front().ok_or_else(need_arguments)?;
    // Lua frees the error when it collects garbage, and does not know its size.
    let bytes = size_of::<CustomError>() + 2 * text_length(message);
    run_for(lua, &args)?.spend(bytes)?;
    let message = text(message)?;
    let content_type = match args.get(2) {
        None | Some(Value::Nil) => None,
        Some(value) => HeaderValue::from_bytes(&text(value)?)
            .ok()
            .filter(|value| !value.is_empty()),
    };
    Err(Error::external(CustomError {
        message: String::from_utf8_lossy(&message).into_owned(),
        status: args.get(1).and_then(status),
        content_type,
    }))
}

/// The value that `pcall` passes to the script for an error: a string, as in Lua. A script that was ended cannot
/// continue by catching the error that ended it.
fn caught(lua: &Lua, error: Value) -> Result<Value> {
    let mut run = run(lua)?;
    if let Some(stop) = &run.stop {
        return Err(Error::runtime(stop.text()));
    }
    let Value::Error(error) = error else {
        return Ok(error);
    };
    let text = match error.downcast_ref::<CustomError>() {
        Some(custom) => {
            // A script may raise and catch any number of them.
            run.spend(size_of::<CustomError>() + 2 * custom.message.len())?;
            run.caught.push(custom.clone());
            custom.message.clone()
        }
        None => match located(&error) {
            (message, Some(place)) => format!("{}:{}: {message}", place.chunk, place.line),
            (message, None) => message,
        },
    };
    drop(run);
    lua.create_string(text).map(Value::String)
}

/// One line to standard output.
fn print(lua: &Lua, outside: Arc<Outside>) -> Result<Function> {
    lua.create_function(move |lua, line: LuaString| {
        let line = line.as_bytes();
        run(lua)?.fund(lua, line.len()).map_err(Stop::raised)?;
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(&line);
        bytes.push(b'\n');
        outside.print(bytes);
        Ok(())
    })
}

/// A number as KrakenD prints it: all digits of an integer, the shortest text of a fraction.
fn number(_: &Lua, number: f64) -> Result<String> {
    Ok(plain_number(number))
}

/// The content of a file, or nil and the reason.
fn read_file(lua: &Lua, path: LuaString) -> Result<(Value, Value)> {
    let name = path.to_string_lossy();
    // The text is copied to Lua.
    let length = std::fs::metadata(&*name).map_or(0, |file| file.len().min(MAX_FILE_BYTES));
    let copies = 2 * usize::try_from(length).unwrap_or(usize::MAX / 2);
    run(lua)?.fund(lua, copies).map_err(Stop::raised)?;
    let read = named_file::read_only_file(Path::new(&*name), MAX_FILE_BYTES);
    Ok(match read {
        Ok(text) => (Value::String(lua.create_string(text)?), Value::Nil),
        Err(error) => {
            let why = format!("cannot open {name}: {error}");
            (Value::Nil, Value::String(lua.create_string(why)?))
        }
    })
}

/// A text in which `#` respects the `__len` of tables. Nil if the text does not use `__len`.
fn lengths(lua: &Lua, text: LuaString) -> Result<Option<String>> {
    let text = text.to_string_lossy();
    let speaks = syntax::speaks_of_len(&text);
    if speaks {
        let bytes = syntax::rewriting_bytes(&text);
        run(lua)?.fund(lua, bytes).map_err(Stop::raised)?;
    }
    Ok(speaks.then(|| syntax::with_lengths(&text)).flatten())
}

/// A text that Lua 5.1 has rejected, rewritten. Otherwise nil and the reason.
fn older(lua: &Lua, text: LuaString) -> Result<(Option<String>, Option<String>)> {
    let text = text.to_string_lossy();
    let bytes = syntax::rewriting_bytes(&text);
    run(lua)?.fund(lua, bytes).map_err(Stop::raised)?;
    Ok(match syntax::rewritten(&text) {
        Ok(older) => (older, None),
        Err(unfit) => (None, Some(format!("line {}: {}", unfit.line, unfit.text))),
    })
}

/// Checks the clock before work that takes long without executing instructions, with the number of bytes if it is on
/// a string.
fn look(lua: &Lua, length: Option<f64>) -> Result<()> {
    let mut run = run(lua)?;
    let looked = match length {
        Some(length) => run.prepare(lua, length as usize),
        None => run.look(),
    };
    looked.map_err(Stop::raised)
}

/// The script changed something that cannot be restored: the interpreter must not be reused.
fn taint(lua: &Lua, _: MultiValue) -> Result<()> {
    run(lua)?.tainted = true;
    Ok(())
}

/// A number from 0 to, but not including, 1. Each request has its own sequence.
fn random(lua: &Lua, _: MultiValue) -> Result<f64> {
    let mut run = run(lua)?;
    // SplitMix64 by Steele, Lea and Flood (2014). It is not suitable for secrets.
    run.random = run.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = run.random;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    Ok((bits >> 11) as f64 / (1_u64 << 53) as f64)
}

fn randomseed(lua: &Lua, seed: f64) -> Result<()> {
    run(lua)?.random = seed.to_bits();
    Ok(())
}

/// Collects garbage if requested, and returns how many kilobytes are in use. Scripts cannot tune the collector.
fn collect(lua: &Lua, collect: bool) -> Result<f64> {
    if collect {
        lua.gc_collect()?;
    }
    Ok(lua.used_memory() as f64 / 1024.0)
}

/// The part of `debug.getinfo` that describes places: `source`, `short_src`, `currentline`, `what`, `name`.
fn getinfo(lua: &Lua, level: usize) -> Result<Option<Table>> {
    let table = lua.create_table()?;
    let found = lua.inspect_stack(level, |debug| -> Result<()> {
        let source = debug.source();
        table.raw_set("source", source.source.as_deref().unwrap_or("=?"))?;
        table.raw_set("short_src", source.short_src.as_deref().unwrap_or("?"))?;
        table.raw_set("what", source.what)?;
        let line = debug.current_line();
        table.raw_set("currentline", line.map_or(-1.0, |line| line as f64))?;
        table.raw_set("name", debug.names().name.as_deref())?;
        Ok(())
    });
    match found {
        Some(done) => done.map(|()| Some(table)),
        None => Ok(None),
    }
}

fn traceback(lua: &Lua, message: Option<LuaString>) -> Result<LuaString> {
    let message = message.map(|text| text.to_string_lossy());
    lua.traceback(message.as_deref(), 1)
}
