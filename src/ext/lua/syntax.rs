//! Rewrites gopher-lua's extensions of Lua 5.1 in Lua 5.1: empty statements, calls whose arguments begin on a new
//! line, `goto` and labels (see `goto`), and the length of tables that have a `__len`.
//!
//! The interpreter of Lua 5.1 rejects the first three. Only a text that it rejects is rewritten, and lines keep their
//! numbers.

use super::goto;

/// The name of the function in `prelude.lua` that respects `__len`.
const LENGTH: &str = "_LENGTH_OF";

/// Why a text cannot be rewritten, and the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) text: String,
    pub(super) line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Keyword,
    Number,
    Text,
    Sign,
}

/// A word or an operator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    /// The offset of its first byte.
    pub(super) at: usize,
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    pub(super) fn is(&self, text: &str) -> bool {
        self.text == text && self.kind != Kind::Text
    }

    pub(super) fn is_name(&self) -> bool {
        self.kind == Kind::Name
    }
}

/// Changes to a text by byte offset. Those at the same offset keep their order.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(usize, usize, String)>);

impl Edits {
    pub(super) fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.0.push((at, 0, text.into()));
    }

    pub(super) fn replace(&mut self, token: &Token<'_>, text: &str) {
        self.0.push((token.at, token.text.len(), text.to_owned()));
    }

    fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|(at, ..)| *at);
        let mut out = String::with_capacity(text.len() + 256);
        let mut done = 0;
        for (at, removed, new) in self.0 {
            out.push_str(text.get(done..at).unwrap_or_default());
            out.push_str(&new);
            done = done.max(at + removed);
        }
        out.push_str(text.get(done..).unwrap_or_default());
        out
    }
}

/// The text without the syntax that Lua 5.1 does not support. `None` if it contains no such syntax, or is not Lua.
///
/// # Errors
/// A `goto` cannot be rewritten.
pub(super) fn rewritten(text: &str) -> Result<Option<String>, Unfit> {
    let Some(tokens) = tokens(text) else {
        return Ok(None);
    };
    let mut edits = Edits::default();
    goto::rewrite(&tokens, &mut edits)?;
    empty_statements(&tokens, &mut edits);
    calls_on_new_lines(&tokens, &mut edits);
    Ok((!edits.0.is_empty()).then(|| edits.apply(text)))
}

/// The text with `#` replaced by a function that respects a table's `__len`.
pub(super) fn with_lengths(text: &str) -> Option<String> {
    let tokens = tokens(text)?;
    let mut edits = Edits::default();
    for (index, token) in tokens.iter().enumerate() {
        if token.is("#")
            && let Some(last) = operand(&tokens, index + 1)
        {
            edits.replace(token, &format!(" {LENGTH}("));
            edits.insert(last.end(), ")");
        }
    }
    (!edits.0.is_empty()).then(|| edits.apply(text))
}

/// What a rewritten text takes at most while it is rewritten: its tokens and its changes, in vectors that grow.
pub(super) fn rewriting_bytes(text: &str) -> usize {
    const EACH: usize = 3 * (size_of::<Token<'_>>() + size_of::<(usize, usize, String)>()) + 32;
    let mut is_word = false;
    let begins = text.bytes().filter(|byte| {
        let was_word =
            std::mem::replace(&mut is_word, byte.is_ascii_alphanumeric() || *byte == b'_');
        let continues = is_word && was_word;
        !continues && !byte.is_ascii_whitespace()
    });
    begins.count() * EACH + 3 * text.len()
}

/// Whether a text uses `__len`.
pub(super) fn speaks_of_len(text: &str) -> bool {
    text.contains("__len")
}

/// The last token of the operand of a unary operator.
fn operand<'a, 't>(tokens: &'a [Token<'t>], at: usize) -> Option<&'a Token<'t>> {
    let first = tokens.get(at)?;
    if first.is("#") || first.is("-") || first.is("not") {
        return operand(tokens, at + 1);
    }
    let mut last = match first.text {
        "(" | "{" => matching(tokens, at)?,
        "function" if first.kind == Kind::Keyword => return None,
        _ => at,
    };
    if !first.is_name() && !first.is("(") {
        return tokens.get(last);
    }
    loop {
        let next = tokens.get(last + 1);
        last = match next.map(|next| (next.kind, next.text)) {
            Some((Kind::Sign, ".")) => last + 2,
            Some((Kind::Sign, ":")) => last + 2,
            Some((Kind::Sign, "(" | "[" | "{")) => matching(tokens, last + 1)?,
            Some((Kind::Text, _)) => last + 1,
            _ => return tokens.get(last),
        };
    }
}

/// The index of the bracket that closes the one at `at`.
pub(super) fn matching(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let mut open = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        if token.kind != Kind::Sign {
            continue;
        }
        match token.text {
            "(" | "[" | "{" => open += 1,
            ")" | "]" | "}" => {
                open = open.checked_sub(1)?;
                if open == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// Removes each `;` at a position where a statement could begin.
fn empty_statements(tokens: &[Token<'_>], edits: &mut Edits) {
    let mut begins = true;
    let mut parameters = None;
    for (index, token) in tokens.iter().enumerate() {
        if token.is(";") && begins {
            edits.replace(token, " ");
            continue;
        }
        if token.is("function") {
            parameters = end_of_parameters(tokens, index);
        }
        begins = matches!(token.text, "do" | "then" | "else" | "repeat" | ";" | "::")
            && token.kind != Kind::Text
            || parameters == Some(index);
    }
}

/// The `)` of the parameters of the `function` at `at`.
pub(super) fn end_of_parameters(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let open = (at..tokens.len()).find(|index| tokens.get(*index).is_some_and(|t| t.is("(")))?;
    matching(tokens, open)
}

/// Lua 5.1 reports it as ambiguous, but gopher-lua takes it for a call. The bracket is moved to the end of the
/// previous line.
fn calls_on_new_lines(tokens: &[Token<'_>], edits: &mut Edits) {
    let mut header_ends = match tokens.first() {
        Some(first) if first.is("function") => {
            end_of_parameters(tokens, 0).map_or(0, |end| end + 1)
        }
        _ => 0,
    };
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    for (index, (before, token)) in pairs.enumerate() {
        let index = index + 1;
        if token.is("function") {
            header_ends = end_of_parameters(tokens, index).map_or(index, |end| end + 1);
        }
        if !token.is("(") || token.line == before.line || index <= header_ends {
            continue;
        }
        let is_called = before.is_name() || before.is(")") || before.is("]");
        if is_called && !is_local_list(tokens, index) && !is_goto(tokens, index) {
            edits.insert(before.end(), "(");
            edits.replace(token, " ");
        }
    }
}

/// Whether the names directly before belong to a `local`.
fn is_local_list(tokens: &[Token<'_>], index: usize) -> bool {
    let before = tokens.get(..index).unwrap_or_default().iter().rev();
    let first = before
        .clone()
        .find(|token| !token.is_name() && !token.is(","));
    first.is_some_and(|token| token.is("local"))
}

/// Whether the name before is that of a label.
fn is_goto(tokens: &[Token<'_>], index: usize) -> bool {
    let at = index.checked_sub(2).and_then(|at| tokens.get(at));
    at.is_some_and(|token| token.is("goto"))
}

const KEYWORDS: [&str; 21] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local",
    "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// Splits a text into tokens. `None` if a string or a comment has no end.
pub(super) fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(byte) = text.as_bytes().get(at) {
        let rest = text.get(at..)?;
        let (length, kind) = match byte {
            byte if byte.is_ascii_whitespace() => (1, None),
            b'-' if rest.starts_with("--") => (comment(rest)?, None),
            b'"' | b'\'' => (quoted(rest)?, Some(Kind::Text)),
            b'[' if level(rest).is_some() => (long(rest)?, Some(Kind::Text)),
            byte if byte.is_ascii_digit() => (number(rest), Some(Kind::Number)),
            b'.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => {
                (number(rest), Some(Kind::Number))
            }
            byte if is_word(*byte) => {
                let length = rest.bytes().take_while(|byte| is_word(*byte)).count();
                let word = rest.get(..length)?;
                let kind = if KEYWORDS.contains(&word) {
                    Kind::Keyword
                } else {
                    Kind::Name
                };
                (length, Some(kind))
            }
            _ => (sign(rest), Some(Kind::Sign)),
        };
        let token = rest.get(..length)?;
        if let Some(kind) = kind {
            tokens.push(Token {
                kind,
                text: token,
                at,
                line,
            });
        }
        line += token.bytes().filter(|byte| *byte == b'\n').count();
        at += length;
    }
    Some(tokens)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn sign(rest: &str) -> usize {
    const LONG: [&str; 7] = ["...", "..", "==", "~=", "<=", ">=", "::"];
    let long = LONG.iter().find(|sign| rest.starts_with(**sign));
    long.map_or_else(
        || rest.chars().next().map_or(1, char::len_utf8),
        |sign| sign.len(),
    )
}

fn number(rest: &str) -> usize {
    let mut before = b'0';
    for (index, byte) in rest.bytes().enumerate() {
        let is_sign = matches!(byte, b'+' | b'-') && matches!(before, b'e' | b'E');
        if !is_word(byte) && byte != b'.' && !is_sign {
            return index;
        }
        before = byte;
    }
    rest.len()
}

fn comment(rest: &str) -> Option<usize> {
    let inner = rest.get(2..)?;
    match level(inner) {
        Some(_) => long(inner).map(|length| length + 2),
        None => Some(rest.find('\n').unwrap_or(rest.len())),
    }
}

fn quoted(rest: &str) -> Option<usize> {
    let quote = rest.as_bytes().first()?;
    let mut bytes = rest.bytes().enumerate().skip(1);
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            byte if byte == *quote => return Some(index + 1),
            _ => {}
        }
    }
    None
}

/// The number of `=` in `[==[`.
fn level(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('[')?;
    let level = inner.bytes().take_while(|byte| *byte == b'=').count();
    inner.get(level..)?.starts_with('[').then_some(level)
}

fn long(rest: &str) -> Option<usize> {
    let close = format!("]{}]", "=".repeat(level(rest)?));
    rest.find(&close).map(|at| at + close.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_take_no_more_than_is_told() {
        for text in [";".repeat(1000), "a ".repeat(1000), "f(1)".repeat(1000)] {
            let tokens = tokens(&text).unwrap();
            let changes = tokens.len() * size_of::<(usize, usize, String)>();
            let held = tokens.capacity() * size_of::<Token<'_>>() + changes;
            assert!(rewriting_bytes(&text) >= held, "{text}");
        }
    }

    #[test]
    fn words_and_operators_are_recognised() {
        let text = "a=[[x\n]]..'\\'' -- c\n--[=[\n]]]=] 0x1F+1e-5 ::l:: é";
        let found = tokens(text).unwrap();
        let texts: Vec<&str> = found.iter().map(|token| token.text).collect();
        let expected = [
            "a", "=", "[[x\n]]", "..", "'\\''", "0x1F", "+", "1e-5", "::", "l", "::", "é",
        ];
        assert_eq!(texts, expected);
        assert_eq!(found.last().unwrap().line, 4);
        for unended in ["'a", "[[a", "--[[a", "'a\\'"] {
            assert!(tokens(unended).is_none(), "{unended}");
        }
    }

    #[test]
    fn empty_statements_and_calls_on_new_lines_are_rewritten() {
        for (text, expected) in [
            ("f();;g()", "f(); g()"),
            (";f()", " f()"),
            ("if a then ; f() else ; end", "if a then   f() else   end"),
            ("local f = function(a) ; end", "local f = function(a)   end"),
            ("f\n(1)", "f(\n 1)"),
            ("t[1]\n(1)", "t[1](\n 1)"),
            ("local x\n(f or g)()", ""),
            ("local x = 'a'\n(f)()", ""),
            ("function f\n(a)\n(g)()\nend", ""),
            ("s = ';;'", ""),
        ] {
            let found = rewritten(text).unwrap();
            assert_eq!(found.unwrap_or_default(), expected, "{text}");
        }
    }

    #[test]
    fn lengths_end_after_their_operand() {
        for (text, expected) in [
            ("return #t", "return  _LENGTH_OF(t)"),
            (
                "return #t.a[1]:f(2) + 1",
                "return  _LENGTH_OF(t.a[1]:f(2)) + 1",
            ),
            (
                "x = #{1,2}, #'ab'",
                "x =  _LENGTH_OF({1,2}),  _LENGTH_OF('ab')",
            ),
            (
                "for i = 1, #(a or b) do end",
                "for i = 1,  _LENGTH_OF((a or b)) do end",
            ),
            ("t[#t + 1] = -#t", "t[ _LENGTH_OF(t) + 1] = - _LENGTH_OF(t)"),
        ] {
            assert_eq!(with_lengths(text).unwrap(), expected);
        }
    }
}
