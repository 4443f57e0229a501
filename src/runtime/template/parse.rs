//! Parses `url_pattern`.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;

use crate::per_worker::Spread;
use crate::runtime::inputs::Input;
use crate::runtime::router::Pattern;
use crate::runtime::template::escape;
use crate::telemetry::url_secrets::UrlSecrets;

/// The path and query of a backend, with placeholders for values of the request.
#[derive(Debug, Clone)]
pub struct Template {
    /// The whole target, if there are no placeholders.
    pub(super) fixed: Option<Spread<str>>,
    pub(super) path: Box<[Piece]>,
    /// `Some` if the pattern contains a `?`.
    pub(super) query: Option<Box<[Piece]>>,
    /// Whether the configured path contains `.` or `..` segments, which are then sent as written.
    pub(super) has_dots: bool,
    /// Values of earlier responses are not escaped as one segment.
    pub(super) raw_responses: bool,
    /// The host has a query, so the path continues that query.
    pub(super) behind_query: bool,
    internal: Box<str>,
    hidden: Box<UrlSecrets>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Box<str>),
    Param(Box<str>),
    /// A value of an earlier response in a sequence: `{resp0_user.id}`.
    Response {
        backend: usize,
        path: Box<str>,
    },
    /// `{JWT.sub}`
    Claim(Box<str>),
    /// The raw text that a wildcard endpoint matched.
    Tail,
}

/// Why a `url_pattern` does not fit its endpoint. The lists are sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// A placeholder that is not a parameter of the endpoint.
    Undefined {
        name: String,
        input: Vec<String>,
        output: Vec<String>,
    },
    /// More placeholders than the endpoint has parameters.
    TooMany {
        input: Vec<String>,
        output: Vec<String>,
    },
    /// A `%` in the path without two hex digits after it. The query is sent as it is.
    BadEscape(String),
}

impl TemplateError {
    /// The message in KrakenD's words, where `endpoint` is printed with `:id` for `{id}`.
    pub fn message(&self, method: &Method, endpoint: &Pattern, backend: usize) -> String {
        let place = |input: &[String], output: &[String]| {
            format!(
                "endpoint: {method} {}, backend: {backend}. input: [{}], output: [{}]",
                endpoint.colon_form(),
                input.join(" "),
                output.join(" "),
            )
        };
        match self {
            TemplateError::Undefined {
                name,
                input,
                output,
            } => format!("undefined output param '{name}'! {}", place(input, output)),
            TemplateError::TooMany { input, output } => format!(
                "input and output params do not match. {}",
                place(input, output)
            ),
            TemplateError::BadEscape(escape) => format!("invalid URL escape \"{escape}\""),
        }
    }
}

impl Template {
    /// Parses `pattern` for an endpoint with these parameters.
    ///
    /// As in KrakenD, a slash is prepended, a fragment is removed, and each placeholder must be a parameter of the
    /// endpoint, `respN_…` or `JWT.…`. Other braces are text. A trailing `*` is the rest of a wildcard endpoint.
    ///
    /// # Errors
    /// A placeholder is unknown, or the text is not a URL.
    pub fn parse(pattern: &str, endpoint: &Pattern) -> Result<Template, TemplateError> {
        let pattern = pattern.split('#').next().unwrap_or_default();
        let pattern = format!("/{}", pattern.strip_prefix('/').unwrap_or(pattern));
        let pieces = pieces(&pattern);
        check(&pieces, endpoint)?;
        let (path, query) = match pattern.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (pattern.as_str(), None),
        };
        if let Some(escape) = escape::malformed(path) {
            return Err(TemplateError::BadEscape(escape));
        }
        let tail = endpoint.is_wildcard();
        let path = written(self::pieces(path), tail && query.is_none(), escape::path);
        let query = query.map(|query| written(self::pieces(query), false, escape::query));
        Ok(Template {
            fixed: fixed(&path, query.as_deref()).map(Spread::from),
            has_dots: dots(&pattern),
            raw_responses: false,
            behind_query: false,
            internal: internal(&pieces),
            hidden: Box::new(UrlSecrets::of(&pattern)),
            path,
            query,
        })
    }

    /// Whether `url`, of the backend with this number, uses a value of an earlier response.
    pub fn takes_responses(url: &str, number: usize) -> bool {
        pieces(url).iter().any(|piece| match piece {
            Piece::Response { backend, .. } => *backend < number,
            _ => false,
        })
    }

    /// The same template for a backend with `raw_response_params`: values of earlier responses may contain slashes
    /// and a query.
    pub fn with_raw_responses(mut self, raw: bool) -> Template {
        self.raw_responses = raw;
        self
    }

    /// The same template for hosts that have a query, which the client's pairs are appended to.
    pub fn behind_query(mut self, query: bool) -> Template {
        self.behind_query = query;
        self
    }

    /// The pattern in the form of KrakenD's messages: `/a/{{.Id}}`.
    pub fn internal(&self) -> &str {
        &self.internal
    }

    /// Hides all of the pattern's text, because it came from the environment or from a file.
    pub fn hide_all(&mut self, pattern: &str) {
        *self.hidden = UrlSecrets::all_of(pattern);
    }

    /// The parts of the pattern, and of URLs made from it, that log lines, metrics and error texts must not show.
    pub fn hidden(&self) -> &UrlSecrets {
        &self.hidden
    }

    /// The numbers of the earlier responses whose values this URL uses, each with the path of the value.
    pub fn responses(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.path.iter().chain(self.query.iter().flatten());
        all.filter_map(|piece| match piece {
            Piece::Response { backend, path } => Some((*backend, &**path)),
            _ => None,
        })
    }

    /// The headers and query parameters of the client that this URL uses.
    pub fn inputs(&self) -> impl Iterator<Item = Input> {
        let path = self.path.iter().map(|piece| (piece, true));
        let query = self.query.iter().flatten().map(|piece| (piece, false));
        path.chain(query)
            .filter_map(|(piece, in_path)| match piece {
                Piece::Param(name) => Input::of(name, in_path),
                _ => None,
            })
    }

    /// The claims of the token that this URL uses, and whether each is in its path.
    pub fn claims(&self) -> impl Iterator<Item = (&str, bool)> {
        let path = self.path.iter().map(|piece| (piece, true));
        let query = self.query.iter().flatten().map(|piece| (piece, false));
        path.chain(query)
            .filter_map(|(piece, in_path)| match piece {
                Piece::Claim(name) => Some((&**name, in_path)),
                _ => None,
            })
    }
}

/// A placeholder is `{`, the characters of a name, and `}`, anywhere.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut rest, mut literal) = (text, String::new());
    while let Some(open) = rest.find('{') {
        let name = rest[open + 1..]
            .split_once('}')
            .map(|(name, _)| name)
            .filter(|name| !name.is_empty() && name.chars().all(in_name));
        literal.push_str(&rest[..open]);
        match name {
            Some(name) => {
                pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
                pieces.push(placeholder(name));
                rest = &rest[open + name.len() + 2..];
            }
            None => {
                literal.push('{');
                rest = &rest[open + 1..];
            }
        }
    }
    literal.push_str(rest);
    pieces.push(Piece::Text(literal.into()));
    pieces.retain(|piece| *piece != Piece::Text("".into()));
    pieces
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/')
}

fn placeholder(name: &str) -> Piece {
    if let Some(claim) = name.strip_prefix("JWT.").filter(|claim| !claim.is_empty()) {
        return Piece::Claim(claim.into());
    }
    let response = name.strip_prefix("resp").and_then(|rest| {
        let (number, path) = rest.split_once('_')?;
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let backend = number.parse().ok().filter(|_| digits && !path.is_empty())?;
        Some(Piece::Response {
            backend,
            path: path.into(),
        })
    });
    response.unwrap_or_else(|| Piece::Param(name.into()))
}

fn name_of(piece: &Piece) -> Option<String> {
    match piece {
        Piece::Text(_) | Piece::Tail => None,
        Piece::Param(name) => Some(name.to_string()),
        Piece::Response { backend, path } => Some(format!("resp{backend}_{path}")),
        Piece::Claim(name) => Some(format!("JWT.{name}")),
    }
}

fn check(pieces: &[Piece], endpoint: &Pattern) -> Result<(), TemplateError> {
    let input: BTreeSet<String> = endpoint.params().map(|name| name.to_string()).collect();
    let output: BTreeSet<String> = pieces.iter().filter_map(name_of).collect();
    let plain: BTreeSet<String> = pieces
        .iter()
        .filter(|piece| matches!(piece, Piece::Param(name) if Input::of(name, true).is_none()))
        .filter_map(name_of)
        .collect();
    let (input, output) = (Vec::from_iter(input), Vec::from_iter(output));
    // KrakenD's count omits the alphabetically last name, so one too many is reported as undefined.
    let counted = match output.last() {
        Some(last) if plain.contains(last) => plain.len() - 1,
        _ => plain.len(),
    };
    if counted > input.len() {
        return Err(TemplateError::TooMany { input, output });
    }
    match plain.iter().find(|name| !input.contains(name)) {
        Some(name) => Err(TemplateError::Undefined {
            name: name.clone(),
            input,
            output,
        }),
        None => Ok(()),
    }
}

/// The pieces with their text as on the wire, and with a trailing `*` replaced by its piece.
fn written(mut pieces: Vec<Piece>, tail: bool, encode: fn(&str) -> String) -> Box<[Piece]> {
    let rest = match pieces.last() {
        Some(Piece::Text(text)) if tail => text.strip_suffix('*').map(str::to_owned),
        _ => None,
    };
    if let Some(rest) = rest {
        pieces.pop();
        pieces.push(Piece::Text(rest.into()));
        pieces.push(Piece::Tail);
    }
    for piece in &mut pieces {
        if let Piece::Text(text) = piece {
            *text = encode(text).into();
        }
    }
    pieces.into()
}

fn fixed(path: &[Piece], query: Option<&[Piece]>) -> Option<Arc<str>> {
    let text = |pieces: &[Piece]| match pieces {
        [] => Some(String::new()),
        [Piece::Text(text)] => Some(text.to_string()),
        _ => None,
    };
    let path = text(path)?;
    match query {
        Some(query) => Some(format!("{path}?{}", text(query)?).into()),
        None => Some(path.into()),
    }
}

fn dots(pattern: &str) -> bool {
    let path = pattern.split('?').next().unwrap_or_default();
    path.split('/').any(|part| part == "." || part == "..")
}

fn internal(pieces: &[Piece]) -> Box<str> {
    let mut text = String::new();
    for piece in pieces {
        match (piece, name_of(piece)) {
            (Piece::Text(fixed), _) => text.push_str(fixed),
            (_, None) => text.push('*'),
            (_, Some(name)) => {
                let mut rest = name.chars();
                let first = rest.next().map(|c| c.to_ascii_uppercase());
                text.push_str("{{.");
                text.extend(first);
                text.push_str(rest.as_str());
                text.push_str("}}");
            }
        }
    }
    text.into()
}
