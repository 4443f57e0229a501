//! A strict JSON parser that keeps positions, the text of numbers, and the order of keys.

mod hints;
mod members;

use super::path::Path;
use super::report::{Report, SyntaxError};
use super::value::{Data, Member, Position, Value};
use hints::{
    comment, in_place_of_comma, in_place_of_key, in_place_of_value, trailing_comma, typographic,
    unclosed,
};
use members::Members;

/// Deeper nesting is rejected, so that a malicious file cannot exhaust the stack.
const MAX_DEPTH: usize = 128;

/// Parses a text. Duplicate keys give a warning, and the last one wins.
///
/// # Errors
/// The first syntax error (RFC 8259), with its position.
pub fn parse(text: &str, report: &Report) -> Result<Value, SyntaxError> {
    let mut parser = Parser {
        bytes: text.as_bytes(),
        text,
        offset: 0,
        line: 1,
        mark: (0, 1),
        report,
    };
    parser.document().map_err(|mut error| {
        if parser.offset == text.len() && error.hint.is_none() {
            error.hint = unclosed(text).map(Into::into);
        }
        error
    })
}

struct Parser<'t> {
    bytes: &'t [u8],
    text: &'t str,
    offset: usize,
    line: u32,
    /// An offset on the current line and its column. Columns are counted from here, so that long lines do not take
    /// quadratic time.
    mark: (usize, u32),
    report: &'t Report,
}

/// The way from the root to a value. It becomes a path only for a message: nearly all values need none.
enum Trail<'p> {
    Root,
    Key(&'p Trail<'p>, &'p str),
    Index(&'p Trail<'p>, usize),
}

impl Trail<'_> {
    fn path(&self) -> Path {
        match self {
            Trail::Root => Path::root(),
            Trail::Key(parent, name) => parent.path().key(name),
            Trail::Index(parent, index) => parent.path().index(*index),
        }
    }
}

impl Parser<'_> {
    fn document(&mut self) -> Result<Value, SyntaxError> {
        if self.text.starts_with('\u{feff}') {
            return Err(self.error(
                "the file starts with a byte order mark",
                Some("save it as UTF-8 without BOM"),
            ));
        }
        self.blanks();
        let value = self.value(&Trail::Root, 0)?;
        self.blanks();
        match self.peek() {
            None => Ok(value),
            found => {
                let hint =
                    comment(found).unwrap_or("the file ends after the first brace that closes");
                Err(self.unexpected("after top-level value", Some(hint)))
            }
        }
    }

    fn value(&mut self, trail: &Trail<'_>, depth: usize) -> Result<Value, SyntaxError> {
        let at = self.mark();
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply (more than 128 levels)", None));
        }
        let data = match self.peek() {
            Some(b'{') => self.object(trail, depth)?,
            Some(b'[') => self.list(trail, depth)?,
            Some(b'"') => Data::Text(self.string()?),
            Some(b't') => self.word("true", Data::Bool(true))?,
            Some(b'f') => self.word("false", Data::Bool(false))?,
            Some(b'n') => self.word("null", Data::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            found => {
                return Err(
                    self.unexpected("looking for beginning of value", in_place_of_value(found))
                );
            }
        };
        Ok(Value::new(at, data))
    }

    fn object(&mut self, trail: &Trail<'_>, depth: usize) -> Result<Data, SyntaxError> {
        self.offset += 1;
        let mut members = Members::default();
        self.blanks();
        if self.take(b'}') {
            return Ok(Data::Object(members.list));
        }
        loop {
            self.blanks();
            let at = self.mark();
            if self.peek() != Some(b'"') {
                let hint =
                    trailing_comma(self.peek(), b'}').or_else(|| in_place_of_key(self.peek()));
                return Err(self.unexpected("looking for beginning of object key string", hint));
            }
            let name = self.string()?;
            self.blanks();
            if !self.take(b':') {
                let hint = (self.peek() == Some(b'=')).then_some("a colon follows a key, not =");
                return Err(self.unexpected("after object key", hint));
            }
            self.blanks();
            let value = self.value(&Trail::Key(trail, &name), depth + 1)?;
            let member = Member { name, at, value };
            match members.index_of(&member.name) {
                Some(index) => {
                    let (path, at) = (trail.path().key(&member.name), member.at);
                    let lost = std::mem::replace(&mut members.list[index], member);
                    self.report.duplicate(&lost.name, at, &path);
                    if lost.value.to_json() != members.list[index].value.to_json() {
                        self.report.lose(&path, lost);
                    }
                }
                None => members.push(member),
            }
            self.blanks();
            if self.take(b'}') {
                return Ok(Data::Object(members.list));
            }
            if !self.take(b',') {
                return Err(self.no_comma("after object key:value pair"));
            }
        }
    }

    fn list(&mut self, trail: &Trail<'_>, depth: usize) -> Result<Data, SyntaxError> {
        self.offset += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.take(b']') {
            return Ok(Data::List(items));
        }
        loop {
            self.blanks();
            if self.peek() == Some(b']') {
                return Err(self.unexpected(
                    "looking for beginning of value",
                    trailing_comma(self.peek(), b']'),
                ));
            }
            items.push(self.value(&Trail::Index(trail, items.len()), depth + 1)?);
            self.blanks();
            if self.take(b']') {
                return Ok(Data::List(items));
            }
            if !self.take(b',') {
                return Err(self.no_comma("after array element"));
            }
        }
    }

    /// What stands where a comma or the closing bracket is expected.
    fn no_comma(&self, place: &str) -> SyntaxError {
        let mut error = self.unexpected(place, in_place_of_comma(self.peek()));
        if matches!(self.peek(), Some(b'}' | b']')) {
            error.hint = unclosed(&self.text[..self.offset]).map(Into::into);
        }
        error
    }

    fn word(&mut self, word: &str, data: Data) -> Result<Data, SyntaxError> {
        if self.bytes[self.offset..].starts_with(word.as_bytes()) {
            self.offset += word.len();
            return Ok(data);
        }
        Err(self.unexpected("looking for beginning of value", None))
    }

    fn number(&mut self) -> Result<Data, SyntaxError> {
        let start = self.offset;
        self.take(b'-');
        if self.take(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.unexpected("after a leading zero", None));
            }
        } else {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.offset += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.offset += 1;
            }
            self.digits()?;
        }
        Ok(Data::Number(self.text[start..self.offset].into()))
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.unexpected("in numeric literal", None));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.offset += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Box<str>, SyntaxError> {
        self.offset += 1;
        let mut out = String::new();
        loop {
            let run = self.bytes[self.offset..]
                .iter()
                .take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20))
                .count();
            let piece = &self.text[self.offset..self.offset + run];
            self.offset += run;
            if out.is_empty() && self.peek() == Some(b'"') {
                self.offset += 1;
                return Ok(piece.into());
            }
            out.push_str(piece);
            match self.peek() {
                Some(b'"') => {
                    self.offset += 1;
                    return Ok(out.into());
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return Err(self.unexpected("in string literal", None)),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        self.offset += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.unexpected("in string escape code", None)),
        };
        self.offset += 1;
        Ok(c)
    }

    /// `\uXXXX`, or two of them for characters beyond the basic plane. An unpaired half becomes U+FFFD.
    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or('\u{fffd}'));
        }
        if !self.bytes[self.offset..].starts_with(b"\\u") {
            return Ok('\u{fffd}');
        }
        let back = self.offset;
        self.offset += 1;
        let low = self.hex()?;
        if !(0xdc00..0xe000).contains(&low) {
            self.offset = back;
            return Ok('\u{fffd}');
        }
        let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        Ok(char::from_u32(code).unwrap_or('\u{fffd}'))
    }

    fn hex(&mut self) -> Result<u32, SyntaxError> {
        self.offset += 1;
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape", None));
            };
            code = code * 16 + digit;
            self.offset += 1;
        }
        Ok(code)
    }

    fn blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' => self.offset += 1,
                b'\n' => {
                    self.offset += 1;
                    self.line += 1;
                    self.mark = (self.offset, 1);
                }
                _ => return,
            }
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        if there {
            self.offset += 1;
        }
        there
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.offset).copied()
    }

    fn position(&self) -> Position {
        let (offset, column) = self.mark;
        let characters = self.bytes[offset..self.offset]
            .iter()
            .filter(|byte| (**byte & 0xc0) != 0x80)
            .count();
        Position::new(self.line, column + characters as u32)
    }

    fn mark(&mut self) -> Position {
        let at = self.position();
        self.mark = (self.offset, at.column);
        at
    }

    fn unexpected(&self, place: &str, hint: Option<&'static str>) -> SyntaxError {
        let rest = self.text.get(self.offset..);
        let found = rest.and_then(|rest| rest.chars().next());
        let text = match found {
            None => "unexpected end of JSON input".to_owned(),
            Some(c) => format!("invalid character {c:?} {place}"),
        };
        self.error(&text, typographic(found).or(hint))
    }

    fn error(&self, text: &str, hint: Option<&'static str>) -> SyntaxError {
        SyntaxError {
            at: self.position(),
            text: text.to_owned(),
            hint: hint.map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::members::FEW;
    use super::*;

    fn error(text: &str) -> String {
        let found = parse(text, &Report::new()).unwrap_err();
        format!("{}: {}", found.at, found.text)
    }

    #[test]
    fn positions_count_characters_from_one() {
        let report = Report::new();
        let value = parse("{\n  \"é\": [1, \"ü\", true]\n}", &report).unwrap();
        let member = &value.members()[0];
        assert_eq!(member.at, Position::new(2, 3));
        let Data::List(items) = &member.value.data else {
            panic!("a list")
        };
        assert_eq!(items[2].at, Position::new(2, 17));
    }

    #[test]
    fn syntax_errors_have_a_position() {
        assert_eq!(error(""), "1:1: unexpected end of JSON input");
        assert_eq!(
            error("{\"a\": 1,\n}"),
            "2:1: invalid character '}' looking for beginning of object key string"
        );
        assert_eq!(
            error("[1 2]"),
            "1:4: invalid character '2' after array element"
        );
        assert_eq!(
            error("{} x"),
            "1:4: invalid character 'x' after top-level value"
        );
        assert_eq!(
            error("[01]"),
            "1:3: invalid character '1' after a leading zero"
        );
        assert_eq!(
            error("\u{feff}{}"),
            "1:1: the file starts with a byte order mark"
        );
        assert_eq!(
            error("// x\n{}"),
            "1:1: invalid character '/' looking for beginning of value"
        );
    }

    #[test]
    fn the_last_of_two_equal_keys_wins_with_a_warning() {
        let report = Report::new();
        let value = parse(r#"{"a": 1, "b": 2, "a": 3}"#, &report).unwrap();
        assert_eq!(value.to_json(), r#"{"a":3,"b":2}"#);
        assert_eq!(report.config_errors(), 0);
        assert_eq!(report.into_findings().len(), 1);
    }

    #[test]
    fn equal_keys_are_found_in_objects_of_any_size() {
        for count in [1, FEW - 1, FEW, FEW + 1, FEW + 2, 100] {
            for twice in [0, count / 2, count - 1] {
                let mut names: Vec<String> = (0..count).map(|n| format!("k{n}")).collect();
                names.push(format!("k{twice}"));
                let members: Vec<String> =
                    names.iter().map(|name| format!("{name:?}: 1")).collect();
                let text = format!(r#"{{"a": [0, {{{}}}]}}"#, members.join(", "));
                let report = Report::new();
                parse(&text, &report).unwrap();
                let findings = report.into_findings();
                assert_eq!(findings.len(), 1, "{count} {twice}");
                assert_eq!(findings[0].pointer, format!("/a/1/k{twice}"));
            }
        }
    }

    #[test]
    fn deep_nesting_is_rejected() {
        assert!(error(&"[".repeat(100_000)).contains("nested too deeply"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_parsed_as_by_serde_json(text in "[\\[\\]{}\",:0-9.eE+\\-a-z \\\\\n]{0,40}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let ours = parse(&text, &Report::new());
            // We accept numbers beyond f64, but serde_json does not.
            if theirs.is_ok() {
                prop_assert!(ours.is_ok());
            }
        }

        #[test]
        fn output_of_serde_json_is_parsed(numbers in prop::collection::vec(any::<i64>(), 0..5), text in "\\PC*") {
            let value = serde_json::json!({ "n": numbers, "t": text });
            let ours = parse(&value.to_string(), &Report::new()).unwrap();
            let back: serde_json::Value = serde_json::from_str(&ours.to_json()).unwrap();
            prop_assert_eq!(back, value);
        }
    }
}
