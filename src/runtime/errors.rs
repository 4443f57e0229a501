//! Bodies of the gateway's own error responses: RFC 9457, or a template for each status.
//!
//! A body contains what status and headers already show, the reason from our fixed lists, and the id of the request.
//! It never contains anything of the request itself.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::runtime::response::Response;
use crate::telemetry::sanitize::push_html;

/// What `portcullis/errors` says.
#[derive(Debug)]
pub struct ErrorBodies {
    problem: bool,
    /// The prefix of the reason in `type`. `None` is `about:blank`.
    type_base: Option<String>,
    /// Templates with the first and the last status they are for, narrow ranges first.
    pages: Box<[((u16, u16), Page)]>,
    new_id: fn() -> Option<HeaderValue>,
}

/// A template for a body.
#[derive(Debug)]
pub struct Page {
    content_type: HeaderValue,
    escape: Escape,
    parts: Box<[Part]>,
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Value(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Status,
    Title,
    Reason,
    Detail,
    RequestId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    Json,
    Markup,
    None,
}

/// The values that a body can contain.
struct Facts<'a> {
    status: StatusCode,
    detail: &'a str,
    reason: &'a str,
    request_id: &'a str,
}

impl ErrorBodies {
    /// `pages` are templates with the first and the last status they are for; the narrowest range counts. `new_id` makes
    /// an id for a request that has none.
    pub fn new(
        problem: bool,
        type_base: Option<String>,
        mut pages: Vec<((u16, u16), Page)>,
        new_id: fn() -> Option<HeaderValue>,
    ) -> ErrorBodies {
        pages.sort_by_key(|((first, last), _)| last - first);
        ErrorBodies {
            problem,
            type_base,
            pages: pages.into(),
            new_id,
        }
    }

    /// A new id for a request. `None` without randomness.
    pub fn id(&self) -> Option<HeaderValue> {
        (self.new_id)()
    }

    /// Whether `dress` would give this response another body: an error without a body, or with a plain text.
    pub fn concerns(&self, response: &Response) -> bool {
        let plain = || {
            let kind = response
                .fields
                .iter()
                .find(|(name, _)| *name == header::CONTENT_TYPE);
            kind.is_none_or(|(_, value)| value.as_bytes().starts_with(b"text/plain"))
        };
        response.status.as_u16() >= 400 && (response.body.is_empty() || plain())
    }

    /// The response with its body. `reason` is a word out of our fixed lists; a text that the response has already
    /// (`return_error_msg`, an error of a script) becomes `detail`.
    pub fn dress(
        &self,
        mut response: Response,
        reason: Option<&str>,
        request_id: Option<&str>,
    ) -> Response {
        if !self.concerns(&response) {
            return response;
        }
        let status = response.status.as_u16();
        let told = std::mem::take(&mut response.body);
        let facts = Facts {
            status: response.status,
            detail: detail(&told, status),
            reason: reason.unwrap_or_default(),
            request_id: request_id.unwrap_or_default(),
        };
        let page = self
            .pages
            .iter()
            .find(|((first, last), _)| (*first..=*last).contains(&status));
        let (content_type, body) = match page {
            Some((_, page)) => (page.content_type.clone(), page.render(&facts)),
            None if self.problem => (
                HeaderValue::from_static("application/problem+json"),
                self.problem(&facts),
            ),
            None => {
                response.body = told;
                return response;
            }
        };
        response
            .fields
            .retain(|(name, _)| *name != header::CONTENT_TYPE);
        response.fields.push((header::CONTENT_TYPE, content_type));
        response.body = Bytes::from(body);
        response
    }

    /// RFC 9457 §3.1, with two members of our own.
    fn problem(&self, facts: &Facts<'_>) -> String {
        let status = facts.status.as_str();
        let kind = match (&self.type_base, facts.reason) {
            (None, _) => "about:blank".to_owned(),
            (Some(base), "") => format!("{base}{status}"),
            (Some(base), reason) => format!("{base}{reason}"),
        };
        let mut out = String::with_capacity(160);
        out.push_str("{\"type\":\"");
        Escape::Json.push(&mut out, &kind);
        out.push_str("\",\"title\":\"");
        Escape::Json.push(&mut out, title(facts.status));
        out.push_str("\",\"status\":");
        out.push_str(status);
        let members = [
            ("detail", facts.detail),
            ("reason", facts.reason),
            ("request_id", facts.request_id),
        ];
        for (name, value) in members.into_iter().filter(|(_, value)| !value.is_empty()) {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":\"");
            Escape::Json.push(&mut out, value);
            out.push('"');
        }
        out.push('}');
        out
    }
}

/// The longest text that becomes a detail, in bytes. It may be the body of a backend.
const MAX_DETAIL: usize = 16 * 1024;

/// The text of a response, unless it only repeats the status (`404 page not found`). A long one is cut.
fn detail(body: &[u8], status: u16) -> &str {
    let text = std::str::from_utf8(body).unwrap_or_default().trim();
    let number = text.split(' ').next().and_then(|word| word.parse().ok());
    if number == Some(status) {
        return "";
    }
    text.get(..text.floor_char_boundary(MAX_DETAIL))
        .unwrap_or(text)
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

impl Page {
    /// Reads a template.
    ///
    /// # Errors
    /// The name of a placeholder that does not exist.
    pub fn new(content_type: HeaderValue, text: &str) -> Result<Page, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, field, after)) = placeholder(rest)? {
            parts.push(Part::Text(before.into()));
            parts.push(Part::Value(field));
            rest = after;
        }
        parts.push(Part::Text(rest.into()));
        Ok(Page {
            escape: Escape::of(&content_type),
            content_type,
            parts: parts.into(),
        })
    }

    fn render(&self, facts: &Facts<'_>) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(field) => self.escape.push(&mut out, facts.value(*field)),
            }
        }
        out
    }
}

/// The first `{name}` of a text. Braces around anything but a word in lower case are text: CSS and JSON have them too.
fn placeholder(text: &str) -> Result<Option<(&str, Field, &str)>, String> {
    let mut from = 0;
    while let Some(open) = text.get(from..).and_then(|rest| rest.find('{')) {
        let open = from + open;
        let inner = text.get(open + 1..).unwrap_or_default();
        let name = inner.split('}').next().unwrap_or_default();
        let word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if word && name.len() < inner.len() {
            let field = match name {
                "status" => Field::Status,
                "title" => Field::Title,
                "reason" => Field::Reason,
                "detail" => Field::Detail,
                "request_id" => Field::RequestId,
                other => return Err(other.to_owned()),
            };
            let before = text.get(..open).unwrap_or_default();
            let after = inner.get(name.len() + 1..).unwrap_or_default();
            return Ok(Some((before, field, after)));
        }
        from = open + 1;
    }
    Ok(None)
}

impl<'a> Facts<'a> {
    fn value(&'a self, field: Field) -> &'a str {
        match field {
            Field::Status => self.status.as_str(),
            Field::Title => title(self.status),
            Field::Reason => self.reason,
            Field::Detail => self.detail,
            Field::RequestId => self.request_id,
        }
    }
}

impl Escape {
    fn of(content_type: &HeaderValue) -> Escape {
        let text = content_type.to_str().unwrap_or_default();
        let kind = text.split(';').next().unwrap_or_default().trim();
        if kind.ends_with("json") {
            Escape::Json
        } else if kind.ends_with("html") || kind.ends_with("xml") {
            Escape::Markup
        } else {
            Escape::None
        }
    }

    fn push(self, out: &mut String, value: &str) {
        match self {
            Escape::Json => push_json(out, value),
            Escape::Markup => push_html(value, out),
            Escape::None => out.push_str(value),
        }
    }
}

/// Appends `text` for the inside of a JSON string.
fn push_json(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(problem: bool, pages: &[(u16, u16, &str, &str)]) -> ErrorBodies {
        let pages = pages.iter().map(|(first, last, kind, text)| {
            let page = Page::new(HeaderValue::from_str(kind).unwrap(), text).unwrap();
            ((*first, *last), page)
        });
        ErrorBodies::new(problem, None, pages.collect(), || None)
    }

    fn told(response: &Response) -> (String, String) {
        let kind = response
            .fields
            .iter()
            .find(|(name, _)| *name == header::CONTENT_TYPE);
        let kind = kind.map_or("", |(_, value)| value.to_str().unwrap());
        (
            kind.to_owned(),
            String::from_utf8(response.body.to_vec()).unwrap(),
        )
    }

    fn with_text(status: StatusCode, kind: &'static str, text: &'static str) -> Response {
        let mut response =
            Response::empty(status).with(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response.body = Bytes::from_static(text.as_bytes());
        response
    }

    #[test]
    fn a_problem_tells_status_reason_and_id() {
        let bodies = bodies(true, &[]);
        let response = bodies.dress(
            Response::empty(StatusCode::UNAUTHORIZED),
            Some("expired"),
            Some("7"),
        );
        let (kind, body) = told(&response);
        assert_eq!(kind, "application/problem+json");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let expected = serde_json::json!({
            "type": "about:blank", "title": "Unauthorized", "status": 401, "reason": "expired", "request_id": "7",
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_text_that_says_more_than_the_status_is_the_detail() {
        let bodies = bodies(true, &[]);
        let repeated = with_text(StatusCode::NOT_FOUND, "text/plain", "404 page not found");
        assert!(
            !told(&bodies.dress(repeated, None, None))
                .1
                .contains("detail")
        );
        let text = with_text(
            StatusCode::IM_A_TEAPOT,
            "text/plain; charset=utf-8",
            "no \"tea\"\n<b>",
        );
        let (_, body) = told(&bodies.dress(text, None, None));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["detail"], "no \"tea\"\n<b>");
    }

    #[test]
    fn successes_and_bodies_of_others_stay() {
        let bodies = bodies(true, &[]);
        for response in [
            with_text(StatusCode::OK, "text/plain", "fine"),
            with_text(StatusCode::NOT_FOUND, "application/json", "{}"),
            with_text(StatusCode::UNAUTHORIZED, "application/problem+json", "{}"),
        ] {
            let before = told(&response);
            assert_eq!(told(&bodies.dress(response, Some("x"), Some("y"))), before);
        }
    }

    #[test]
    fn the_most_specific_template_is_used_and_values_are_escaped_for_it() {
        let bodies = bodies(
            false,
            &[
                (400, 599, "text/plain", "any {status}"),
                (500, 599, "text/html", "<p>{title}: {detail}</p>"),
                (
                    404,
                    404,
                    "application/vnd.api+json",
                    "{\"errors\":[{\"code\":\"{status}\",\"d\":\"{detail}\"}]}",
                ),
            ],
        );
        let of =
            |status, text| told(&bodies.dress(with_text(status, "text/plain", text), None, None)).1;
        assert_eq!(of(StatusCode::FORBIDDEN, ""), "any 403");
        let html = of(StatusCode::INTERNAL_SERVER_ERROR, "<script>'&\"");
        assert_eq!(
            html,
            "<p>Internal Server Error: &lt;script&gt;&#39;&amp;&#34;</p>"
        );
        let json = of(StatusCode::NOT_FOUND, "a\"\\\u{1}b");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["errors"][0]["d"], "a\"\\\u{1}b");
    }

    #[test]
    fn braces_that_are_not_a_placeholder_are_text() {
        let kind = HeaderValue::from_static("text/html");
        let page = Page::new(
            kind.clone(),
            "<style>p { color: red } {}</style>{{status}} {",
        )
        .unwrap();
        let facts = Facts {
            status: StatusCode::NOT_FOUND,
            detail: "",
            reason: "",
            request_id: "",
        };
        assert_eq!(
            page.render(&facts),
            "<style>p { color: red } {}</style>{404} {"
        );
        assert_eq!(Page::new(kind, "{token}").unwrap_err(), "token");
    }
}
