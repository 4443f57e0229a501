//! `fmt.Sprintf`: the format, its flags, and the value of each verb.

use super::verb::argument;
use super::{is_full, write_plain};
use crate::config::template::value::Value;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    pub(super) plus: bool,
    pub(super) minus: bool,
    pub(super) sharp: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
}

/// The largest width or precision that Go accepts.
const MAX_WIDTH: i64 = 1_000_000;

/// `fmt.Sprintf`. Errors do not fail; they print `%!verb(…)`.
pub(in crate::config::template) fn sprintf(format: &[u8], values: &[Value]) -> Vec<u8> {
    let mut printer = Printer {
        format,
        at: 0,
        values,
        next: 0,
        reordered: false,
        out: Vec::new(),
    };
    printer.run();
    printer.out
}

struct Printer<'a> {
    format: &'a [u8],
    at: usize,
    values: &'a [Value],
    next: usize,
    reordered: bool,
    out: Vec<u8>,
}

impl Printer<'_> {
    fn run(&mut self) {
        while self.at < self.format.len() && !is_full(&self.out) {
            let rest = &self.format[self.at..];
            let text = rest
                .iter()
                .position(|byte| *byte == b'%')
                .unwrap_or(rest.len());
            self.out.extend_from_slice(&rest[..text]);
            self.at += text;
            if self.at < self.format.len() {
                self.at += 1;
                self.directive();
            }
        }
        if !self.reordered && self.next < self.values.len() {
            self.extra();
        }
    }

    fn peek(&self) -> Option<u8> {
        self.format.get(self.at).copied()
    }

    fn directive(&mut self) {
        let mut flags = self.flags();
        if self.sizes(&mut flags).is_err() {
            return self.bad_index();
        }
        self.verb(flags);
    }

    fn flags(&mut self) -> Flags {
        let mut flags = Flags::default();
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => flags.sharp = true,
                b'0' => flags.zero = true,
                b'+' => flags.plus = true,
                b'-' => flags.minus = true,
                b' ' => flags.space = true,
                _ => break,
            }
            self.at += 1;
        }
        flags
    }

    /// Width and precision, each with an optional index before it, and the index before the verb.
    fn sizes(&mut self, flags: &mut Flags) -> Result<(), ()> {
        let mut indexed = self.index()?;
        if self.peek() == Some(b'*') {
            self.at += 1;
            match self.star() {
                Some(width) => {
                    flags.minus |= width < 0;
                    flags.width = Some(width.unsigned_abs() as usize);
                }
                None => self.out.extend_from_slice(b"%!(BADWIDTH)"),
            }
            indexed = false;
        } else if let Some(width) = self.number() {
            flags.width = Some(width);
            if indexed {
                return Err(());
            }
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if indexed {
                return Err(());
            }
            indexed = self.precision(flags)?;
        }
        if !indexed {
            self.index()?;
        }
        Ok(())
    }

    /// The precision after the point. Returns whether an index was read that belongs to the verb.
    fn precision(&mut self, flags: &mut Flags) -> Result<bool, ()> {
        let indexed = self.index()?;
        if self.peek() != Some(b'*') {
            flags.precision = Some(self.number().unwrap_or(0));
            return Ok(indexed);
        }
        self.at += 1;
        match self.star() {
            Some(precision) if precision >= 0 => flags.precision = Some(precision as usize),
            Some(_) => {}
            None => self.out.extend_from_slice(b"%!(BADPREC)"),
        }
        Ok(false)
    }

    fn verb(&mut self, mut flags: Flags) {
        let Some(verb) = self.letter() else {
            return self.out.extend_from_slice(b"%!(NOVERB)");
        };
        self.at = (self.at + verb.len_utf8()).min(self.format.len());
        if verb == '%' {
            return self.out.push(b'%');
        }
        let Some(value) = self.values.get(self.next) else {
            return self
                .out
                .extend_from_slice(format!("%!{verb}(MISSING)").as_bytes());
        };
        self.next += 1;
        // `%+v` asks for the names of fields, not for a sign.
        flags.plus &= verb != 'v';
        argument(&mut self.out, value, verb, flags, 0);
    }

    fn bad_index(&mut self) {
        let verb = self.letter().unwrap_or('!');
        self.at = (self.at + verb.len_utf8()).min(self.format.len());
        self.out
            .extend_from_slice(format!("%!{verb}(BADINDEX)").as_bytes());
    }

    /// The character at the current position.
    fn letter(&self) -> Option<char> {
        let rest = self.format.get(self.at..).unwrap_or_default();
        let rest = &rest[..rest.len().min(4)];
        String::from_utf8_lossy(rest).chars().next()
    }

    /// A number in the format. As in Go, one that is too large ends the format, which then has no verb.
    fn number(&mut self) -> Option<usize> {
        let start = self.at;
        let mut value: usize = 0;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            if value > MAX_WIDTH as usize {
                self.at = self.format.len();
                return None;
            }
            value = value * 10 + usize::from(byte - b'0');
            self.at += 1;
        }
        (self.at > start).then_some(value)
    }

    fn star(&mut self) -> Option<i64> {
        let value = self.values.get(self.next).cloned();
        self.next += 1;
        match value {
            Some(Value::Int(value) | Value::Int64(value))
                if value.unsigned_abs() <= MAX_WIDTH as u64 =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// `[2]` before a verb or a star.
    fn index(&mut self) -> Result<bool, ()> {
        if self.peek() != Some(b'[') {
            return Ok(false);
        }
        self.reordered = true;
        let Some(close) = self.format[self.at..].iter().position(|byte| *byte == b']') else {
            self.at += 1;
            return Err(());
        };
        let inner = &self.format[self.at + 1..self.at + close];
        self.at += close + 1;
        let number = std::str::from_utf8(inner)
            .ok()
            .and_then(|text| text.parse::<usize>().ok());
        match number {
            Some(number) if number >= 1 && number <= self.values.len() => {
                self.next = number - 1;
                Ok(true)
            }
            _ => Err(()),
        }
    }

    fn extra(&mut self) {
        self.out.extend_from_slice(b"%!(EXTRA ");
        for (index, value) in self.values[self.next..].iter().enumerate() {
            if index > 0 {
                self.out.extend_from_slice(b", ");
            }
            if value.is_nothing() {
                self.out.extend_from_slice(b"<nil>");
                continue;
            }
            self.out.extend_from_slice(value.type_name().as_bytes());
            self.out.push(b'=');
            write_plain(&mut self.out, value, 0);
        }
        self.out.push(b')');
    }
}
