//! Tokens inside an action.

use super::*;
use crate::config::template::format;

impl Lexer<'_> {
    pub(super) fn inside(&mut self) -> Token {
        if let Some(trims) = self.at_right() {
            if self.parens == 0 {
                return self.right_delimiter(trims);
            }
            return self.error("unclosed left paren".to_owned());
        }
        let Some(first) = self.peek() else {
            return self.error("unclosed action".to_owned());
        };
        match first {
            _ if is_space(first) => self.space(),
            '=' => self.single(Kind::Assign),
            ':' => {
                self.advance();
                if self.advance() == Some('=') {
                    self.token(Kind::Declare)
                } else {
                    self.error("expected :=".to_owned())
                }
            }
            '|' => self.single(Kind::Pipe),
            '"' => self.quoted('"', "unterminated quoted string", Kind::String),
            '\'' => self.quoted('\'', "unterminated character constant", Kind::CharConstant),
            '`' => self.raw_quoted(),
            '$' => {
                self.advance();
                self.name(Kind::Variable)
            }
            '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.advance();
                self.name(Kind::Field)
            }
            '.' | '+' | '-' | '0'..='9' => self.number(),
            _ if is_name(first) => self.identifier(),
            '(' => {
                self.parens += 1;
                self.single(Kind::LeftParen)
            }
            ')' => {
                self.parens -= 1;
                if self.parens < 0 {
                    self.advance();
                    return self.error("unexpected right paren".to_owned());
                }
                self.single(Kind::RightParen)
            }
            _ if first.is_ascii_graphic() => self.single(Kind::Char),
            _ => {
                let text = format!("unrecognized character in action: {}", code_point(first));
                self.error(text)
            }
        }
    }

    fn single(&mut self, kind: Kind) -> Token {
        self.advance();
        self.token(kind)
    }

    fn space(&mut self) -> Token {
        let mut count = 0;
        while self.peek().is_some_and(is_space) {
            // A minus after the last space belongs to the closing delimiter.
            if self.at_right() == Some(true) {
                if count == 0 {
                    return self.right_delimiter(true);
                }
                break;
            }
            self.advance();
            count += 1;
        }
        self.token(Kind::Space)
    }

    fn quoted(&mut self, quote: char, unterminated: &str, kind: Kind) -> Token {
        self.advance();
        loop {
            match self.advance() {
                Some('\\') => match self.advance() {
                    Some(escaped) if escaped != '\n' => {}
                    _ => return self.error(unterminated.to_owned()),
                },
                None | Some('\n') => return self.error(unterminated.to_owned()),
                Some(last) if last == quote => return self.token(kind),
                Some(_) => {}
            }
        }
    }

    fn raw_quoted(&mut self) -> Token {
        self.advance();
        loop {
            match self.advance() {
                None => return self.error("unterminated raw quoted string".to_owned()),
                Some('`') => return self.token(Kind::RawString),
                Some(_) => {}
            }
        }
    }

    /// The name after `.` or `$`.
    fn name(&mut self, kind: Kind) -> Token {
        if self.at_terminator() {
            return self.token(if kind == Kind::Field { Kind::Dot } else { kind });
        }
        self.word(kind)
    }

    fn word(&mut self, kind: Kind) -> Token {
        while self.peek().is_some_and(is_name) {
            self.advance();
        }
        if !self.at_terminator() {
            let found = self.peek().map_or_else(String::new, code_point);
            return self.error(format!("bad character {found}"));
        }
        self.token(kind)
    }

    fn identifier(&mut self) -> Token {
        let mut token = self.word(Kind::Identifier);
        if token.kind == Kind::Identifier {
            token.kind = match token.text.as_str() {
                "true" | "false" => Kind::Bool,
                word => Kind::keyword(word).unwrap_or(Kind::Identifier),
            };
        }
        token
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(next) => is_space(next) || self.rest().starts_with(RIGHT),
        }
    }

    fn number(&mut self) -> Token {
        if !self.scan_number() {
            return self.bad_number();
        }
        if !matches!(self.peek(), Some('+' | '-')) {
            return self.token(Kind::Number);
        }
        if self.scan_number() && self.input[..self.position].ends_with('i') {
            return self.token(Kind::Complex);
        }
        self.bad_number()
    }

    fn bad_number(&mut self) -> Token {
        let text = format::quoted(&self.input.as_bytes()[self.start..self.position]);
        self.error(format!("bad number syntax: {text}"))
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        let exponent = match digits.len() {
            11 => self.accept("eE"),
            23 => self.accept("pP"),
            _ => false,
        };
        if exponent {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        self.accept("i");
        if self.peek().is_some_and(is_name) {
            self.advance();
            return false;
        }
        true
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.peek().is_some_and(|next| valid.contains(next));
        if found {
            self.advance();
        }
        found
    }

    fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }
}
