//! Letter case and the spelling of names.

use super::Kind::Text;
use super::{Function, fixed, string};
use crate::config::template::value::Value;

pub(super) static TABLE: &[Function] = &[
    fixed("upper", &[Text], |_, arguments| {
        let text = string(&arguments, 0);
        Ok(Value::text(text.chars().map(upper).collect::<String>()))
    }),
    fixed("lower", &[Text], |_, arguments| {
        let text = string(&arguments, 0);
        Ok(Value::text(text.chars().map(lower).collect::<String>()))
    }),
    fixed("title", &[Text], |_, arguments| {
        Ok(Value::text(title(&string(&arguments, 0))))
    }),
    fixed("untitle", &[Text], |_, arguments| {
        Ok(Value::text(untitle(&string(&arguments, 0))))
    }),
    fixed("swapcase", &[Text], |_, arguments| {
        Ok(Value::text(swapped(&string(&arguments, 0))))
    }),
    fixed("snakecase", &[Text], |_, arguments| {
        Ok(Value::text(connected(&string(&arguments, 0), '_')))
    }),
    fixed("kebabcase", &[Text], |_, arguments| {
        Ok(Value::text(connected(&string(&arguments, 0), '-')))
    }),
    fixed("camelcase", &[Text], |_, arguments| {
        Ok(Value::text(camel(&string(&arguments, 0))))
    }),
];

/// Go changes each letter to one letter. One without such a counterpart, such as `ß`, stays.
fn upper(c: char) -> char {
    let mut all = c.to_uppercase();
    match (all.next(), all.next()) {
        (Some(only), None) => only,
        _ => c,
    }
}

/// Only `İ` has a lower case of two characters; Go takes the first.
fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// Converts the first letter of each word to upper case. Words start after white space and after ASCII characters
/// that are not part of a name.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let separates = if before.is_ascii() {
            !(before.is_ascii_alphanumeric() || before == '_')
        } else {
            before.is_whitespace()
        };
        if separates {
            out.push(upper(c));
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

fn untitle(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if before.is_whitespace() {
            out.push(lower(c));
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

/// Swaps upper and lower case, except that a lower-case letter at the start of a word becomes title case.
fn swapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.push(lower(c));
        } else if c.is_lowercase() {
            out.push(upper(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Upper,
    Lower,
    Digit,
    Connector,
    Other,
}

fn sort(c: char) -> Sort {
    match c {
        '_' | '-' => Sort::Connector,
        _ if c.is_whitespace() => Sort::Connector,
        _ if c.is_uppercase() => Sort::Upper,
        _ if c.is_lowercase() => Sort::Lower,
        _ if c.is_numeric() => Sort::Digit,
        _ => Sort::Other,
    }
}

/// `HTTPServer` becomes `http_server`: a connector at each change of case and for each space, dash and underscore.
fn connected(text: &str, connector: char) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + 8);
    for (index, c) in letters.iter().enumerate() {
        let previous = index.checked_sub(1).map(|at| sort(letters[at]));
        let next = letters.get(index + 1).map(|c| sort(*c));
        match sort(*c) {
            Sort::Connector => out.push(connector),
            Sort::Upper => {
                let starts = match previous {
                    Some(Sort::Lower | Sort::Digit) => true,
                    Some(Sort::Upper) => next == Some(Sort::Lower),
                    _ => false,
                };
                if starts {
                    out.push(connector);
                }
                out.push(lower(*c));
            }
            _ => out.push(*c),
        }
    }
    out
}

fn is_connector(c: char) -> bool {
    sort(c) == Sort::Connector
}

/// `http_server` becomes `HttpServer`. Connectors at the ends, and one of a doubled pair, are kept.
fn camel(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next_if(|c| is_connector(*c)) {
        out.push(c);
    }
    let mut starts = true;
    while let Some(c) = letters.next() {
        if is_connector(c) {
            match letters.peek() {
                None => out.push(c),
                Some(next) if is_connector(*next) => out.push(c),
                Some(_) => starts = true,
            }
            continue;
        }
        if starts {
            out.push(upper(c));
        } else {
            out.push(lower(c));
        }
        starts = false;
    }
    out
}
