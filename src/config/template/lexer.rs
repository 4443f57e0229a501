//! Splits a template into tokens, as Go's `text/template/parse` does.

mod inside;

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The value is the text of the error.
    Error,
    Bool,
    /// A printable ASCII character that is a token by itself, such as `,`.
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelimiter,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelimiter,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Block,
    Break,
    Continue,
    Dot,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

impl Kind {
    fn keyword(word: &str) -> Option<Kind> {
        Some(match word {
            "block" => Kind::Block,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "nil" => Kind::Nil,
            "range" => Kind::Range,
            "template" => Kind::Template,
            "with" => Kind::With,
            _ => return None,
        })
    }

    fn is_keyword(self) -> bool {
        matches!(
            self,
            Kind::Block
                | Kind::Break
                | Kind::Continue
                | Kind::Dot
                | Kind::Define
                | Kind::Else
                | Kind::End
                | Kind::If
                | Kind::Nil
                | Kind::Range
                | Kind::Template
                | Kind::With
        )
    }
}

/// One token with its place.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// The byte offset in the template.
    pub(super) start: usize,
    pub(super) end: usize,
    /// The line of the first byte, starting at 1.
    pub(super) line: u32,
}

impl Token {
    /// The token as Go's messages show it.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Error => self.text.clone(),
            kind if kind.is_keyword() => format!("<{}>", self.text),
            _ if self.text.chars().count() > 10 => {
                let cut: String = self.text.chars().take(10).collect();
                format!("{}...", super::format::quoted(cut.as_bytes()))
            }
            _ => super::format::quoted(self.text.as_bytes()),
        }
    }
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

#[derive(Clone, Copy)]
enum State {
    Text,
    Action,
    Done,
}

/// Yields tokens on demand, so that an error after an earlier parse error is not reported first.
pub(super) struct Lexer<'t> {
    input: &'t str,
    position: usize,
    start: usize,
    line: u32,
    start_line: u32,
    parens: i32,
    state: State,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(input: &'t str) -> Lexer<'t> {
        Lexer {
            input,
            position: 0,
            start: 0,
            line: 1,
            start_line: 1,
            parens: 0,
            state: State::Text,
        }
    }

    /// The next token. After [`Kind::Eof`] or [`Kind::Error`] the same kind is returned again.
    pub(super) fn next(&mut self) -> Token {
        loop {
            let token = match self.state {
                State::Text => self.text(),
                State::Action => Some(self.inside()),
                State::Done => Some(self.token(Kind::Eof)),
            };
            if let Some(token) = token {
                if matches!(token.kind, Kind::Error | Kind::Eof) {
                    self.state = State::Done;
                }
                return token;
            }
        }
    }

    fn rest(&self) -> &'t str {
        &self.input[self.position..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.position += next.len_utf8();
        if next == '\n' {
            self.line += 1;
        }
        Some(next)
    }

    fn skip(&mut self, bytes: usize) {
        let end = self.position + bytes;
        self.line += newlines(&self.input[self.position..end]);
        self.position = end;
    }

    fn ignore(&mut self) {
        self.start = self.position;
        self.start_line = self.line;
    }

    fn token(&mut self, kind: Kind) -> Token {
        let token = Token {
            kind,
            text: self.input[self.start..self.position].to_owned(),
            start: self.start,
            end: self.position,
            line: self.start_line,
        };
        self.ignore();
        token
    }

    fn error(&mut self, text: String) -> Token {
        Token {
            kind: Kind::Error,
            text,
            start: self.start,
            end: self.position,
            line: self.start_line,
        }
    }

    /// The text before the next action. `None` if there is none, or if the action was a comment.
    fn text(&mut self) -> Option<Token> {
        let Some(length) = self.rest().find(LEFT) else {
            self.skip(self.rest().len());
            if self.position > self.start {
                return Some(self.token(Kind::Text));
            }
            return Some(self.token(Kind::Eof));
        };
        if length > 0 {
            let text = &self.rest()[..length];
            let trimmed = starts_trimming(&self.rest()[length + LEFT.len()..]);
            let kept = if trimmed {
                text.trim_end_matches(is_space).len()
            } else {
                length
            };
            self.skip(kept);
            let token = (kept > 0).then(|| self.token(Kind::Text));
            self.skip(length - kept);
            self.ignore();
            if token.is_some() {
                return token;
            }
        }
        self.left_delimiter()
    }

    fn left_delimiter(&mut self) -> Option<Token> {
        let after = &self.rest()[LEFT.len()..];
        let marker = if starts_trimming(after) { 2 } else { 0 };
        if after[marker..].starts_with("/*") {
            self.skip(LEFT.len() + marker);
            self.ignore();
            return self.comment();
        }
        self.skip(LEFT.len());
        let token = self.token(Kind::LeftDelimiter);
        self.skip(marker);
        self.ignore();
        self.parens = 0;
        self.state = State::Action;
        Some(token)
    }

    fn comment(&mut self) -> Option<Token> {
        let Some(length) = self.rest()[2..].find("*/") else {
            return Some(self.error("unclosed comment".to_owned()));
        };
        self.skip(2 + length + 2);
        let Some(trims) = self.at_right() else {
            return Some(self.error("comment ends before closing delimiter".to_owned()));
        };
        self.skip(RIGHT.len() + if trims { 2 } else { 0 });
        if trims {
            self.skip_spaces();
        }
        self.ignore();
        None
    }

    /// Whether an action ends here, and whether it trims the text after it.
    fn at_right(&self) -> Option<bool> {
        let rest = self.rest();
        if ends_trimming(rest) && rest[2..].starts_with(RIGHT) {
            return Some(true);
        }
        rest.starts_with(RIGHT).then_some(false)
    }

    fn right_delimiter(&mut self, trims: bool) -> Token {
        if trims {
            self.skip(2);
            self.ignore();
        }
        self.skip(RIGHT.len());
        let token = self.token(Kind::RightDelimiter);
        if trims {
            self.skip_spaces();
            self.ignore();
        }
        self.state = State::Text;
        token
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        let length = rest.len() - rest.trim_start_matches(is_space).len();
        self.skip(length);
    }
}

fn newlines(text: &str) -> u32 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u32
}

/// White space that trim markers remove.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn starts_trimming(after: &str) -> bool {
    let mut chars = after.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_space)
}

fn ends_trimming(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next().is_some_and(is_space) && chars.next() == Some('-')
}

/// A character as Go's `%#U` prints it.
fn code_point(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}
