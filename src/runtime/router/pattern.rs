//! The path pattern of an endpoint.

use std::fmt::Write as _;
use std::sync::Arc;

/// A parsed endpoint path: `/users/{id}/orders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Arc<str>,
    pub(super) segments: Box<[Segment]>,
    pub(super) wildcard: bool,
}

/// The endpoint for all paths and methods that no other endpoint has.
pub(crate) const CATCH_ALL: &str = "/__catchall";

/// The part between two slashes of a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Fixed(Box<str>),
    /// A parameter, with the fixed text around it: `report-{id}.json`.
    Param {
        prefix: Box<str>,
        name: Arc<str>,
        suffix: Box<str>,
    },
}

/// Why a path cannot be an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a `*` is only allowed as the last segment, as in `/files/*`")]
    Wildcard,
    #[error("paths that end in /__debug, /__echo or /__health belong to the gateway")]
    Reserved,
    #[error("a segment can have only one parameter: `{0}`")]
    TwoParams(String),
    #[error("the name of a parameter cannot contain a slash: `{0}`")]
    SlashInName(String),
}

impl Pattern {
    /// Parses the `endpoint` key. With `rest`, which is the usual syntax, a parameter starts a segment. With
    /// `disable_rest` (`rest: false`) it may be anywhere in a segment, and its name may contain more characters.
    ///
    /// As in KrakenD, a leading slash is added, repeated slashes and dot segments are resolved, and braces that are
    /// not a parameter are plain text. Unlike in KrakenD, text after a parameter stays text.
    ///
    /// # Errors
    /// The path is reserved, has a `*` at an invalid position, or has two parameters in one segment.
    pub fn parse(path: &str, rest: bool) -> Result<Pattern, PatternError> {
        let plain = Pattern::gin(path);
        let path = plain.as_deref().unwrap_or(path);
        let path = path.strip_prefix('/').unwrap_or(path);
        let (body, wildcard) = match path.strip_suffix('*') {
            Some(body) if body.is_empty() || body.ends_with('/') => (body, true),
            Some(_) => return Err(PatternError::Wildcard),
            None => (path, false),
        };
        if body.contains('*') {
            return Err(PatternError::Wildcard);
        }
        if !rest && let Some(name) = slash_in_name(body) {
            return Err(PatternError::SlashInName(name.to_owned()));
        }
        let mut texts = resolve(body);
        if reserved(&texts) {
            return Err(PatternError::Reserved);
        }
        if wildcard && texts.last().is_some_and(|last| last.is_empty()) {
            texts.pop();
        }
        let segments = texts
            .iter()
            .map(|text| segment(text, rest))
            .collect::<Result<Box<[_]>, _>>()?;
        Ok(Pattern::of(segments, wildcard))
    }

    /// Converts a path in the syntax of KrakenD's router to ours: `/a/:id/*rest` becomes `/a/{id}/*`. `None` if the
    /// path has no such segments.
    pub fn gin(path: &str) -> Option<String> {
        let count = path.split('/').count();
        let mut found = false;
        let segments = path.split('/').enumerate().map(|(index, segment)| {
            let named = |name: &&str| !name.is_empty() && name.chars().all(narrow_name);
            if let Some(name) = segment.strip_prefix(':').filter(named) {
                found = true;
                return format!("{{{name}}}");
            }
            let last = index + 1 == count;
            if segment.strip_prefix('*').filter(named).is_some() && last {
                found = true;
                return "*".to_owned();
            }
            segment.to_owned()
        });
        let plain = segments.collect::<Vec<_>>().join("/");
        found.then_some(plain)
    }

    /// A path without parameters, reserved or not, for the gateway's own endpoints.
    pub fn fixed(path: &str, wildcard: bool) -> Pattern {
        let segments = resolve(path)
            .into_iter()
            .map(|text| Segment::Fixed(text.into()))
            .collect();
        Pattern::of(segments, wildcard)
    }

    /// The pattern that matches every path, under its own name.
    pub fn catch_all() -> Pattern {
        Pattern {
            text: CATCH_ALL.into(),
            segments: Box::default(),
            wildcard: true,
        }
    }

    fn of(segments: Box<[Segment]>, wildcard: bool) -> Pattern {
        let mut text = String::new();
        for segment in &segments {
            text.push('/');
            match segment {
                Segment::Fixed(fixed) => text.push_str(fixed),
                Segment::Param {
                    prefix,
                    name,
                    suffix,
                } => {
                    let _ = write!(text, "{prefix}{{{name}}}{suffix}");
                }
            }
        }
        if wildcard {
            text.push_str("/*");
        }
        Pattern {
            text: text.into(),
            segments,
            wildcard,
        }
    }

    /// The normalized path with a leading slash: `/a/{id}`.
    pub fn as_str(&self) -> &Arc<str> {
        &self.text
    }

    /// The names of the parameters, in order.
    pub fn params(&self) -> impl Iterator<Item = &Arc<str>> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Fixed(_) => None,
            Segment::Param { name, .. } => Some(name),
        })
    }

    /// Whether the last name is followed by a slash: `/a/` and `/a/*`.
    pub(super) fn is_closed(&self) -> bool {
        match self.segments.last() {
            Some(Segment::Fixed(text)) if text.is_empty() => self.segments.len() > 1,
            Some(_) => self.wildcard,
            None => false,
        }
    }

    /// How specific each segment is. Of two patterns for one path, the router prefers the one that is more specific
    /// in the first segment in which they differ.
    pub(super) fn weights(&self) -> Box<[usize]> {
        let weight = |segment: &Segment| match segment {
            Segment::Fixed(_) => usize::MAX,
            Segment::Param { prefix, suffix, .. } => 1 + prefix.len() + suffix.len(),
        };
        self.segments.iter().map(weight).collect()
    }

    /// Whether the path ends in `/*`.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The path with `:id` for `{id}`, as KrakenD's messages print it.
    pub fn colon_form(&self) -> String {
        let mut text = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Fixed(fixed) => {
                    let _ = write!(text, "/{fixed}");
                }
                Segment::Param {
                    prefix,
                    name,
                    suffix,
                } => {
                    let _ = write!(text, "/{prefix}:{name}{suffix}");
                }
            }
        }
        if self.wildcard {
            text.push_str("/*");
        }
        text
    }
}

impl Pattern {
    /// Whether it has braces that are not a parameter, and are compared as they are.
    pub(crate) fn has_plain_braces(&self) -> bool {
        let plain = |text: &str| text.contains(['{', '}']);
        self.segments.iter().any(|segment| match segment {
            Segment::Fixed(text) => plain(text),
            Segment::Param { prefix, suffix, .. } => plain(prefix) || plain(suffix),
        })
    }
}

/// A parameter name of the extended syntax that contains a slash, which would be split into two invalid segments.
fn slash_in_name(path: &str) -> Option<&str> {
    let mut rest = path;
    while let Some((_, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}')?;
        if name.contains('/') && name.chars().all(|c| c == '/' || wide_name(c)) {
            return Some(name);
        }
        rest = tail;
    }
    None
}

/// Resolves `//`, `.` and `..`. A trailing slash gives an empty last segment.
fn resolve(path: &str) -> Vec<&str> {
    let mut kept = super::redirect::segments(path);
    let slash = matches!(path.rsplit('/').next(), Some("")) || kept.is_empty();
    if slash {
        kept.push("");
    }
    kept
}

fn reserved(texts: &[&str]) -> bool {
    texts
        .iter()
        .any(|text| matches!(*text, "__debug" | "__echo" | "__health"))
}

fn segment(text: &str, rest: bool) -> Result<Segment, PatternError> {
    let Some((start, end)) = braces(text, rest) else {
        return Ok(Segment::Fixed(text.into()));
    };
    let (prefix, name, suffix) = (&text[..start], &text[start + 1..end], &text[end + 1..]);
    // The path of a request never contains a `?`. KrakenD treats it as part of the name and matches every value.
    let suffix = suffix.split('?').next().unwrap_or_default();
    if suffix.contains(['{', '}']) {
        return Err(PatternError::TwoParams(text.to_owned()));
    }
    Ok(Segment::Param {
        prefix: prefix.into(),
        name: name.into(),
        suffix: suffix.into(),
    })
}

/// The positions of the braces of the first parameter in a segment.
fn braces(text: &str, rest: bool) -> Option<(usize, usize)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find('{')?;
        let end = start + text[start..].find('}')?;
        let name = &text[start + 1..end];
        let known = if rest {
            start == 0 && name.chars().all(narrow_name)
        } else {
            name.chars().all(wide_name)
        };
        if known && !name.is_empty() {
            return Some((start, end));
        }
        if rest {
            return None;
        }
        from = start + 1;
    }
}

fn narrow_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn wide_name(c: char) -> bool {
    narrow_name(c) || c == '.' || c == ':'
}
