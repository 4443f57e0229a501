//! Parses an expression as Go's `regexp/syntax` does, and writes the translation while it reads.

mod letters;

use std::fmt::Write as _;

use regex_syntax::hir::ClassUnicode;

use super::class::{any, fold, of, perl, push_class, push_literal, single, table};
use super::{Rejected, Use};

/// The maximum of a repetition count, and of the product of nested counts.
const MAX_REPEATS: u32 = 1000;

/// The maximum nesting of groups.
const MAX_DEPTH: usize = 200;

/// `(?imsU)`.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    fold: bool,
    lines: bool,
    dot_all: bool,
    swap_greed: bool,
}

/// The state before a group.
#[derive(Debug)]
struct Group {
    flags: Flags,
    product: u32,
}

pub(super) struct Parser<'p> {
    usage: Use,
    pattern: &'p str,
    rest: &'p str,
    out: String,
    flags: Flags,
    groups: Vec<Group>,
    /// The product of the repetition counts within the operand of the next repetition. `None` if there is no operand.
    operand: Option<u32>,
    /// The largest product of repetition counts within the group so far.
    product: u32,
    /// The start of the repetition that directly precedes, if there is one.
    repeated: Option<&'p str>,
}

type Parsed<T = ()> = Result<T, Rejected>;

fn rejected<T>(what: &'static str, part: &str) -> Parsed<T> {
    Err(Rejected {
        what,
        part: part.chars().take(80).collect(),
    })
}

/// The part of `from` before `rest`, which is its suffix.
fn before<'p>(from: &'p str, rest: &str) -> &'p str {
    from.get(..from.len() - rest.len()).unwrap_or(from)
}

impl<'p> Parser<'p> {
    pub(super) fn new(pattern: &'p str, usage: Use) -> Parser<'p> {
        Parser {
            usage,
            pattern,
            rest: pattern,
            out: String::with_capacity(pattern.len() * 2),
            flags: Flags::default(),
            groups: Vec::new(),
            operand: None,
            product: 1,
            repeated: None,
        }
    }

    pub(super) fn translated(mut self) -> Parsed<String> {
        self.parse()?;
        Ok(self.out)
    }

    fn parse(&mut self) -> Parsed {
        while let Some(letter) = self.rest.chars().next() {
            let repeated = self.repeated.take();
            match letter {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.skip(1);
                    self.out.push('|');
                    self.operand = None;
                }
                '^' if self.flags.lines => self.atom(1, "(?m:^)"),
                '^' => self.atom(1, r"\A"),
                '$' if self.flags.lines => self.atom(1, "(?m:$)"),
                '$' => self.atom(1, r"\z"),
                '.' => {
                    self.skip(1);
                    let any = any(self.flags.dot_all);
                    self.class(&any);
                }
                '[' => self.brackets()?,
                '*' | '+' | '?' => {
                    let from = self.rest;
                    self.skip(1);
                    self.repetition(from, None, repeated)?;
                }
                '{' => self.braces(repeated)?,
                '\\' => self.escape()?,
                letter => {
                    self.skip(letter.len_utf8());
                    self.literal(letter);
                }
            }
        }
        if self.groups.is_empty() {
            Ok(())
        } else {
            rejected("missing closing )", self.pattern)
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Writes an operand that a repetition may follow.
    fn atom(&mut self, length: usize, text: &str) {
        self.skip(length);
        self.out.push_str(text);
        self.operand = Some(1);
    }

    fn literal(&mut self, letter: char) {
        if self.flags.fold {
            let mut folded = single(letter);
            fold(&mut folded);
            return self.class(&folded);
        }
        push_literal(&mut self.out, letter);
        self.operand = Some(1);
    }

    fn class(&mut self, class: &ClassUnicode) {
        push_class(&mut self.out, class);
        self.operand = Some(1);
    }

    fn open(&mut self) -> Parsed {
        if self.groups.len() >= MAX_DEPTH {
            return rejected("expression nests too deeply", self.pattern);
        }
        let outer = Group {
            flags: self.flags,
            product: self.product,
        };
        if !self.rest.starts_with("(?") {
            self.skip(1);
            return self.enter(outer, "(");
        }
        let named = ["(?P<", "(?<"]
            .into_iter()
            .find(|head| self.rest.starts_with(head));
        // `(?<=` and `(?<!` are look-behinds, which RE2 does not support, and not group names.
        if let Some(head) = named {
            return self.named(head, outer);
        }
        if self.set_flags()? {
            return self.enter(outer, "(?:");
        }
        Ok(())
    }

    fn enter(&mut self, outer: Group, head: &str) -> Parsed {
        self.out.push_str(head);
        self.groups.push(outer);
        self.product = 1;
        self.operand = None;
        Ok(())
    }

    fn named(&mut self, head: &str, outer: Group) -> Parsed {
        let Some(end) = self.rest.find('>') else {
            return rejected("invalid named capture", self.rest);
        };
        let whole = self.rest.get(..=end).unwrap_or_default();
        let name = self.rest.get(head.len()..end).unwrap_or_default();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_word) {
            return rejected("invalid named capture", whole);
        }
        self.skip(whole.len());
        self.enter(outer, "(")
    }

    /// Parses `(?i)` and `(?i:`. Returns whether a group begins.
    fn set_flags(&mut self) -> Parsed<bool> {
        let from = self.rest;
        self.skip(2);
        let (mut flags, mut on, mut any) = (self.flags, true, false);
        while let Some(letter) = self.rest.chars().next() {
            self.skip(letter.len_utf8());
            match letter {
                'i' => flags.fold = on,
                'm' => flags.lines = on,
                's' => flags.dot_all = on,
                'U' => flags.swap_greed = on,
                '-' if on => {
                    on = false;
                    any = false;
                    continue;
                }
                // `(?-)` disables no flag.
                ':' | ')' if on || any => {
                    // The flags set in a group end with it. `open` has saved the outer ones.
                    self.flags = flags;
                    return Ok(letter == ':');
                }
                _ => break,
            }
            any = true;
        }
        rejected(
            "invalid or unsupported Perl syntax",
            before(from, self.rest),
        )
    }

    fn close(&mut self) -> Parsed {
        let Some(outer) = self.groups.pop() else {
            return rejected("unexpected )", self.pattern);
        };
        self.skip(1);
        self.out.push(')');
        self.flags = outer.flags;
        self.operand = Some(self.product);
        self.product = self.product.max(outer.product);
        Ok(())
    }

    /// `*`, `+`, `?` (`count` is `None`) or `{n,m}`, which begins at `from` and is already parsed.
    fn repetition(
        &mut self,
        from: &'p str,
        count: Option<(u32, Option<u32>)>,
        repeated: Option<&'p str>,
    ) -> Parsed {
        let lazy = self.eat("?");
        let written = before(from, self.rest);
        if let Some(first) = repeated {
            return rejected(
                "invalid nested repetition operator",
                before(first, self.rest),
            );
        }
        let Some(inner) = self.operand else {
            return rejected("missing argument to repetition operator", written);
        };
        let mut product = inner;
        match count {
            None => self.out.push_str(written.get(..1).unwrap_or_default()),
            Some((least, most)) => {
                product = inner.saturating_mul(most.unwrap_or(least).max(1));
                if product > MAX_REPEATS {
                    return rejected("invalid repeat count", written);
                }
                // Writing to a string cannot fail.
                let _ = match most {
                    None => write!(self.out, "{{{least},}}"),
                    Some(most) => write!(self.out, "{{{least},{most}}}"),
                };
            }
        }
        if lazy != self.flags.swap_greed {
            self.out.push('?');
        }
        self.operand = Some(product);
        self.product = self.product.max(product);
        self.repeated = Some(from);
        Ok(())
    }

    /// A repetition, or a literal brace.
    fn braces(&mut self, repeated: Option<&'p str>) -> Parsed {
        let from = self.rest;
        let Some((least, most, rest)) = counts(from) else {
            self.skip(1);
            self.literal('{');
            return Ok(());
        };
        let in_order = most.is_none_or(|most| least <= most && most <= MAX_REPEATS);
        if least > MAX_REPEATS || !in_order {
            return rejected("invalid repeat count", before(from, rest));
        }
        self.rest = rest;
        self.repetition(from, Some((least, most)), repeated)
    }

    fn escape(&mut self) -> Parsed {
        let after = self.rest.get(1..).and_then(|rest| rest.chars().next());
        match after {
            Some('A') => self.atom(2, r"\A"),
            Some('z') => self.atom(2, r"\z"),
            Some('b') => self.atom(2, r"(?-u:\b)"),
            Some('B') if self.usage == Use::Text => self.atom(2, r"\B"),
            Some('B') => self.atom(2, r"(?-u:\B)"),
            Some('C') => return rejected("invalid escape sequence", r"\C"),
            Some('Q') => self.quoted(),
            _ => match self.named_class()? {
                Some(class) => self.class(&class),
                None => {
                    let letter = self.escaped_letter()?;
                    self.literal(letter);
                }
            },
        }
        Ok(())
    }

    /// `\Q…\E`, or up to the end without `\E`.
    fn quoted(&mut self) {
        self.skip(2);
        let (text, rest) = match self.rest.split_once(r"\E") {
            Some(parts) => parts,
            None => (self.rest, ""),
        };
        self.rest = rest;
        for letter in text.chars() {
            self.literal(letter);
        }
    }

    /// `\d`, `\pN` and the like, if one begins here.
    fn named_class(&mut self) -> Parsed<Option<ClassUnicode>> {
        let mut letters = self.rest.chars();
        let (Some('\\'), Some(letter)) = (letters.next(), letters.next()) else {
            return Ok(None);
        };
        if let Some(ranges) = perl(letter.to_ascii_lowercase()).filter(|_| letter.is_ascii()) {
            self.skip(2);
            return Ok(Some(self.folded(of(ranges), letter.is_ascii_uppercase())));
        }
        match letter {
            'p' | 'P' => self.unicode(letter == 'P').map(Some),
            _ => Ok(None),
        }
    }

    /// A named class, which is case-folded before it is negated.
    fn folded(&self, mut class: ClassUnicode, negated: bool) -> ClassUnicode {
        if self.flags.fold {
            fold(&mut class);
        }
        if negated {
            class.negate();
        }
        class
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`.
    fn unicode(&mut self, negated: bool) -> Parsed<ClassUnicode> {
        let from = self.rest;
        self.skip(2);
        let name = match self.rest.chars().next() {
            Some('{') => match self.rest.find('}') {
                Some(end) => {
                    let name = self.rest.get(1..end).unwrap_or_default();
                    self.skip(end + 1);
                    name
                }
                None => return rejected("invalid character class range", from),
            },
            Some(letter) => {
                let name = self.rest.get(..letter.len_utf8()).unwrap_or_default();
                self.skip(letter.len_utf8());
                name
            }
            None => return rejected("invalid character class range", from),
        };
        let (name, inverted) = match name.strip_prefix('^') {
            Some(name) => (name, true),
            None => (name, false),
        };
        match table(name) {
            Some(class) => Ok(self.folded(class, negated != inverted)),
            None => rejected("invalid character class range", before(from, self.rest)),
        }
    }
}

/// `{n}`, `{n,}` or `{n,m}` at the beginning, and the rest. A number with a leading zero does not count as one; a
/// number of more than eight digits counts as too large.
fn counts(text: &str) -> Option<(u32, Option<u32>, &str)> {
    let (least, rest) = number(text.strip_prefix('{')?)?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((least, Some(least), rest));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((least, None, rest));
    }
    let (most, rest) = number(rest)?;
    Some((least, Some(most), rest.strip_prefix('}')?))
}

fn number(text: &str) -> Option<(u32, &str)> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(u32::MAX), rest))
}
