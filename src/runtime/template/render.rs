//! Filling a template in.

use std::borrow::Cow;
use std::sync::Arc;

use http::StatusCode;

use crate::jose::Refusal;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::forward::Pair;
use crate::runtime::request::Params;
use crate::runtime::router::Pattern;
use crate::runtime::template::escape;
use crate::runtime::template::parse::{Piece, Template};

/// Where a template's values come from.
pub trait Values {
    /// The endpoint's parameters.
    fn params(&self) -> &Params;

    /// The top-level claim of this literal name as text; `None` when the token has none or there is no token.
    ///
    /// # Errors
    /// It cannot be text.
    fn claim(&self, name: &str) -> Result<Option<Cow<'_, str>>, Refusal>;

    /// The value at the dotted `path` of an earlier backend's shaped answer, as text.
    fn response(&self, backend: usize, path: &str) -> Option<Cow<'_, str>>;
}

/// Parameters alone: what a backend outside a sequence and without claims in its URL needs.
impl Values for Params {
    fn params(&self) -> &Params {
        self
    }

    fn claim(&self, _: &str) -> Result<Option<Cow<'_, str>>, Refusal> {
        Ok(None)
    }

    fn response(&self, _: usize, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

impl Template {
    /// Path and query for the wire; `forwarded` are the client's pairs that pass, already sorted by name.
    ///
    /// # Errors
    /// A value is missing (500), or would be a dot segment; a claim that would be one, or an empty segment, is 401.
    /// Validators refuse such a claim before any call is made.
    pub fn render(
        &self,
        values: &dyn Values,
        forwarded: &[Pair<'_>],
    ) -> Result<Cow<'_, str>, Failure> {
        if let Some(fixed) = &self.fixed
            && forwarded.is_empty()
        {
            return Ok(Cow::Borrowed(fixed));
        }
        let mut target = String::with_capacity(96);
        for piece in &self.path {
            fill(&mut target, piece, values, Place::Path)?;
        }
        if !self.has_dots && target.contains("/.") && dot_segment(&target) {
            return Err(dots());
        }
        if let Some(query) = &self.query {
            target.push('?');
            for piece in query {
                fill(&mut target, piece, values, Place::Query)?;
            }
        }
        append(&mut target, forwarded, self.query.is_some());
        Ok(Cow::Owned(target))
    }
}

/// Reads any pattern of an endpoint with parameter `x` and fills it in: what a fuzz target and a property test call.
#[doc(hidden)]
pub fn render_anything(url: &str, value: &str) -> Option<String> {
    let endpoint = Pattern::parse("/a/{x}", true).ok()?;
    let template = Template::parse(url, &endpoint).ok()?;
    let params = Params([(Arc::from("x"), value.to_owned())].into_iter().collect());
    template.render(&params, &[]).ok().map(Cow::into_owned)
}

fn fill(
    target: &mut String,
    piece: &Piece,
    values: &dyn Values,
    place: Place,
) -> Result<(), Failure> {
    match piece {
        Piece::Text(text) => target.push_str(text),
        Piece::Param(name) => {
            let value = values.params().get(name).ok_or_else(|| missing(name))?;
            place.write(target, value)?;
        }
        Piece::Response { backend, path } => {
            let value = values
                .response(*backend, path)
                .ok_or_else(|| missing(&format!("resp{backend}_{path}")))?;
            place.write(target, &value)?;
        }
        Piece::Claim(name) => {
            let claim = values.claim(name).map_err(|_| refused_claim(name))?;
            match (claim.as_deref(), place) {
                // As KrakenD does: the placeholder stays.
                (None, _) => target.extend(["%7B%7B.JWT.", name, "%7D%7D"]),
                (Some("" | "." | ".."), Place::Path) => return Err(refused_claim(name)),
                (Some(value), _) => escape::strict(target, value),
            }
        }
        Piece::Tail => {
            let value = values.params().get("*").ok_or_else(|| missing("*"))?;
            target.push_str(&escape::path(value));
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Path,
    Query,
}

impl Place {
    fn write(self, target: &mut String, value: &str) -> Result<(), Failure> {
        match self {
            Place::Path if value == "." || value == ".." => return Err(dots()),
            Place::Path => escape::path_segment(target, value),
            Place::Query => escape::query_value(target, value),
        }
        Ok(())
    }
}

/// Pairs as a raw query, form-encoded; `None` without any.
pub fn query(pairs: &[Pair<'_>]) -> Option<Box<str>> {
    let mut query = String::from("?");
    append(&mut query, pairs, true);
    match query.len() {
        1 => None,
        _ => Some(query.split_off(1).into()),
    }
}

/// Adds the client's pairs behind the pattern's own query, form-encoded as the reference does.
fn append(target: &mut String, pairs: &[Pair<'_>], has_query: bool) {
    let mut next = match has_query {
        true if target.ends_with('?') => None,
        true => Some('&'),
        false => Some('?'),
    };
    for pair in pairs {
        target.extend(next);
        escape::form(target, &pair.name);
        target.push('=');
        escape::form(target, &pair.value);
        next = Some('&');
    }
}

fn dot_segment(path: &str) -> bool {
    path.split('/').any(|part| part == "." || part == "..")
}

fn dots() -> Failure {
    unusable("a dot segment in the path")
}

fn missing(name: &str) -> Failure {
    unusable(&format!("no value for {{{name}}}"))
}

fn unusable(why: &str) -> Failure {
    Failure::new(Kind::Request, format!("building the backend URL: {why}"))
}

fn refused_claim(name: &str) -> Failure {
    Failure {
        status: StatusCode::UNAUTHORIZED,
        ..unusable(&format!("claim {name} cannot be a path segment"))
    }
}
