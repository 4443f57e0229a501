//! From the blocks to the folders that are served.

use std::sync::Arc;

use http::{HeaderValue, Method};

use super::config::{BACKEND_KEYS, SERVICE_KEYS, Written};
use super::runtime::FileCall;
use super::secret::publishes;
use crate::config::{ConfigError, Data, Node, Typing};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::{BackendPart, ServicePart};
use crate::runtime::files::{Folder, names};
use crate::runtime::prerouting::{PreroutingPart, Site};

/// The prefixes of the service's folders, for a look at the endpoints below them.
#[derive(Debug)]
pub(crate) struct Sites(pub Vec<Placed>);

/// A prefix and its exceptions.
#[derive(Debug)]
pub(crate) struct Placed {
    pub site: Arc<Site>,
    /// Where the block is.
    pub pointer: String,
}

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let items = match &node.value().data {
        Data::List(_) => node.items(),
        _ => vec![node.clone()],
    };
    let mut placed: Vec<Placed> = Vec::new();
    for item in &items {
        let Some(site) = site(item, cx) else {
            continue;
        };
        if placed.iter().any(|other| other.site.prefix == site.prefix) {
            item.invalid(format!("the prefix {:?} is configured twice", site.shown()));
            continue;
        }
        placed.push(Placed {
            site: Arc::new(site),
            pointer: item.pointer(),
        });
    }
    // The longest prefix counts.
    placed.sort_by_key(|placed| std::cmp::Reverse(placed.site.prefix.len()));
    let sites = placed
        .iter()
        .map(|placed| Arc::clone(&placed.site))
        .collect();
    cx.set_fact(Arc::new(Sites(placed)));
    ServicePart::Ahead(PreroutingPart::Sites(sites))
}

fn site(node: &Node<'_>, cx: &Compile<'_>) -> Option<Site> {
    let written = Written::read(node, SERVICE_KEYS)?;
    let prefix = prefix(&written, true);
    let skip = written.block.get("skip");
    let skip: Vec<Option<Box<str>>> = skip
        .map(|list| list.texts(Typing::Strict).unwrap_or_default())
        .unwrap_or_default()
        .iter()
        .map(|text| segments(text, &written))
        .collect();
    let fallback = fallback(&written);
    let mut folder = folder(&written, cx)?;
    folder.fallback = fallback?;
    Some(Site {
        prefix: prefix?,
        skip: skip.into_iter().collect::<Option<_>>()?,
        folder: Arc::new(folder),
    })
}

/// The prefix without a slash at its end. Empty for `/`.
fn prefix(written: &Written<'_>, is_required: bool) -> Option<Box<str>> {
    let Some(text) = written.prefix.as_deref() else {
        if is_required {
            written.block.missing("prefix");
            return None;
        }
        return Some("".into());
    };
    let Some(node) = written.block.get("prefix") else {
        return Some("".into());
    };
    let cut = text.strip_suffix('*').unwrap_or(text);
    if cut.len() < text.len() {
        node.warn_hint(
            ConfigError::invalid("a prefix matches everything that follows: the * is removed"),
            format!("write {cut:?}"),
        );
    }
    if text.is_empty() {
        node.invalid("must not be empty");
        return None;
    }
    segments(cut, written)
}

/// A path of plain segments, without a slash at its end.
fn segments(text: &str, written: &Written<'_>) -> Option<Box<str>> {
    let bare = text.strip_suffix('/').unwrap_or(text);
    let is_plain = bare.is_empty()
        || bare.starts_with('/')
            && !bare.contains(['%', '?', '#', '\\'])
            && bare[1..]
                .split('/')
                .all(|segment| !matches!(segment, "" | "." | ".."));
    if !is_plain {
        written.block.node().config_error_hint(
            ConfigError::invalid(format!("{text:?} is not the beginning of a path")),
            "such as \"/media\"",
        );
        return None;
    }
    Some(bare.into())
}

/// `Some(None)` without a fallback.
fn fallback(written: &Written<'_>) -> Option<Option<Box<str>>> {
    let Some(node) = written.block.get("fallback") else {
        return Some(None);
    };
    let text = node.text(Typing::Strict)?;
    let name = names(text.strip_prefix('/').unwrap_or(text));
    match name.filter(|name| !name.slash && !text.contains('%')) {
        Some(_) => Some(Some(text.strip_prefix('/').unwrap_or(text).into())),
        None => {
            node.invalid(format!("{text:?} is not the name of a file in the folder"));
            None
        }
    }
}

/// The folder, if it can be read and contains nothing that must stay secret.
fn folder(written: &Written<'_>, cx: &Compile<'_>) -> Option<Folder> {
    let node = written.block.get("path")?;
    let path = cx.path(written.path.as_deref()?);
    let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
    let real = match std::fs::read_dir(&path).and_then(|_| path.canonicalize()) {
        Ok(real) => real,
        Err(error) => {
            node.config_error(ConfigError::File {
                path: format!("open {}", path.display()),
                reason: error.to_string(),
            });
            return None;
        }
    };
    if !written.allow_config_dir
        && publishes(
            &node,
            &real,
            "serve a separate folder; \"allow_config_dir\": true permits this one nevertheless",
            cx,
        )
    {
        return None;
    }
    let mut folder = Folder::new(absolute);
    folder.listing = written.listing;
    if let Some(node) = &written.cache_control {
        match HeaderValue::from_str(node.text(Typing::Strict)?) {
            Ok(value) => folder.cache_control = value,
            Err(_) => {
                node.invalid(format!("{} is not a valid header value", node.shown()));
                return None;
            }
        }
    }
    Some(folder)
}

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let Some(written) = Written::read(node, BACKEND_KEYS) else {
        return BackendPart::Nothing;
    };
    if !matches!(*site.method, Method::GET | Method::HEAD) {
        node.config_error_hint(
            ConfigError::invalid(format!("a file cannot be the response to {}", site.method)),
            "\"method\": \"GET\" in the backend",
        );
    }
    let prefix = prefix(&written, false);
    let (Some(mut folder), Some(prefix)) = (folder(&written, cx), prefix) else {
        return BackendPart::Nothing;
    };
    // A composed response is decoded here, and must be plain.
    folder.encoded = site.endpoint.streams;
    BackendPart::OnWire(Box::new(FileCall::new(folder, prefix)))
}
