//! Escaped characters, and bracket expressions.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::super::class::{fold, of, posix, single};
use super::{Parsed, Parser, before, rejected};

impl<'p> Parser<'p> {
    /// An escaped character, outside or inside a class.
    pub(super) fn escaped_letter(&mut self) -> Parsed<char> {
        let from = self.rest;
        self.skip(1);
        let Some(letter) = self.rest.chars().next() else {
            return rejected("trailing backslash at end of expression", "");
        };
        self.skip(letter.len_utf8());
        let found = match letter {
            '0' => self.octal(0),
            // A single digit would be a back-reference.
            '1'..='7'
                if self
                    .rest
                    .starts_with(|next: char| matches!(next, '0'..='7')) =>
            {
                self.octal(letter.to_digit(8).unwrap_or_default())
            }
            'x' => self.hexadecimal(),
            'a' => Some('\u{7}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(other),
            _ => None,
        };
        match found {
            Some(found) => Ok(found),
            None => rejected("invalid escape sequence", before(from, self.rest)),
        }
    }

    /// Up to two more digits.
    fn octal(&mut self, first: u32) -> Option<char> {
        let mut code = first;
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|next| next.to_digit(8)) else {
                break;
            };
            self.skip(1);
            code = code * 8 + digit;
        }
        char::from_u32(code)
    }

    /// `7F` or `{10FFFF}`.
    fn hexadecimal(&mut self) -> Option<char> {
        let digits = if self.eat("{") {
            let end = self.rest.find('}')?;
            let digits = self.rest.get(..end)?;
            self.skip(end + 1);
            digits
        } else {
            let digits = self.rest.get(..2)?;
            self.skip(2);
            digits
        };
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)
    }

    /// `[…]`
    pub(super) fn brackets(&mut self) -> Parsed {
        let from = self.rest;
        self.skip(1);
        let negated = self.eat("^");
        let mut class = ClassUnicode::empty();
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            if let Some(posix) = self.posix()? {
                class.union(&posix);
            } else if let Some(named) = self.named_class()? {
                class.union(&named);
            } else {
                let mut range = self.range(from)?;
                if self.flags.fold {
                    fold(&mut range);
                }
                class.union(&range);
            }
        }
        self.skip(1);
        if negated {
            class.negate();
        }
        self.class(&class);
        Ok(())
    }

    /// `[:alpha:]`, `[:^alpha:]`
    fn posix(&mut self) -> Parsed<Option<ClassUnicode>> {
        let Some(inner) = self.rest.strip_prefix("[:") else {
            return Ok(None);
        };
        let Some(end) = inner.find(":]") else {
            return Ok(None);
        };
        let name = inner.get(..end).unwrap_or_default();
        let whole = self.rest.get(..end + 4).unwrap_or_default();
        let (name, negated) = match name.strip_prefix('^') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let Some(ranges) = posix(name) else {
            return rejected("invalid character class range", whole);
        };
        self.skip(whole.len());
        Ok(Some(self.folded(of(ranges), negated)))
    }

    /// One letter, or two with a dash in between.
    fn range(&mut self, class: &'p str) -> Parsed<ClassUnicode> {
        let from = self.rest;
        let low = self.class_letter(class)?;
        let is_range = self.rest.starts_with('-') && self.rest.len() > 1;
        if !is_range || self.rest.starts_with("-]") {
            return Ok(single(low));
        }
        self.skip(1);
        let high = self.class_letter(class)?;
        if low <= high {
            Ok(ClassUnicode::new([ClassUnicodeRange::new(low, high)]))
        } else {
            rejected("invalid character class range", before(from, self.rest))
        }
    }

    fn class_letter(&mut self, class: &'p str) -> Parsed<char> {
        match self.rest.chars().next() {
            None => rejected("missing closing ]", class),
            Some('\\') => self.escaped_letter(),
            Some(letter) => {
                self.skip(letter.len_utf8());
                Ok(letter)
            }
        }
    }
}
