//! Fills in a template.

use std::borrow::Cow;
use std::sync::Arc;

use http::StatusCode;

use crate::jose::Rejection;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::forward::Pair;
use crate::runtime::request::Params;
use crate::runtime::router::Pattern;
use crate::runtime::template::escape;
use crate::runtime::template::parse::{Piece, Template};
use crate::upstream::RequestTarget;

/// The source of a template's values.
pub trait Values {
    /// The endpoint's parameters.
    fn params(&self) -> &Params;

    /// The text of the top-level claim with this literal name. `None` if the token does not have it or there is no
    /// token.
    ///
    /// # Errors
    /// The claim cannot be converted to text.
    fn claim(&self, name: &str) -> Result<Option<Cow<'_, str>>, Rejection>;

    /// The text of the value at the dotted `path` of an earlier backend's shaped response.
    fn response(&self, backend: usize, path: &str) -> Option<Cow<'_, str>>;
}

/// Only parameters, for a backend outside a sequence and without claims in its URL.
impl Values for Params {
    fn params(&self) -> &Params {
        self
    }

    fn claim(&self, _: &str) -> Result<Option<Cow<'_, str>>, Rejection> {
        Ok(None)
    }

    fn response(&self, _: usize, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

impl Template {
    /// Path and query for the wire. `forwarded` are the client's pairs that pass, sorted by name.
    ///
    /// # Errors
    /// A value is missing, or one of an earlier response would be a dot segment (500). A value of the client that would be
    /// one gives 400. A claim that would be a dot segment or an empty segment gives 401. Validators reject such a claim
    /// before any call is made.
    pub fn render(
        &self,
        values: &dyn Values,
        forwarded: &[Pair<'_>],
    ) -> Result<RequestTarget, Failure> {
        if let Some(fixed) = &self.fixed
            && forwarded.is_empty()
        {
            return Ok(fixed.share().into());
        }
        let mut target = String::with_capacity(96);
        let mut has_query = if self.raw_responses {
            self.fill_raw(&mut target, values)?
        } else {
            for piece in &self.path {
                fill(&mut target, piece, values, Place::Path)?;
            }
            false
        };
        if !self.has_dots && target.contains("/.") && dot_segment(&target) {
            return Err(self.dots());
        }
        if let Some(query) = &self.query {
            target.push(if has_query { '&' } else { '?' });
            has_query = true;
            for piece in query {
                match (piece, self.raw_responses) {
                    (Piece::Response { backend, path }, true) => {
                        escape::raw_query(&mut target, &response(values, *backend, path)?);
                    }
                    _ => fill(&mut target, piece, values, Place::Query)?,
                }
            }
        }
        append(&mut target, forwarded, has_query || self.behind_query);
        Ok(target.into())
    }

    /// The failure for a dot segment in the path as a whole.
    fn dots(&self) -> Failure {
        let of_responses = |piece: &Piece| matches!(piece, Piece::Response { .. });
        dots(if self.path.iter().any(of_responses) {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::BAD_REQUEST
        })
    }

    /// Fills in the path if values of earlier responses may contain slashes and a query. Returns whether the target
    /// has a query afterwards.
    ///
    /// No value may create a dot segment, in any encoding, because the backend might decode it before it resolves
    /// dots.
    fn fill_raw(&self, target: &mut String, values: &dyn Values) -> Result<bool, Failure> {
        let mut has_query = false;
        for piece in &self.path {
            let Piece::Response { backend, path } = piece else {
                let place = if has_query { Place::Query } else { Place::Path };
                fill(target, piece, values, place)?;
                continue;
            };
            let value = response(values, *backend, path)?;
            // The fragment of a URL is only meant for clients.
            let value = value.split('#').next().unwrap_or_default();
            match (value.split_once('?'), has_query) {
                (_, true) => escape::raw_query(target, value),
                (None, false) => escape::raw_path(target, value),
                (Some((path, query)), false) => {
                    escape::raw_path(target, path);
                    target.push('?');
                    escape::raw_query(target, query);
                    has_query = true;
                }
            }
            if hidden_dot_segment(value) {
                return Err(dots(StatusCode::INTERNAL_SERVER_ERROR));
            }
        }
        let path = target.split('?').next().unwrap_or_default();
        if !self.has_dots && hidden_dot_segment(path) {
            Err(self.dots())
        } else {
            Ok(has_query)
        }
    }
}

/// Parses any pattern of an endpoint with parameter `x` and fills it in. For a fuzz target and a property test.
#[doc(hidden)]
pub fn render_anything(url: &str, value: &str) -> Option<String> {
    let endpoint = Pattern::parse("/a/{x}", true).ok()?;
    let template = Template::parse(url, &endpoint).ok()?;
    let params = Params([(Arc::from("x"), value.to_owned())].into_iter().collect());
    let target = template.render(&params, &[]).ok()?;
    Some(target.to_string())
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
            place.write(target, value, StatusCode::BAD_REQUEST)?;
        }
        Piece::Response { backend, path } => {
            let value = response(values, *backend, path)?;
            place.write(target, &value, StatusCode::INTERNAL_SERVER_ERROR)?;
        }
        Piece::Claim(name) => {
            let claim = values.claim(name).map_err(|_| rejected_claim(name))?;
            match (claim.as_deref(), place) {
                // As in KrakenD, the placeholder is kept.
                (None, _) => target.extend(["%7B%7B.JWT.", name, "%7D%7D"]),
                (Some(value), Place::Path) if value.is_empty() || escape::is_dot_segment(value) => {
                    return Err(rejected_claim(name));
                }
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

fn response<'v>(
    values: &'v dyn Values,
    backend: usize,
    path: &str,
) -> Result<Cow<'v, str>, Failure> {
    values
        .response(backend, path)
        .ok_or_else(|| missing(&format!("resp{backend}_{path}")))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Path,
    Query,
}

impl Place {
    /// `status` is that of a value that would be a dot segment.
    fn write(self, target: &mut String, value: &str, status: StatusCode) -> Result<(), Failure> {
        match self {
            Place::Path if escape::is_dot_segment(value) => return Err(dots(status)),
            Place::Path => escape::path_segment(target, value),
            Place::Query => escape::query_value(target, value),
        }
        Ok(())
    }
}

/// Pairs as a form-encoded query. `None` if there are none.
pub(crate) fn query(pairs: &[Pair<'_>]) -> Option<Box<str>> {
    let mut query = String::from("?");
    append(&mut query, pairs, true);
    match query.len() {
        1 => None,
        _ => Some(query.split_off(1).into()),
    }
}

/// Appends the client's pairs to the pattern's own query, form-encoded as in KrakenD.
fn append(target: &mut String, pairs: &[Pair<'_>], has_query: bool) {
    let mut next = if !has_query {
        Some('?')
    } else if target.ends_with('?') {
        None
    } else {
        Some('&')
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
    path.split('/').any(escape::is_dot_segment)
}

/// Whether a backend that decodes the path once or twice would find a dot segment in it.
fn hidden_dot_segment(text: &str) -> bool {
    let path = text.split('?').next().unwrap_or_default();
    let decode = |text: &[u8]| percent_encoding::percent_decode(text).collect::<Vec<u8>>();
    let once = decode(path.as_bytes());
    let twice = decode(&once);
    [path.as_bytes(), &once, &twice].iter().any(|text| {
        text.split(|byte| matches!(byte, b'/' | b'\\'))
            .any(|part| matches!(part, b"." | b".."))
    })
}

fn dots(status: StatusCode) -> Failure {
    Failure::bad_input(status, unusable("a dot segment in the path").text)
}

fn missing(name: &str) -> Failure {
    unusable(&format!("no value for {{{name}}}"))
}

fn unusable(why: &str) -> Failure {
    Failure::new(Kind::Request, format!("building the backend URL: {why}"))
}

fn rejected_claim(name: &str) -> Failure {
    let text = unusable(&format!("claim {name} cannot be a path segment")).text;
    Failure::bad_input(StatusCode::UNAUTHORIZED, text)
}
