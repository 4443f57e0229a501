//! The functions of `string` that search or create long strings. Lua's own have no limits and execute no instructions
//! at which the clock could be checked.

use mlua::{Error, FromLua, Function, Lua, LuaString, MultiValue, Result, Table, Value};

use super::failure::Stop;
use super::library::text;
use super::pattern::{Capture, MatchError, Matcher};
use super::run::run;

/// The longest string that a function here creates.
const MAX_BYTES: usize = 64 << 20;
/// The maximum nesting of replacements that start a new search. Each level uses stack of the thread.
const MAX_DEPTH: u32 = 40;

/// The functions by their names in `string`.
pub(super) fn functions(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("find", lua.create_function(find)?)?;
    table.raw_set("match", lua.create_function(matched)?)?;
    table.raw_set("gmatch", lua.create_function(each)?)?;
    table.raw_set("gsub", lua.create_function(replace)?)?;
    table.raw_set("rep", lua.create_function(repeat)?)?;
    for (name, change) in CHANGES {
        let changed = move |lua: &Lua, Text(subject): Text| changed(lua, &subject, change);
        table.raw_set(name, lua.create_function(changed)?)?;
    }
    Ok(table)
}

/// A text, or a number with all its digits, as in gopher-lua. Lua itself would round it.
struct Text(LuaString);

impl FromLua for Text {
    fn from_lua(value: Value, lua: &Lua) -> Result<Text> {
        match value {
            Value::Integer(_) | Value::Number(_) => lua.create_string(text(&value)?).map(Text),
            other => LuaString::from_lua(other, lua).map(Text),
        }
    }
}

type Change = fn(&mut [u8]);

/// The functions whose result has the same length.
const CHANGES: [(&str, Change); 3] = [
    ("upper", <[u8]>::make_ascii_uppercase),
    ("lower", <[u8]>::make_ascii_lowercase),
    ("reverse", <[u8]>::reverse),
];

fn changed(lua: &Lua, subject: &LuaString, change: Change) -> Result<LuaString> {
    prepare(lua, subject.as_bytes().len())?;
    let mut bytes = subject.as_bytes().to_vec();
    change(&mut bytes);
    lua.create_string(bytes)
}

/// Checks the clock before work on a string of `length` bytes.
fn look_before(lua: &Lua, length: usize) -> Result<()> {
    let looked = run(lua)?.look_before(length);
    looked.map_err(Stop::raised)
}

/// The same before a string of `length` bytes is made.
fn prepare(lua: &Lua, length: usize) -> Result<()> {
    let prepared = run(lua)?.prepare(lua, length);
    prepared.map_err(Stop::raised)
}

fn find(
    lua: &Lua,
    (Text(subject), Text(pattern), init, plain): (Text, Text, Option<f64>, Option<Value>),
) -> Result<MultiValue> {
    let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
    let from = beginning(init, subject.len());
    let plain = !matches!(plain, None | Some(Value::Nil | Value::Boolean(false)));
    let special = pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte));
    if plain || !special {
        look_before(lua, subject.len())?;
        let found = memchr::memmem::find(&subject[from..], &pattern);
        return Ok(match found {
            Some(at) => pair(from + at, from + at + pattern.len()),
            None => nil(),
        });
    }
    let mut is_late = clock(lua);
    let mut matcher = Matcher::new(&subject, &pattern, &mut is_late);
    let Some((start, end)) = matcher.find(from).map_err(|error| failed(lua, error))? else {
        return Ok(nil());
    };
    let captures = matcher.captured().map_err(|error| failed(lua, error))?;
    let mut values = pair(start, end);
    for capture in captures {
        values.push_back(value(lua, &subject, capture)?);
    }
    Ok(values)
}

fn matched(
    lua: &Lua,
    (Text(subject), Text(pattern), init): (Text, Text, Option<f64>),
) -> Result<MultiValue> {
    let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
    let mut is_late = clock(lua);
    let mut matcher = Matcher::new(&subject, &pattern, &mut is_late);
    let from = beginning(init, subject.len());
    match matcher.find(from).map_err(|error| failed(lua, error))? {
        Some((start, end)) => {
            let captures = matcher.captured().map_err(|error| failed(lua, error))?;
            values(lua, &subject, captures, (start, end))
        }
        None => Ok(nil()),
    }
}

/// An iterator. As in Lua 5.1, a `^` is not an anchor here.
fn each(lua: &Lua, (Text(subject), Text(pattern)): (Text, Text)) -> Result<Function> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let order = std::sync::atomic::Ordering::Relaxed;
    lua.create_function(move |lua, _: MultiValue| {
        let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
        let mut is_late = clock(lua);
        let mut matcher = Matcher::new(&subject, &pattern, &mut is_late).without_anchor(&pattern);
        match matcher
            .find(next.load(order))
            .map_err(|error| failed(lua, error))?
        {
            Some((start, end)) => {
                next.store(if end == start { end + 1 } else { end }, order);
                let captures = matcher.captured().map_err(|error| failed(lua, error))?;
                values(lua, &subject, captures, (start, end))
            }
            None => Ok(nil()),
        }
    })
}

fn replace(
    lua: &Lua,
    (Text(subject), Text(pattern), replacement, most): (Text, Text, Value, Option<f64>),
) -> Result<(LuaString, usize)> {
    if !matches!(
        replacement,
        Value::String(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::Table(_)
            | Value::Function(_)
    ) {
        return Err(Error::runtime(
            "bad argument #3 to 'gsub' (string/function/table expected)",
        ));
    }
    prepare(lua, subject.as_bytes().len())?;
    enter(lua)?;
    let replaced = replaced(lua, &subject, &pattern, &replacement, most);
    run(lua)?.depth -= 1;
    let (out, count) = replaced?;
    Ok((lua.create_string(out)?, count))
}

fn replaced(
    lua: &Lua,
    subject: &LuaString,
    pattern: &LuaString,
    replacement: &Value,
    most: Option<f64>,
) -> Result<(Vec<u8>, usize)> {
    let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
    let most = most.map_or(usize::MAX, |most| most.max(0.0) as usize);
    let mut is_late = clock(lua);
    let mut matcher = Matcher::new(&subject, &pattern, &mut is_late);
    let (mut at, mut count) = (0, 0);
    let mut out = Out {
        lua,
        bytes: Vec::new(),
        prepared: subject.len(),
    };
    while count < most {
        let end = matcher.at(at).map_err(|error| failed(lua, error))?;
        if let Some(end) = end {
            count += 1;
            let captures = matcher.captured().map_err(|error| failed(lua, error))?;
            let caught = Caught {
                subject: &subject,
                captures,
                whole: (at, end),
            };
            caught.replacement(lua, replacement, &mut out)?;
        }
        match end {
            Some(end) if end > at => at = end,
            _ => match subject.get(at) {
                Some(byte) => {
                    out.push(&[*byte])?;
                    at += 1;
                }
                None => break,
            },
        }
        if matcher.is_anchored() {
            break;
        }
    }
    out.push(subject.get(at..).unwrap_or_default())?;
    Ok((out.bytes, count))
}

/// The result of a replacement, which is charged before it grows.
struct Out<'l> {
    lua: &'l Lua,
    bytes: Vec<u8>,
    /// Up to here it is charged.
    prepared: usize,
}

impl Out<'_> {
    fn push(&mut self, more: &[u8]) -> Result<()> {
        let length = self.bytes.len() + more.len();
        if length > MAX_BYTES {
            return Err(too_long(self.lua));
        }
        if length > self.prepared {
            self.prepared = (2 * length).min(MAX_BYTES);
            prepare(self.lua, self.prepared)?;
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }
}

/// One match to be replaced.
struct Caught<'s> {
    subject: &'s [u8],
    captures: Vec<Capture>,
    whole: (usize, usize),
}

impl Caught<'_> {
    fn replacement(&self, lua: &Lua, replacement: &Value, out: &mut Out<'_>) -> Result<()> {
        let new = match replacement {
            Value::Table(table) => table.get::<Value>(self.first(lua)?)?,
            Value::Function(function) => {
                let captures = self.captures.clone();
                let arguments = values(lua, self.subject, captures, self.whole)?;
                function.call::<Value>(arguments)?
            }
            Value::String(template) => return self.fill(lua, &template.as_bytes(), out),
            template => return self.fill(lua, &text(template)?, out),
        };
        match new {
            Value::Nil | Value::Boolean(false) => out.push(self.whole())?,
            Value::String(new) => out.push(&new.as_bytes())?,
            Value::Integer(_) | Value::Number(_) => out.push(&text(&new)?)?,
            other => {
                return Err(Error::runtime(format!(
                    "invalid replacement value (a {})",
                    other.type_name()
                )));
            }
        }
        Ok(())
    }

    /// Appends a replacement text: `%1` is a capture, `%0` the whole match.
    fn fill(&self, lua: &Lua, template: &[u8], out: &mut Out<'_>) -> Result<()> {
        let mut bytes = template.iter();
        while let Some(byte) = bytes.next() {
            match (byte, bytes.as_slice().first()) {
                (b'%', Some(b'0')) => out.push(self.whole())?,
                (b'%', Some(digit @ b'1'..=b'9')) => {
                    let capture = match (usize::from(digit - b'1'), &*self.captures) {
                        (0, []) => Capture::Text(self.whole.0, self.whole.1),
                        (index, captures) => *captures
                            .get(index)
                            .ok_or_else(|| failed(lua, MatchError::Index))?,
                    };
                    match capture {
                        Capture::Text(start, end) => {
                            out.push(self.subject.get(start..end).unwrap_or_default())?;
                        }
                        Capture::Position(at) => {
                            out.push((at + 1).to_string().as_bytes())?;
                        }
                    }
                }
                (b'%', other) => out.push(other.map(std::slice::from_ref).unwrap_or_default())?,
                (byte, _) => {
                    out.push(std::slice::from_ref(byte))?;
                    continue;
                }
            }
            bytes.next();
        }
        Ok(())
    }

    fn first(&self, lua: &Lua) -> Result<Value> {
        let whole = Capture::Text(self.whole.0, self.whole.1);
        value(
            lua,
            self.subject,
            self.captures.first().copied().unwrap_or(whole),
        )
    }

    fn whole(&self) -> &[u8] {
        self.subject
            .get(self.whole.0..self.whole.1)
            .unwrap_or_default()
    }
}

fn repeat(lua: &Lua, (Text(subject), count): (Text, f64)) -> Result<LuaString> {
    let subject = subject.as_bytes();
    let count = if subject.is_empty() {
        0
    } else {
        count.max(0.0) as usize
    };
    match subject.len().checked_mul(count) {
        Some(length) if length <= MAX_BYTES => {
            prepare(lua, length)?;
            lua.create_string(subject.repeat(count))
        }
        _ => Err(too_long(lua)),
    }
}

/// The start of a search, from 0. `init` counts from 1, or from the end if it is negative.
fn beginning(init: Option<f64>, length: usize) -> usize {
    let init = init.unwrap_or(1.0);
    let from = if init < 0.0 {
        length as f64 + init
    } else {
        init - 1.0
    };
    (from.max(0.0) as usize).min(length)
}

/// Whether the deadline of the script's request has passed.
fn clock(lua: &Lua) -> impl FnMut() -> bool {
    move || run(lua).map_or(true, |mut run| run.look().is_err())
}

fn enter(lua: &Lua) -> Result<()> {
    let mut run = run(lua)?;
    if run.depth >= MAX_DEPTH {
        return Err(Error::runtime("C stack overflow"));
    }
    run.depth += 1;
    Ok(())
}

fn failed(lua: &Lua, error: MatchError) -> Error {
    // The check of the clock has recorded why the script ends.
    if error == MatchError::Late
        && let Ok(run) = run(lua)
        && let Some(stop) = &run.stop
    {
        return stop.clone().raised();
    }
    Error::runtime(error.to_string())
}

fn too_long(lua: &Lua) -> Error {
    if let Ok(mut run) = run(lua) {
        run.stop = Some(Stop::Memory);
    }
    Error::runtime("not enough memory: resulting string too large")
}

fn value(lua: &Lua, subject: &[u8], capture: Capture) -> Result<Value> {
    match capture {
        Capture::Text(start, end) => lua
            .create_string(subject.get(start..end).unwrap_or_default())
            .map(Value::String),
        Capture::Position(at) => Ok(Value::Number((at + 1) as f64)),
    }
}

/// The captures, or the whole match if the pattern has none.
fn values(
    lua: &Lua,
    subject: &[u8],
    captures: Vec<Capture>,
    whole: (usize, usize),
) -> Result<MultiValue> {
    let captures = if captures.is_empty() {
        vec![Capture::Text(whole.0, whole.1)]
    } else {
        captures
    };
    let values = captures.into_iter().map(|c| value(lua, subject, c));
    values.collect()
}

fn nil() -> MultiValue {
    MultiValue::from_vec(vec![Value::Nil])
}

fn pair(start: usize, end: usize) -> MultiValue {
    MultiValue::from_vec(vec![
        Value::Number((start + 1) as f64),
        Value::Number(end as f64),
    ])
}
