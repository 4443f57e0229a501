//! The tree of a configuration, with a position for every key and value.

use std::fmt;

use super::secret;

/// A position in a file. Line and column start at 1, and 0 means unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    pub line: u32,
    /// In characters, not bytes.
    pub column: u32,
}

impl Position {
    /// For values that come from no file: environment variables, defaults.
    pub const UNKNOWN: Position = Position { line: 0, column: 0 };

    pub fn new(line: u32, column: u32) -> Position {
        Position { line, column }
    }

    pub fn is_known(self) -> bool {
        self.line != 0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One value of the file.
#[derive(Clone, PartialEq)]
pub struct Value {
    pub at: Position,
    pub data: Data,
    /// The value came from the environment or from a secret file, and is never printed.
    pub masked: bool,
    /// An integer in a format with integers: YAML and TOML, but not JSON.
    pub exact: bool,
}

/// The data of a value. Numbers keep their text, so that nothing is lost before a type is requested.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    Null,
    Bool(bool),
    Number(Box<str>),
    Text(Box<str>),
    List(Vec<Value>),
    Object(Vec<Member>),
}

/// A key of an object with its value, in the configured order.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub name: Box<str>,
    pub at: Position,
    pub value: Value,
}

impl Value {
    pub fn new(at: Position, data: Data) -> Value {
        Value {
            at,
            data,
            masked: false,
            exact: false,
        }
    }

    /// An integer with all its digits.
    pub fn integer(at: Position, digits: String) -> Value {
        Value {
            exact: true,
            ..Value::new(at, Data::Number(digits.into()))
        }
    }

    /// A string that comes from no file.
    pub fn text(text: &str) -> Value {
        Value::new(Position::UNKNOWN, Data::Text(text.into()))
    }

    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    /// The member with exactly this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members()
            .iter()
            .find(|member| &*member.name == name)
            .map(|member| &member.value)
    }

    /// The members of an object. Empty for any other value.
    pub fn members(&self) -> &[Member] {
        match &self.data {
            Data::Object(members) => members,
            _ => &[],
        }
    }

    /// The value as compact JSON with sorted keys, so that equal definitions give equal texts.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    fn write_json(&self, out: &mut String) {
        match &self.data {
            Data::Null => out.push_str("null"),
            Data::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
            Data::Number(text) => out.push_str(text),
            Data::Text(text) => write_text(text, out),
            Data::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Data::Object(members) => {
                let mut sorted: Vec<&Member> = members.iter().collect();
                sorted.sort_by(|a, b| a.name.cmp(&b.name));
                out.push('{');
                for (index, member) in sorted.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_text(&member.name, out);
                    out.push(':');
                    member.value.write_json(out);
                }
                out.push('}');
            }
        }
    }

    /// The text for this value in messages: short, and never a secret.
    pub fn shown(&self) -> String {
        if self.masked {
            return "[redacted]".to_owned();
        }
        match &self.data {
            Data::List(items) => format!("a list of {}", items.len()),
            Data::Object(_) => "an object".to_owned(),
            _ => {
                let text = self.to_json();
                let text = secret::masked(&text);
                match text.char_indices().nth(60) {
                    Some((end, _)) => format!("{}…", &text[..end]),
                    None => text.into_owned(),
                }
            }
        }
    }

    /// The name of the value's type, with its article, as messages use it.
    pub fn type_name(&self) -> &'static str {
        match self.data {
            Data::Null => "null",
            Data::Bool(_) => "a boolean",
            Data::Number(_) => "a number",
            Data::Text(_) => "a string",
            Data::List(_) => "a list",
            Data::Object(_) => "an object",
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.masked {
            return f.write_str("[redacted]");
        }
        self.data.fmt(f)
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
