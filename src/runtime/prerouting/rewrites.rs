//! Rewrites of a path by literals and regular expressions.

use std::borrow::Cow;
use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use regex::bytes::{Captures, Regex};

use super::hosts::VIRTUAL;
use crate::runtime::template::escape;

/// Literals are looked up first, then expressions in their order. The first match counts, once.
#[derive(Debug, Default)]
pub struct Rewrites {
    /// By the decoded path.
    pub literals: HashMap<Box<str>, Target>,
    pub expressions: Vec<(Regex, Target)>,
}

/// What replaces a path, or the part of it that an expression matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Decoded.
    pub path: Box<[Piece]>,
    /// Each pair of the query, as a name on the wire and the pieces of its value.
    pub query: Box<[Pair]>,
}

/// A pair of a query: its name on the wire, and the pieces of its value.
pub(super) type Pair = (Box<str>, Box<[Piece]>);

/// A piece of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(Box<str>),
    /// What a group of the expression matched.
    Group(usize),
}

/// A path and its query, ready for the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    pub path: String,
    pub query: Option<String>,
}

impl Target {
    /// Whether its text, and not what a client sent, leads to the paths of virtual hosts.
    fn names_virtual_hosts(&self) -> bool {
        matches!(self.path.first(), Some(Piece::Text(text)) if text.starts_with(VIRTUAL))
    }
}

impl Rewrites {
    /// The rewritten path and query. `None` if nothing matches, or if the path is one that the router rejects anyway.
    /// `Some(None)` if the result is not a path of an endpoint.
    pub fn apply(&self, path: &str, query: Option<&str>) -> Option<Option<Rewritten>> {
        let decoded = decoded(path)?;
        if let Some(target) = self.literals.get(&*decoded) {
            let path = expanded(&target.path, None)?;
            return Some(finished(&path, target, None, query));
        }
        self.expressions.iter().find_map(|(regex, target)| {
            let captures = regex.captures(decoded.as_bytes())?;
            let whole = captures.get(0)?;
            let mut path = decoded.get(..whole.start())?.to_owned();
            path.push_str(&expanded(&target.path, Some(&captures))?);
            path.push_str(decoded.get(whole.end()..)?);
            if path.starts_with(VIRTUAL) && !(whole.start() == 0 && target.names_virtual_hosts()) {
                return Some(None);
            }
            Some(finished(&path, target, Some(&captures), query))
        })
    }
}

/// The text of a raw path, decoded once. `None` for paths that could be read in two ways: dot segments, encoded
/// separators, control characters, and invalid UTF-8.
pub(crate) fn decoded(path: &str) -> Option<Cow<'_, str>> {
    if !path.starts_with('/') || !escape::is_well_formed(path) {
        return None;
    }
    let mut segments = path.split('/');
    let is_plain = segments.all(|segment| {
        let bytes: Cow<'_, [u8]> = percent_decode_str(segment).into();
        let text = std::str::from_utf8(&bytes);
        text.is_ok_and(|text| {
            !escape::is_dot_segment(text)
                && !text.contains(|c: char| matches!(c, '/' | '\\') || c.is_control())
        })
    });
    is_plain
        .then(|| percent_decode_str(path).decode_utf8().ok())
        .flatten()
}

fn finished(
    path: &str,
    target: &Target,
    captures: Option<&Captures<'_>>,
    query: Option<&str>,
) -> Option<Rewritten> {
    if !is_path(path) {
        return None;
    }
    let mut encoded = String::with_capacity(path.len());
    for segment in path[1..].split('/') {
        encoded.push('/');
        escape::path_segment(&mut encoded, segment);
    }
    Some(Rewritten {
        path: encoded,
        query: joined(target, captures, query)?,
    })
}

/// Whether a decoded path may go to the router: a rewrite must not make what the router would not take from a client,
/// nor reach the gateway's own endpoints.
pub(crate) fn is_path(path: &str) -> bool {
    let segments = path.strip_prefix('/').map(|rest| rest.split('/'));
    let Some(segments) = segments else {
        return false;
    };
    let count = path.matches('/').count();
    let is_plain = segments.enumerate().all(|(index, segment)| {
        let is_last = index + 1 == count;
        (is_last || !segment.is_empty())
            && !escape::is_dot_segment(segment)
            && !segment.contains(|c: char| c == '\\' || c.is_control())
    });
    is_plain && (!path.starts_with("/__") || path.starts_with("/__virtual/"))
}

/// The pairs of the target, and those of the client with other names.
fn joined(
    target: &Target,
    captures: Option<&Captures<'_>>,
    query: Option<&str>,
) -> Option<Option<String>> {
    if target.query.is_empty() {
        return Some(query.map(str::to_owned));
    }
    let mut out = String::new();
    for (name, value) in &target.query {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        escape::query_value(&mut out, &expanded(value, captures)?);
    }
    let name_of = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
        percent_decode_str(&name).decode_utf8_lossy().into_owned()
    };
    let pairs = query.unwrap_or_default().split('&');
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let name = name_of(pair);
        if target.query.iter().all(|(own, _)| name_of(own) != name) {
            out.push('&');
            out.push_str(pair);
        }
    }
    Some(Some(out))
}

fn expanded(pieces: &[Piece], captures: Option<&Captures<'_>>) -> Option<String> {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            // A group that took no part is empty, as in Go.
            Piece::Group(number) => {
                let found = captures.and_then(|captures| captures.get(*number));
                let bytes = found.map_or(&b""[..], |found| found.as_bytes());
                out.push_str(std::str::from_utf8(bytes).ok()?);
            }
        }
    }
    Some(out)
}
