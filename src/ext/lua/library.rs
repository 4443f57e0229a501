//! The functions for scripts besides Lua's own and those written in `prelude.lua`.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use mlua::{Error, Function, Lua, LuaString, MultiValue, Result, Table, Value};

use super::failure::{CustomError, Stop, located, split};
use super::objects::status;
use super::pool::Outside;
use super::run::{Run, run, run_for};
use super::tree::{TreeError, number_text};
use super::{calls, collections, objects, syntax, text as strings};
use crate::named_file;
use crate::runtime::json::charge_bytes;
use crate::upstream::budget::FREE;

/// The maximum size of a file that a script loads at run time.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The longest name of such a file. Systems allow less.
const MAX_PATH: usize = 64 << 10;

/// A traceback is rarely longer.
const MAX_TRACEBACK: usize = 8 << 10;

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
    let mut run = run_for(lua, &args)?;
    let body = body_of(&mut run, message)?;
    drop(run);
    let content_type = match args.get(2) {
        None | Some(Value::Nil) => None,
        Some(value) => HeaderValue::from_bytes(&text(value)?)
            .ok()
            .filter(|value| !value.is_empty()),
    };
    Err(Error::external(CustomError {
        body,
        status: args.get(1).and_then(status),
        content_type,
    }))
}

/// The message of a custom error. Lua frees the error when it collects garbage, and does not know its size.
fn body_of(run: &mut Run, message: &Value) -> Result<Bytes> {
    let Value::String(message) = message else {
        return Ok(Bytes::from(text(message)?.into_owned()));
    };
    let message = message.as_bytes();
    let length = lossy_length(&message);
    let bytes = size_of::<CustomError>() + length;
    let counted = if length <= FREE {
        run.tree.spend(bytes)
    } else {
        run.tree.count(bytes)
    };
    if let Err(TreeError::Full) = counted {
        // A script that catches this error as well would continue to its deadline.
        run.stop = Some(Stop::Memory);
    }
    counted.map_err(Error::external)?;
    let charge = charge_bytes(length).map_err(Error::external)?;
    Ok(charge.hold(Bytes::from(lossy(&message))))
}

/// A UTF-8 string that takes no more memory than it needs. Invalid bytes are replaced.
pub(super) fn lossy(bytes: &[u8]) -> String {
    if let Ok(text) = str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut text = String::with_capacity(lossy_length(bytes));
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

/// The length of that string: up to three times as long.
pub(super) fn lossy_length(bytes: &[u8]) -> usize {
    if str::from_utf8(bytes).is_ok() {
        return bytes.len();
    }
    let chunks = bytes.utf8_chunks();
    let lengths = chunks.map(|chunk| match chunk.invalid() {
        [] => chunk.valid().len(),
        _ => chunk.valid().len() + char::REPLACEMENT_CHARACTER.len_utf8(),
    });
    lengths.sum()
}

/// The value that `pcall` passes to the script for an error: a string, as in Lua. A script that was ended cannot
/// continue by catching the error that ended it.
fn caught(lua: &Lua, error: Value) -> Result<Value> {
    let mut run = run(lua)?;
    if let Some(stop) = &run.stop {
        return Err(Error::runtime(stop.text()));
    }
    let Value::Error(error) = error else {
        drop(run);
        return without_our_place(lua, error);
    };
    if Stop::is_full(&error) {
        // A script that goes on would only wait for its deadline.
        run.stop = Some(Stop::Full);
        return Err(Stop::Full.raised());
    }
    // Lua frees the error when it collects garbage. Its traceback has names that the script chose.
    if let Error::CallbackError { traceback, .. } = &*error
        && traceback.len() > MAX_TRACEBACK
    {
        run.spend(traceback.len())?;
    }
    let text = match error.downcast_ref::<CustomError>() {
        Some(custom) => {
            // A script may raise and catch any number of them.
            run.spend(size_of::<CustomError>())?;
            run.caught.push(custom.clone());
            run.fund(lua, custom.body.len()).map_err(Stop::raised)?;
            drop(run);
            let text = lua.create_string(&custom.body)?;
            return Ok(Value::String(text));
        }
        None => match located(&error) {
            (message, Some(place)) => format!("{}:{}: {message}", place.chunk, place.line),
            (message, None) => message,
        },
    };
    drop(run);
    lua.create_string(text).map(Value::String)
}

/// A message of Lua. A place in our own code means nothing to the author of a script.
fn without_our_place(lua: &Lua, message: Value) -> Result<Value> {
    if let Value::String(text) = &message
        && text.as_bytes().starts_with(b"prelude:")
        && let (message, Some(place)) = split(&text.to_string_lossy())
        && place.is_ours()
    {
        return lua.create_string(message).map(Value::String);
    }
    Ok(message)
}

/// One line to standard output.
fn print(lua: &Lua, outside: Arc<Outside>) -> Result<Function> {
    lua.create_function(move |lua, line: LuaString| {
        let line = line.as_bytes();
        if !outside.may_print(line.len() + 1) {
            return Ok(());
        }
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
    if path.as_bytes().len() > MAX_PATH {
        let why = lua.create_string("cannot open the file: its name is too long")?;
        return Ok((Value::Nil, Value::String(why)));
    }
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
    let trace = lua.traceback(None, 1)?;
    let Some(message) = message else {
        return Ok(trace);
    };
    let (message, trace) = (message.as_bytes(), trace.as_bytes());
    let length = message.len() + 1 + trace.len();
    run(lua)?.prepare(lua, length).map_err(Stop::raised)?;
    lua.create_string([&message, b"\n".as_slice(), &trace].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_invalid_bytes_takes_no_more_than_its_length() {
        for bytes in [
            b"".as_slice(),
            b"plain",
            &[0xff; 1000],
            b"a\xff\xc3\xa9\xe2\x82",
        ] {
            let text = lossy(bytes);
            assert_eq!(text, String::from_utf8_lossy(bytes));
            assert_eq!(text.len(), lossy_length(bytes));
            assert_eq!(text.capacity(), text.len());
        }
    }
}
