//! From the block to the rewrites.

use super::config::KEYS;
use crate::config::{ConfigError, Node, Typing, re2};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::runtime::prerouting::{
    Piece, PreroutingPart, Rewrites, Target, VIRTUAL, decoded, is_path,
};

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let before = cx.report.config_errors();
    let Some(block) = node.block(KEYS) else {
        return ServicePart::Nothing;
    };
    let mut rewrites = Rewrites::default();
    if let Some(literal) = block.object("literal") {
        for (from, to) in literal.members() {
            self::literal(from, &to, &mut rewrites);
        }
    }
    for pair in block.list("regexp") {
        expression(&pair, &mut rewrites);
    }
    let is_empty = rewrites.literals.is_empty() && rewrites.expressions.is_empty();
    if is_empty && cx.report.config_errors() == before {
        node.config_error_hint(
            ConfigError::invalid("nothing is rewritten"),
            "\"literal\": {\"/from\": \"/to\"}",
        );
    }
    ServicePart::Ahead(PreroutingPart::Rewrites(rewrites))
}

fn literal(from: &str, to: &Node<'_>, rewrites: &mut Rewrites) {
    let Some(path) = decoded(from) else {
        return to.config_error_hint(
            ConfigError::invalid(format!("{from:?} is not a path")),
            "it begins with a slash, and has no dot segments",
        );
    };
    let Some(target) = to
        .text(Typing::Strict)
        .and_then(|text| target(text, None, to))
    else {
        return;
    };
    if rewrites.literals.insert((*path).into(), target).is_some() {
        to.invalid(format!("{from:?} is configured twice"));
    }
}

fn expression(pair: &Node<'_>, rewrites: &mut Rewrites) {
    let items = pair.items();
    let [pattern, replacement] = items.as_slice() else {
        return pair.config_error_hint(
            ConfigError::invalid("this is not a pair of an expression and its replacement"),
            "[\"^/user/(.*)$\", \"/users/${1}\"]",
        );
    };
    let (Some(written), Some(text)) = (
        pattern.text(Typing::Strict),
        replacement.text(Typing::Strict),
    ) else {
        return;
    };
    let regex = match re2::compile(written) {
        Ok(regex) => regex,
        Err(error) => return pattern.invalid(error.to_string()),
    };
    if !written.starts_with('^') {
        pattern.warn_hint(
            ConfigError::invalid("the expression matches anywhere in a path"),
            format!("\"^{}\"", written.replace('\\', "\\\\")),
        );
    }
    if let Some(target) = target(
        text,
        Some(&names(written, regex.captures_len())),
        replacement,
    ) {
        rewrites.expressions.push((regex, target));
    }
}

/// The names of the groups of an expression. The first is the whole match.
///
/// The translation of an expression has no names, so they are read from its text.
fn names(pattern: &str, count: usize) -> Vec<Option<String>> {
    let mut names: Vec<Option<String>> = vec![None];
    let bytes = pattern.as_bytes();
    let (mut at, mut in_class) = (0, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'(' if !in_class => {
                let rest = &pattern[at + 1..];
                let named = rest.strip_prefix("?P<").or_else(|| {
                    let rest = rest.strip_prefix("?<")?;
                    (!rest.starts_with(['=', '!'])).then_some(rest)
                });
                match named.and_then(|rest| rest.split_once('>')) {
                    Some((name, _)) => names.push(Some(name.to_owned())),
                    None if !rest.starts_with('?') => names.push(None),
                    None => {}
                }
            }
            _ => {}
        }
        at += 1;
    }
    names.resize(count, None);
    names
}

/// A target as configured. `groups` are the names of the groups that it may use.
fn target(text: &str, groups: Option<&[Option<String>]>, node: &Node<'_>) -> Option<Target> {
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, query),
        None => (text, ""),
    };
    let is_plain = match groups {
        None => decoded(path).is_some_and(|path| is_path(&path)),
        Some(_) => !path.contains("..") && !path.contains("//"),
    };
    if path.starts_with("/__") && !path.starts_with(VIRTUAL) {
        node.invalid(format!("{path} is a path of the gateway itself"));
        return None;
    }
    if !is_plain {
        node.config_error_hint(
            ConfigError::invalid(format!("{text:?} is not a path")),
            "it begins with one slash, and has no empty and no dot segments",
        );
        return None;
    }
    let pieces = |text: &str| match groups {
        // A literal is written as it is on the wire, or decoded: both mean the same.
        None => {
            let text = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
            Some([Piece::Text((*text).into())].into())
        }
        Some(groups) => template(text, groups).or_else(|| {
            node.invalid(format!(
                "{text:?} names a group that the expression does not have"
            ));
            None
        }),
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query: Option<Box<[_]>> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((name.into(), pieces(value)?))
        })
        .collect();
    Some(Target {
        path: pieces(path)?,
        query: query?,
    })
}

/// `${1}`, `$1`, `${name}` and `$$`, as in Go's `Regexp.Expand`. `None` for an unknown group.
fn template(text: &str, groups: &[Option<String>]) -> Option<Box<[Piece]>> {
    let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        literal.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            literal.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}')?,
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        let number = match name.parse::<usize>() {
            Ok(number) => (number < groups.len()).then_some(number)?,
            Err(_) => groups
                .iter()
                .position(|group| group.as_deref() == Some(name))?,
        };
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
        }
        pieces.push(Piece::Group(number));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal.into()));
    }
    Some(pieces.into())
}
