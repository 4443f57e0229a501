//! Headers and query parameters of the client in the URLs of backends: `{input_headers.X-Tenant}`,
//! `{input_query_strings.lang}`.
//!
//! They become parameters of the request, and are escaped as one segment or one value like any other.

use std::sync::Arc;

use http::{HeaderName, StatusCode};
use percent_encoding::percent_decode_str;

use crate::runtime::request::{Head, Notes, Params};
use crate::runtime::response::Response;
use crate::runtime::router::check_params;
use crate::runtime::step::{EndpointStep, Gate};
use crate::runtime::template::escape;

/// The inputs that the URLs of an endpoint use.
#[derive(Debug)]
pub(crate) struct Inputs(pub Box<[Input]>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// As in the URL: `input_headers.X-Tenant`.
    pub name: Arc<str>,
    pub from: From,
    /// Whether it is in a path.
    pub in_path: bool,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    Header(HeaderName),
    Query(Box<str>),
}

impl Input {
    /// The input that a placeholder names. `None` if it names something else.
    pub fn of(placeholder: &str, in_path: bool) -> Option<Input> {
        let from = if let Some(name) = placeholder.strip_prefix("input_headers.") {
            From::Header(HeaderName::from_bytes(name.as_bytes()).ok()?)
        } else {
            let name = placeholder.strip_prefix("input_query_strings.")?;
            From::Query(Some(name).filter(|name| !name.is_empty())?.into())
        };
        Some(Input {
            name: placeholder.into(),
            from,
            in_path,
        })
    }

    /// The only value, if it is allowed in a URL.
    fn value(&self, head: &Head<'_>, notes: &Notes) -> Option<String> {
        let head = notes.head(head);
        let value = match &self.from {
            From::Header(name) => {
                let mut values = notes.header_values(&head, name);
                let value = std::str::from_utf8(values.next()?.as_bytes()).ok()?.trim();
                values.next().is_none().then(|| value.to_owned())
            }
            From::Query(name) => of_query(head.query.unwrap_or_default(), name),
        }?;
        let is_odd = |c: char| c.is_control() || self.in_path && matches!(c, '/' | '\\');
        let is_dots =
            matches!(&*value, "." | "..") || self.in_path && escape::is_dot_segment(&value);
        (!value.is_empty() && !is_dots && !value.contains(is_odd)).then_some(value)
    }
}

fn of_query(query: &str, name: &str) -> Option<String> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text)
            .decode_utf8()
            .ok()
            .map(|text| text.into_owned())
    };
    let mut values = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key).as_deref() == Some(name)).then(|| decoded(value))
    });
    let value = values.next()??;
    values.next().is_none().then_some(value)
}

impl EndpointStep for Inputs {
    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        for input in &self.0 {
            let value = input.value(head, notes).filter(|value| {
                let one = Params(
                    [(Arc::clone(&input.name), value.clone())]
                        .into_iter()
                        .collect(),
                );
                !input.in_path || check_params(&one).is_ok()
            });
            let Some(value) = value else {
                notes.rejected = Some("bad_input");
                return Gate::Reject(Response::empty(StatusCode::BAD_REQUEST));
            };
            notes.params.0.push((Arc::clone(&input.name), value));
        }
        Gate::Pass
    }
}
