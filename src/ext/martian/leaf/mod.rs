//! Modifiers that contain no others.

mod cookie;

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::change::{Body, Change, Url};
use super::files::Files;
use super::header::{Header, Kind};
use super::modifier::Scope;
use super::url_authority::{self, Port};
use crate::config::{Block, ConfigError, Node, Typing};
use crate::ext::context::Compile;
use crate::ext::static_files;
use crate::runtime::template::escape;
use crate::upstream::HostSet;

/// The supported scope of a modifier.
pub(super) fn supported(name: &str) -> Scope {
    match name {
        "header.Id" | "querystring.Modifier" | "url.Modifier" | "port.Modifier" => Scope::REQUEST,
        "status.Modifier" => Scope::RESPONSE,
        _ => Scope::BOTH,
    }
}

/// The change of modifier `name`. `None` after an error, which is reported. `scope` is `None` if it is invalid.
pub(super) fn change(
    name: &str,
    block: &Block<'_>,
    scope: Option<Scope>,
    cx: &Compile<'_>,
) -> Option<Change> {
    let scope = scope.unwrap_or(Scope::BOTH);
    match name {
        "header.Modifier" => {
            header(block, scope).map(|(field, value)| Change::SetHeader(field, value))
        }
        "header.Append" => {
            header(block, scope).map(|(field, value)| Change::AddHeader(field, value))
        }
        "header.Copy" => copy(block),
        "header.Blacklist" => names(block),
        "header.Id" => id(block),
        "querystring.Modifier" => parameter(block),
        "url.Modifier" => url(block, cx).map(Change::Url),
        "cookie.Modifier" => cookie::cookie(block).map(|cookie| Change::Cookie(Box::new(cookie))),
        "port.Modifier" => port_change(block).map(Change::Port),
        "stash.Modifier" => stash(block, scope),
        "status.Modifier" => status(block),
        "body.Modifier" => body(block).map(Change::Body),
        "static.Modifier" => files(block, scope, cx).map(Change::Files),
        _ => None,
    }
}

// Headers.

/// The header that a required key names.
pub(super) fn field(block: &Block<'_>, key: &'static str) -> Option<Header> {
    let text = block.required(key)?;
    named(&at(block, key), &text)
}

fn named(node: &Node<'_>, text: &str) -> Option<Header> {
    let name = HeaderName::from_bytes(text.as_bytes());
    if name.is_err() {
        node.config_error(ConfigError::header_name(text));
    }
    name.ok().map(Header::new)
}

/// A header to be changed. Headers of a connection cannot be changed.
fn changed(node: &Node<'_>, field: Header) -> Header {
    if field.kind == Kind::Connection {
        node.warn(ConfigError::invalid(format!(
            "{} concerns a single connection: it is not forwarded, and changing it has no effect",
            node.shown()
        )));
    }
    field
}

fn header(block: &Block<'_>, scope: Scope) -> Option<(Header, HeaderValue)> {
    let field = field(block, "name").map(|field| changed(&at(block, "name"), field));
    let value = value(block, "value");
    let (field, value) = (field?, value?);
    let expected = match field.kind {
        Kind::Host if scope.request && !value.is_empty() => {
            (!url_authority::is_authority(value.as_bytes()))
                .then_some("a host, perhaps with a port")
        }
        Kind::Length => (!is_number(value.as_bytes())).then_some("a number"),
        Kind::Coding => {
            let known = [&b"chunked"[..], b"identity"];
            let is_known = |coding: &&[u8]| value.as_bytes().eq_ignore_ascii_case(coding);
            (!known.iter().any(is_known)).then_some("\"chunked\" or \"identity\"")
        }
        _ => None,
    };
    if let Some(expected) = expected {
        let node = at(block, "value");
        node.invalid(format!(
            "{} is not a valid {}: {expected} is expected",
            node.shown(),
            field.name
        ));
        return None;
    }
    Some((field, value))
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// The value of a header. Empty if absent.
fn value(block: &Block<'_>, key: &str) -> Option<HeaderValue> {
    let text = block.text(key).unwrap_or_default();
    let value = HeaderValue::from_bytes(text.trim().as_bytes());
    if value.is_err() {
        let node = at(block, key);
        node.invalid(format!("{} cannot be the value of a header", node.shown()));
    }
    value.ok()
}

fn copy(block: &Block<'_>) -> Option<Change> {
    let from = field(block, "from");
    let to = field(block, "to").map(|field| changed(&at(block, "to"), field));
    Some(Change::CopyHeader {
        from: from?,
        to: to?,
    })
}

fn names(block: &Block<'_>) -> Option<Change> {
    block.texts("names");
    let items = block.get("names").map(|node| node.items());
    let fields: Vec<Option<Header>> = items
        .unwrap_or_default()
        .iter()
        .map(|item| {
            let text = item.text(Typing::Strict)?;
            named(item, text).map(|field| changed(item, field))
        })
        .collect();
    let fields = fields.into_iter().collect::<Option<_>>()?;
    Some(Change::RemoveHeaders(fields))
}

fn id(block: &Block<'_>) -> Option<Change> {
    let name = block.text("header").filter(|name| !name.is_empty());
    let node = at(block, "header");
    let field = named(&node, name.unwrap_or("X-Krakend-Id"))?;
    plain(&node, field).map(Change::Id)
}

/// A header without a special role, for generated values.
fn plain(node: &Node<'_>, field: Header) -> Option<Header> {
    if field.kind != Kind::Plain {
        node.invalid(format!("{} cannot be used for this", node.shown()));
        return None;
    }
    Some(field)
}

fn stash(block: &Block<'_>, scope: Scope) -> Option<Change> {
    if scope == Scope::RESPONSE {
        both(
            block,
            "there is nothing to add to a response if the request stores nothing",
        );
        return None;
    }
    let field = plain(&at(block, "headerName"), field(block, "headerName")?)?;
    Some(Change::Stash(field.name))
}

fn both(block: &Block<'_>, why: &'static str) {
    at(block, "scope").config_error_hint(
        ConfigError::invalid(why),
        "\"scope\": [\"request\", \"response\"]",
    );
}

// URLs.

fn parameter(block: &Block<'_>) -> Option<Change> {
    Some(Change::Query {
        name: block.required("name")?.into_bytes().into(),
        value: block.text("value").unwrap_or_default().as_bytes().into(),
    })
}

fn url(block: &Block<'_>, cx: &Compile<'_>) -> Option<Url> {
    let before = cx.report.config_errors();
    let part = |key| block.text(key).filter(|text| !text.is_empty());
    let check = |key, found: Option<&str>, fits: fn(&str) -> bool, expected| {
        if found.is_some_and(|text| !fits(text)) {
            let node = at(block, key);
            node.invalid(format!("{} is not {expected}", node.shown()));
        }
    };
    let (scheme, host, path) = (part("scheme"), part("host"), part("path"));
    let is_scheme = |text: &str| matches!(text, "http" | "https");
    check("scheme", scheme, is_scheme, "http or https");
    let is_host = |text: &str| url_authority::is_authority(text.as_bytes());
    check("host", host, is_host, "a host, perhaps with a port");
    let is_path = |text: &str| text.starts_with('/');
    check("path", path, is_path, "a path that begins with \"/\"");
    let scheme = scheme.map(|scheme| match scheme {
        "https" => "https",
        _ => "http",
    });
    let known = match (host, &cx.client) {
        (Some(host), Some(client)) if cx.report.config_errors() == before => Some(HostSet::fixed(
            client,
            &[format!("{}://{host}", scheme.unwrap_or("http"))],
        )),
        _ => None,
    };
    Some(Url {
        scheme,
        host: host.map(Box::from),
        path: path.map(encoded),
        query: part("query").map(|query| escape::query(query).into()),
        known,
    })
}

/// A path as on the wire. The configured path is not encoded, so a `%` means itself.
fn encoded(path: &str) -> Box<str> {
    let mut out = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        escape::path_segment(&mut out, segment);
    }
    out.into()
}

/// A port in the valid range. `None` if it is absent or out of range, which is reported.
pub(super) fn port(block: &Block<'_>) -> Option<u16> {
    let port = block.within("port", 1, 65535)?;
    u16::try_from(port).ok()
}

fn port_change(block: &Block<'_>) -> Option<Port> {
    let ways = [
        block.has("port"),
        block.flag("defaultForScheme"),
        block.flag("remove"),
    ];
    match ways {
        [true, false, false] => port(block).map(Port::Set),
        [false, true, false] => Some(Port::Usual),
        [false, false, true] => Some(Port::Remove),
        _ => {
            let text = "exactly one of \"port\", \"defaultForScheme\" and \"remove\" is expected";
            block.node().invalid(text);
            None
        }
    }
}

// Responses.

fn status(block: &Block<'_>) -> Option<Change> {
    if !block.has("statusCode") {
        block.missing("statusCode");
    }
    // Lower values are interim responses, which another one would have to follow.
    let code = block.within("statusCode", 200, 999)?;
    let code = u16::try_from(code).ok()?;
    StatusCode::from_u16(code).ok().map(Change::Status)
}

fn body(block: &Block<'_>) -> Option<Body> {
    let content_type = match block.text("contentType").filter(|text| !text.is_empty()) {
        Some(_) => value(block, "contentType").map(Some),
        None => Some(None),
    };
    let mut text = block.text("body").unwrap_or_default().to_owned();
    text.retain(|c| !matches!(c, '\r' | '\n'));
    let body = STANDARD.decode(text);
    if let Err(error) = &body {
        at(block, "body").config_error_hint(
            ConfigError::invalid(format!("not Base64: {error}")),
            "printf '%s' '{\"a\": 1}' | base64 -w0",
        );
    }
    Some(Body {
        content_type: content_type?,
        body: Bytes::from(body.ok()?),
    })
}

fn files(block: &Block<'_>, scope: Scope, cx: &Compile<'_>) -> Option<Files> {
    if scope != Scope::BOTH {
        both(block, "a file replaces the call and its response");
    }
    let explicit = explicit(block);
    let root = cx.path(&block.required("rootPath")?);
    let real = root.canonicalize().ok().filter(|real| real.is_dir());
    let Some(real) = real else {
        at(block, "rootPath").config_error(ConfigError::File {
            path: root.display().to_string(),
            reason: "not a folder".to_owned(),
        });
        return None;
    };
    let hint = "serve a separate folder; \"allow_config_dir\": true of \"backend/static-filesystem\" serves any";
    if static_files::publishes(&at(block, "rootPath"), &real, hint, cx) {
        return None;
    }
    Some(Files::new(root, explicit?))
}

/// Files for single paths. A leading slash means the folder.
fn explicit(block: &Block<'_>) -> Option<HashMap<Vec<u8>, PathBuf>> {
    let Some(node) = block.get("explicitPaths") else {
        return Some(HashMap::new());
    };
    let entries = node.object()?.members().into_iter();
    let entries: Vec<_> = entries
        .map(|(path, node)| {
            let text = node.text(Typing::Strict)?;
            let file = Path::new(text.trim_start_matches('/'));
            let mut parts = file.components().peekable();
            let stays =
                parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
            if !stays {
                node.invalid(format!("{} is not a file below \"rootPath\"", node.shown()));
                return None;
            }
            Some((path.as_bytes().to_vec(), file.to_owned()))
        })
        .collect();
    entries.into_iter().collect()
}

/// The location of a key, or of the block that lacks it.
fn at<'a>(block: &Block<'a>, key: &str) -> Node<'a> {
    block.get(key).unwrap_or_else(|| block.node().clone())
}
