//! Regular expressions as Go reads them (RE2), translated for the `regex` crate.
//!
//! Both crates are close relatives, but not the same: there `\d`, `\w`, `\s` and `\b` know Unicode, classes have set
//! operations (`[a&&b]`), and braces, `\Q…\E` and octal escapes are refused. The translation writes every class as
//! ranges and every literal by itself, so that nothing is left to interpret. What RE2 refuses is refused here, too.
//!
//! The syntax: <https://github.com/google/re2/wiki/Syntax>, with what Go's `regexp/syntax` adds: `\Q…\E`, `\z`, no `\C`.

use std::fmt::Write as _;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// The largest number in a repetition, and the largest product of nested ones.
const MOST_REPEATS: u32 = 1000;

/// Groups within groups.
const MOST_DEPTH: usize = 200;

/// Compiled size of an expression of a file, in bytes.
const MOST_COMPILED: usize = 32 << 20;

/// Why an expression is refused, in the words of Go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {what}: `{part}`")]
pub struct Refused {
    what: &'static str,
    part: String,
}

/// An expression that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the regular expression is too large")]
    Large(#[from] regex::Error),
}

/// Compiles an expression. Of what it is looked for in, only what is UTF-8 matches its letters.
///
/// # Errors
/// RE2 refuses it, or it is too large.
pub fn compile(pattern: &str) -> Result<Regex, PatternError> {
    sized(pattern, MOST_COMPILED)
}

/// The same, with a bound of its own for the compiled size, in bytes.
///
/// # Errors
/// RE2 refuses it, or it is too large.
pub fn sized(pattern: &str, most: usize) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(&translate(pattern, Use::Bytes)?);
    Ok(builder.size_limit(most).build()?)
}

/// Compiles several expressions that are looked for at once.
///
/// # Errors
/// RE2 refuses one of them, or they are too large together.
pub fn set<P: AsRef<str>>(patterns: &[P]) -> Result<RegexSet, PatternError> {
    let translated: Result<Vec<String>, Refused> = patterns
        .iter()
        .map(|pattern| translate(pattern.as_ref(), Use::Bytes))
        .collect();
    let mut builder = RegexSetBuilder::new(translated?);
    Ok(builder.size_limit(MOST_COMPILED).build()?)
}

/// What a translation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// `regex::bytes`
    Bytes,
    /// `regex::Regex`, which has no `\B` of ASCII: there it is that of Unicode.
    Text,
}

/// The same expression for the `regex` crate, without names of groups.
///
/// # Errors
/// RE2 refuses it.
pub fn translate(pattern: &str, usage: Use) -> Result<String, Refused> {
    let mut parser = Parser {
        usage,
        pattern,
        rest: pattern,
        out: String::with_capacity(pattern.len() * 2),
        flags: Flags::default(),
        groups: Vec::new(),
        names: Vec::new(),
        operand: None,
        product: 1,
        repeated: None,
    };
    parser.parse()?;
    Ok(parser.out)
}

/// `(?imsU)`.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    fold: bool,
    lines: bool,
    dot_all: bool,
    swap_greed: bool,
}

/// What was before a group.
#[derive(Debug)]
struct Group {
    flags: Flags,
    product: u32,
}

struct Parser<'p> {
    usage: Use,
    pattern: &'p str,
    rest: &'p str,
    out: String,
    flags: Flags,
    groups: Vec<Group>,
    names: Vec<&'p str>,
    /// The product of the repetitions within what a repetition would repeat; `None`: there is nothing to repeat.
    operand: Option<u32>,
    /// The largest product of repetitions within the group so far.
    product: u32,
    /// Where the repetition begins that stands directly before.
    repeated: Option<&'p str>,
}

type Parsed<T = ()> = Result<T, Refused>;

fn refused<T>(what: &'static str, part: &str) -> Parsed<T> {
    Err(Refused {
        what,
        part: part.chars().take(80).collect(),
    })
}

/// The part of `from` that comes before `rest`, its end.
fn before<'p>(from: &'p str, rest: &str) -> &'p str {
    from.get(..from.len() - rest.len()).unwrap_or(from)
}

impl<'p> Parser<'p> {
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
        match self.groups.is_empty() {
            true => Ok(()),
            false => refused("missing closing )", self.pattern),
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

    /// Writes what a repetition may follow.
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
        if self.groups.len() >= MOST_DEPTH {
            return refused("expression nests too deeply", self.pattern);
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
        // `(?<=` and `(?<!` look behind, which RE2 has not: their names are no names.
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
            return refused("invalid named capture", self.rest);
        };
        let whole = self.rest.get(..=end).unwrap_or_default();
        let name = self.rest.get(head.len()..end).unwrap_or_default();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_word) {
            return refused("invalid named capture", whole);
        }
        if self.names.contains(&name) {
            return refused("duplicate capture group name", name);
        }
        self.names.push(name);
        self.skip(whole.len());
        self.enter(outer, "(")
    }

    /// `(?i)` and `(?i:`; whether a group begins.
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
                // `(?-)` switches nothing off.
                ':' | ')' if on || any => {
                    // The flags before a group end with it; `open` has kept those outside.
                    self.flags = flags;
                    return Ok(letter == ':');
                }
                _ => break,
            }
            any = true;
        }
        refused(
            "invalid or unsupported Perl syntax",
            before(from, self.rest),
        )
    }

    fn close(&mut self) -> Parsed {
        let Some(outer) = self.groups.pop() else {
            return refused("unexpected )", self.pattern);
        };
        self.skip(1);
        self.out.push(')');
        self.flags = outer.flags;
        self.operand = Some(self.product);
        self.product = self.product.max(outer.product);
        Ok(())
    }

    /// `*`, `+`, `?` (`count`: `None`) or `{n,m}`, which begins at `from` and is read already.
    fn repetition(
        &mut self,
        from: &'p str,
        count: Option<(u32, Option<u32>)>,
        repeated: Option<&'p str>,
    ) -> Parsed {
        let lazy = self.eat("?");
        let written = before(from, self.rest);
        if let Some(first) = repeated {
            return refused(
                "invalid nested repetition operator",
                before(first, self.rest),
            );
        }
        let Some(inner) = self.operand else {
            return refused("missing argument to repetition operator", written);
        };
        let mut product = inner;
        match count {
            None => self.out.push_str(written.get(..1).unwrap_or_default()),
            Some((least, most)) => {
                product = inner.saturating_mul(most.unwrap_or(least).max(1));
                if product > MOST_REPEATS {
                    return refused("invalid repeat count", written);
                }
                // Writing to a text cannot fail.
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

    /// A repetition, or a brace that stands for itself.
    fn braces(&mut self, repeated: Option<&'p str>) -> Parsed {
        let from = self.rest;
        let Some((least, most, rest)) = counts(from) else {
            self.skip(1);
            self.literal('{');
            return Ok(());
        };
        let in_order = most.is_none_or(|most| least <= most && most <= MOST_REPEATS);
        if least > MOST_REPEATS || !in_order {
            return refused("invalid repeat count", before(from, rest));
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
            Some('C') => return refused("invalid escape sequence", r"\C"),
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

    /// `\Q…\E`; without `\E` up to the end.
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

    /// `\d` and the like, `\pN` and the like, where one begins here.
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

    /// A named class, whose letters fold before it is negated.
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
                None => return refused("invalid character class range", from),
            },
            Some(letter) => {
                let name = self.rest.get(..letter.len_utf8()).unwrap_or_default();
                self.skip(letter.len_utf8());
                name
            }
            None => return refused("invalid character class range", from),
        };
        let (name, inverted) = match name.strip_prefix('^') {
            Some(name) => (name, true),
            None => (name, false),
        };
        match table(name) {
            Some(class) => Ok(self.folded(class, negated != inverted)),
            None => refused("invalid character class range", before(from, self.rest)),
        }
    }

    /// A letter that is escaped, outside of a class or within.
    fn escaped_letter(&mut self) -> Parsed<char> {
        let from = self.rest;
        self.skip(1);
        let Some(letter) = self.rest.chars().next() else {
            return refused("trailing backslash at end of expression", "");
        };
        self.skip(letter.len_utf8());
        let found = match letter {
            '0' => self.octal(0),
            // One digit alone would be a back-reference.
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
            None => refused("invalid escape sequence", before(from, self.rest)),
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
        let digits = match self.eat("{") {
            true => {
                let end = self.rest.find('}')?;
                let digits = self.rest.get(..end)?;
                self.skip(end + 1);
                digits
            }
            false => {
                let digits = self.rest.get(..2)?;
                self.skip(2);
                digits
            }
        };
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)
    }

    /// `[…]`
    fn brackets(&mut self) -> Parsed {
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
            return refused("invalid character class range", whole);
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
        match low <= high {
            true => Ok(ClassUnicode::new([ClassUnicodeRange::new(low, high)])),
            false => refused("invalid character class range", before(from, self.rest)),
        }
    }

    fn class_letter(&mut self, class: &'p str) -> Parsed<char> {
        match self.rest.chars().next() {
            None => refused("missing closing ]", class),
            Some('\\') => self.escaped_letter(),
            Some(letter) => {
                self.skip(letter.len_utf8());
                Ok(letter)
            }
        }
    }
}

/// `{n}`, `{n,}`, `{n,m}` at the beginning, and what follows. Numbers with a leading zero are none; those of more than
/// eight digits count as too large.
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

fn single(letter: char) -> ClassUnicode {
    ClassUnicode::new([ClassUnicodeRange::new(letter, letter)])
}

fn of(ranges: &[(char, char)]) -> ClassUnicode {
    let ranges = ranges.iter();
    ClassUnicode::new(ranges.map(|(low, high)| ClassUnicodeRange::new(*low, *high)))
}

fn any(with_line_feed: bool) -> ClassUnicode {
    match with_line_feed {
        true => of(&[('\0', char::MAX)]),
        false => of(&[('\0', '\t'), ('\u{b}', char::MAX)]),
    }
}

/// Adds what differs only in case. The tables are there: the crate is built with all of Unicode.
fn fold(class: &mut ClassUnicode) {
    let _ = class.try_case_fold_simple();
}

fn perl(letter: char) -> Option<&'static [(char, char)]> {
    Some(match letter {
        'd' => &[('0', '9')],
        's' => &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')],
        'w' => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        _ => return None,
    })
}

fn posix(name: &str) -> Option<&'static [(char, char)]> {
    Some(match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7f')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    })
}

/// General categories as Go names them.
const CATEGORIES: [&str; 36] = [
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N",
    "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So",
    "Z", "Zl", "Zp", "Zs",
];

/// The letters of a category or of a script.
fn table(name: &str) -> Option<ClassUnicode> {
    let property = match name {
        "Any" => return Some(any(true)),
        // Surrogates are no letters of a text.
        "Cs" => return Some(ClassUnicode::empty()),
        // Go leaves out what is not assigned.
        "C" => r"[\p{Cc}\p{Cf}\p{Co}]".to_owned(),
        category if CATEGORIES.contains(&category) => format!(r"\p{{gc={category}}}"),
        script if is_script(script) => format!(r"\p{{sc={script}}}"),
        _ => return None,
    };
    match regex_syntax::parse(&property).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        // A class of one letter is a literal.
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            text.chars().next().map(single)
        }
        _ => None,
    }
}

/// Whether it looks like one: the crate takes any spelling, RE2 only its own, and neither `IsGreek` nor `Grek`.
fn is_script(name: &str) -> bool {
    name.len() > 1
        && !name.starts_with("Is")
        && name.split(['_', '-']).all(|word| {
            let mut letters = word.bytes();
            letters
                .next()
                .is_some_and(|first| first.is_ascii_uppercase())
                && (letters.all(|letter| letter.is_ascii_lowercase()) || word == "SignWriting")
        })
        && (name.len() != 4 || FOUR.contains(&name))
}

/// Scripts whose names have four letters. Others of that length are short forms (`Grek`), which Go does not know.
const FOUR: [&str; 9] = [
    "Ahom", "Cham", "Kawi", "Lisu", "Miao", "Modi", "Newa", "Thai", "Toto",
];

fn push_literal(out: &mut String, letter: char) {
    match letter {
        letter if letter.is_ascii_alphanumeric() || !letter.is_ascii() => out.push(letter),
        letter => {
            // Writing to a text cannot fail.
            let _ = write!(out, r"\x{:02X}", u32::from(letter));
        }
    }
}

fn push_class(out: &mut String, class: &ClassUnicode) {
    if class.ranges().is_empty() {
        // Matches nothing.
        out.push_str(r"[^\x00-\x{10FFFF}]");
        return;
    }
    out.push('[');
    for range in class.iter() {
        let (low, high) = (u32::from(range.start()), u32::from(range.end()));
        // Writing to a text cannot fail.
        let _ = match low == high {
            true => write!(out, r"\x{{{low:X}}}"),
            false => write!(out, r"\x{{{low:X}}}-\x{{{high:X}}}"),
        };
    }
    out.push(']');
}

#[cfg(test)]
#[path = "re2_tests.rs"]
mod tests;
