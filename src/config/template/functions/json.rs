//! JSON as Go's `encoding/json` writes and parses it.

use std::collections::HashMap;

use ahash::RandomState;

use super::Kind::{self, Any};
use super::{Call, Function, Outcome, fixed, string};
use crate::config::json;
use crate::config::report::Report;
use crate::config::template::format;
use crate::config::template::value::{Entries, Object, Text, Value};
use crate::config::value::{Data, Position, Value as Tree};

/// Values nested deeper are not written, because a map may contain itself.
const MAX_DEPTH: usize = 256;

pub(super) static TABLE: &[Function] = &[
    fixed("marshal", &[Any], |call, arguments| {
        encode(call, &arguments[0], Style::COMPACT)
    }),
    fixed("toJson", &[Any], |call, arguments| {
        encode(call, &arguments[0], Style::COMPACT)
    }),
    fixed("mustToJson", &[Any], |call, arguments| {
        must(call, &arguments[0], Style::COMPACT)
    }),
    fixed("toPrettyJson", &[Any], |call, arguments| {
        encode(call, &arguments[0], Style::PRETTY)
    }),
    fixed("mustToPrettyJson", &[Any], |call, arguments| {
        must(call, &arguments[0], Style::PRETTY)
    }),
    fixed("toRawJson", &[Any], |call, arguments| {
        encode(call, &arguments[0], Style::RAW)
    }),
    fixed("mustToRawJson", &[Any], |call, arguments| {
        must(call, &arguments[0], Style::RAW)
    }),
    fixed("fromJson", &[Kind::Text], |call, arguments| {
        Ok(decode(call, &arguments).unwrap_or(Value::Nil))
    }),
    fixed("mustFromJson", &[Kind::Text], |call, arguments| {
        decode(call, &arguments)
    }),
];

#[derive(Clone, Copy)]
struct Style {
    pretty: bool,
    escape_html: bool,
}

impl Style {
    const COMPACT: Style = Style {
        pretty: false,
        escape_html: true,
    };
    const PRETTY: Style = Style {
        pretty: true,
        escape_html: true,
    };
    const RAW: Style = Style {
        pretty: false,
        escape_html: false,
    };
}

/// A value that cannot be encoded becomes the empty text.
fn encode(call: &mut Call<'_>, value: &Value, style: Style) -> Outcome {
    let mut writer = Writer {
        out: String::new(),
        style,
        most: call.budget.left(),
    };
    let written = writer.value(value, 0);
    call.make(writer.out.len())?;
    Ok(Value::text(written.map_or(String::new(), |()| writer.out)))
}

fn must(call: &mut Call<'_>, value: &Value, style: Style) -> Outcome {
    let mut writer = Writer {
        out: String::new(),
        style,
        most: call.budget.left(),
    };
    writer.value(value, 0)?;
    call.make(writer.out.len())?;
    Ok(Value::text(writer.out))
}

struct Writer {
    out: String,
    /// The bytes that may be written. Lists may be shared, so a small value may have a huge text.
    most: usize,
    style: Style,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("json: unsupported value: encountered a cycle".to_owned());
        }
        if self.out.len() > self.most {
            return Err("json: the text is too large".to_owned());
        }
        match value {
            Value::Missing | Value::Nil => self.out.push_str("null"),
            Value::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) | Value::Int64(value) => self.out.push_str(&value.to_string()),
            Value::Float(value) => self.out.push_str(&number(*value)?),
            Value::Text(text) => self.text(text),
            Value::List(list) if list.items.is_none() => self.out.push_str("null"),
            Value::List(list) => {
                self.block('[', ']', list.items().iter(), depth, |writer, item| {
                    writer.value(item, depth + 1)
                })?;
            }
            Value::Map(map) if map.nil => self.out.push_str("null"),
            Value::Map(map) => {
                let entries = map.snapshot();
                self.block('{', '}', entries.iter(), depth, |writer, (key, value)| {
                    writer.text(key);
                    writer
                        .out
                        .push_str(if writer.style.pretty { ": " } else { ":" });
                    writer.value(value, depth + 1)
                })?;
            }
            Value::Time(time) => {
                let text = super::date::rfc3339(time);
                self.text(text.as_bytes());
            }
            Value::Object(object) => match &**object {
                Object::Semver(version) => self.text(version.to_string().as_bytes()),
                Object::Named(named) => self.out.push_str(&named.number().to_string()),
            },
        }
        Ok(())
    }

    fn block<T>(
        &mut self,
        open: char,
        close: char,
        items: impl ExactSizeIterator<Item = T>,
        depth: usize,
        mut write: impl FnMut(&mut Writer, T) -> Result<(), String>,
    ) -> Result<(), String> {
        let empty = items.len() == 0;
        self.out.push(open);
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.line(depth + 1);
            write(self, item)?;
        }
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if self.style.pretty {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", depth));
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        self.out.push('"');
        // The usual text is written as it is.
        let is_plain = |byte: &u8| {
            (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
        };
        if let Ok(text) = std::str::from_utf8(bytes)
            && bytes.iter().all(is_plain)
        {
            self.out.push_str(text);
            self.out.push('"');
            return;
        }
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                self.letter(c);
            }
            for _ in chunk.invalid() {
                self.out.push_str("\\ufffd");
            }
        }
        self.out.push('"');
    }

    fn letter(&mut self, c: char) {
        match c {
            '"' => self.out.push_str("\\\""),
            '\\' => self.out.push_str("\\\\"),
            '\u{8}' => self.out.push_str("\\b"),
            '\u{c}' => self.out.push_str("\\f"),
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            '<' | '>' | '&' if self.style.escape_html => self.escaped(c),
            '\u{2028}' | '\u{2029}' => self.escaped(c),
            _ if c < ' ' => self.escaped(c),
            _ => self.out.push(c),
        }
    }

    fn escaped(&mut self, c: char) {
        self.out.push_str(&format!("\\u{:04x}", u32::from(c)));
    }
}

/// Plain digits from 1e-6 up to below 1e21, otherwise an exponent without leading zeros.
fn number(value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Err(format!("json: unsupported value: {}", format::float(value)));
    }
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        return Ok(if text.contains("e-") {
            text
        } else {
            text.replace('e', "e+")
        });
    }
    Ok(format!("{value}"))
}

fn decode(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let text = string(arguments, 0);
    call.make(text.len())?;
    let report = Report::new();
    let tree = json::parse(&text, &report).map_err(|error| error.text)?;
    match infinite(&tree) {
        Some((_, text)) => Err(out_of_range(text)),
        None => Ok(from_tree(&tree)),
    }
}

/// The first number that does not fit into a float64, with its text.
pub(in crate::config) fn infinite(tree: &Tree) -> Option<(Position, &str)> {
    match &tree.data {
        Data::Number(text) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => None,
            _ => Some((tree.at, text)),
        },
        Data::List(items) => items.iter().find_map(infinite),
        Data::Object(members) => members.iter().find_map(|member| infinite(&member.value)),
        _ => None,
    }
}

/// Go's error for such a number.
pub(in crate::config) fn out_of_range(text: &str) -> String {
    format!("json: cannot unmarshal number {text} into Go value of type float64")
}

/// A JSON value as a template sees it: every number is a float.
pub(in crate::config::template) fn from_tree(tree: &Tree) -> Value {
    converted(tree, &mut Keys::default())
}

/// The keys of a document. Lists of objects repeat the same ones, which are made once.
type Keys<'t> = HashMap<&'t str, Text, RandomState>;

fn converted<'t>(tree: &'t Tree, keys: &mut Keys<'t>) -> Value {
    match &tree.data {
        Data::Null => Value::Nil,
        Data::Bool(value) => Value::Bool(*value),
        Data::Number(text) => Value::Float(text.parse().unwrap_or_default()),
        Data::Text(text) => Value::text(text.as_bytes()),
        Data::List(items) => {
            let items = items.iter().map(|item| converted(item, keys));
            Value::list(items.collect())
        }
        Data::Object(members) => {
            let mut entries = Entries::new();
            for member in members {
                let key = keys
                    .entry(&member.name)
                    .or_insert_with(|| member.name.as_bytes().into())
                    .clone();
                entries.insert(key, converted(&member.value, keys));
            }
            Value::map(entries)
        }
    }
}
