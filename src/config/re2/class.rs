//! Character classes: RE2's tables, as ranges, and how they are written.

use std::fmt::Write as _;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

pub(super) fn single(letter: char) -> ClassUnicode {
    ClassUnicode::new([ClassUnicodeRange::new(letter, letter)])
}

pub(super) fn of(ranges: &[(char, char)]) -> ClassUnicode {
    let ranges = ranges.iter();
    ClassUnicode::new(ranges.map(|(low, high)| ClassUnicodeRange::new(*low, *high)))
}

pub(super) fn any(with_line_feed: bool) -> ClassUnicode {
    if with_line_feed {
        of(&[('\0', char::MAX)])
    } else {
        of(&[('\0', '\t'), ('\u{b}', char::MAX)])
    }
}

/// Adds the characters that differ only in case. It cannot fail: the crate is built with all Unicode tables.
pub(super) fn fold(class: &mut ClassUnicode) {
    let _ = class.try_case_fold_simple();
}

pub(super) fn perl(letter: char) -> Option<&'static [(char, char)]> {
    Some(match letter {
        'd' => &[('0', '9')],
        's' => &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')],
        'w' => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        _ => return None,
    })
}

pub(super) fn posix(name: &str) -> Option<&'static [(char, char)]> {
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

/// The characters of a category or a script. As in Go, neither letter case nor `_`, `-` and blanks matter, and a
/// category also has its long names.
pub(super) fn table(name: &str) -> Option<ClassUnicode> {
    let name: String = name.chars().filter(|c| !" _-".contains(*c)).collect();
    let name = name.to_ascii_lowercase();
    let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    // The crate also accepts `IsGreek`, but Go does not.
    if !is_word || name.starts_with("is") {
        return None;
    }
    match &*name {
        "any" => Some(any(true)),
        "ascii" => Some(of(&[('\0', '\x7f')])),
        "assigned" => parsed(r"\P{gc=Cn}"),
        // Surrogates never occur in valid text.
        "cs" | "surrogate" => Some(ClassUnicode::empty()),
        _ => parsed(&format!(r"\p{{gc={name}}}")).or_else(|| {
            // Short forms of scripts have four letters (`Grek`), and Go does not know them.
            let is_long = name.len() != 4 || FOUR.contains(&&*name);
            is_long.then(|| parsed(&format!(r"\p{{sc={name}}}")))?
        }),
    }
}

fn parsed(property: &str) -> Option<ClassUnicode> {
    match regex_syntax::parse(property).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        // A class with one character is parsed as a literal.
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            text.chars().next().map(single)
        }
        _ => None,
    }
}

/// Scripts whose long names have four letters.
const FOUR: [&str; 9] = [
    "ahom", "cham", "kawi", "lisu", "miao", "modi", "newa", "thai", "toto",
];

pub(super) fn push_literal(out: &mut String, letter: char) {
    match letter {
        letter if letter.is_ascii_alphanumeric() || !letter.is_ascii() => out.push(letter),
        letter => {
            // Writing to a string cannot fail.
            let _ = write!(out, r"\x{:02X}", u32::from(letter));
        }
    }
}

pub(super) fn push_class(out: &mut String, class: &ClassUnicode) {
    if class.ranges().is_empty() {
        // This class matches nothing.
        out.push_str(r"[^\x00-\x{10FFFF}]");
        return;
    }
    out.push('[');
    for range in class.iter() {
        let (low, high) = (u32::from(range.start()), u32::from(range.end()));
        // Writing to a string cannot fail.
        let _ = if low == high {
            write!(out, r"\x{{{low:X}}}")
        } else {
            write!(out, r"\x{{{low:X}}}-\x{{{high:X}}}")
        };
    }
    out.push(']');
}
