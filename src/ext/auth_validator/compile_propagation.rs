//! Compiles `propagate_claims`.

use super::compile_provider::claim_path;
use super::config;
use super::runtime::Propagation;
use crate::config::{ConfigError, Data, Node, Typing, Value};
use crate::ext::context::EndpointSite;
use crate::jose::ClaimPath;

pub(super) fn propagate(
    file: &config::Validator<'_>,
    site: &EndpointSite<'_>,
) -> Box<[Propagation]> {
    let mut all: Vec<Propagation> = Vec::new();
    if let Some(pairs) = flat_pairs(&file.propagate_claims) {
        file.source.place("propagate_claims").config_error_hint(
            ConfigError::invalid("a pair of claim and header must be a list in the list"),
            format!("\"propagate_claims\": [{}]", pairs.join(", ")),
        );
        return Box::default();
    }
    for item in &file.propagate_claims {
        let Data::List(_) = &item.value().data else {
            no_pair(item);
            continue;
        };
        let parts = item.items();
        let [claim, name] = parts.as_slice() else {
            item.config_error_hint(
                ConfigError::invalid(format!(
                    "invalid number of claims to propagate: {}",
                    item.shown()
                )),
                "a pair of claim and header: [\"sub\", \"x-user\"]",
            );
            continue;
        };
        let (Some(named), Some(name)) = (config::claim_name(claim), name.text(Typing::Strict))
        else {
            continue;
        };
        let Some(header) = item.header_name(name) else {
            continue;
        };
        if !is_used(header.as_str(), site) {
            let hint = format!("add it to \"input_headers\": [{name:?}]");
            item.warn_hint(
                ConfigError::invalid(format!("no backend gets the header {name:?}")),
                hint,
            );
        }
        // As in KrakenD: if two claims have the same header, the last one counts.
        all.retain(|known| known.header != header);
        all.push(Propagation {
            claim: claim_path(&named, claim, ClaimPath::dotted_unless_url),
            header,
        });
    }
    all.into()
}

/// The pairs of an object (`{"sub": "x-user"}`), or of a list without lists (`["sub", "x-user"]`).
fn flat_pairs(list: &[Node<'_>]) -> Option<Vec<String>> {
    let text = |node: &Node<'_>| match &node.value().data {
        Data::Text(text) => Some(text.to_string()),
        _ => None,
    };
    let pairs: Vec<(String, String)> = match list {
        [one] if !one.members().is_empty() => {
            let members = one.members().into_iter();
            let pairs = members.map(|(claim, name)| Some((claim.to_owned(), text(&name)?)));
            pairs.collect::<Option<_>>()?
        }
        _ => {
            let texts: Vec<String> = list.iter().map(text).collect::<Option<_>>()?;
            let is_even = !texts.is_empty() && texts.len().is_multiple_of(2);
            let pairs = texts.chunks_exact(2).filter(|_| is_even);
            let pairs: Vec<_> = pairs
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect();
            pairs
        }
    };
    let is_header = |name: &str| name.starts_with(['x', 'X']);
    if pairs.is_empty() || !pairs.iter().all(|(_, name)| is_header(name)) {
        return None;
    }
    let pairs = pairs.into_iter();
    Some(
        pairs
            .map(|(claim, name)| format!("[{claim:?}, {name:?}]"))
            .collect(),
    )
}

/// Whether the header passes to the backends, or another block of the endpoint reads it. Scripts that run before the
/// endpoint may read any; those around its calls see what passes.
fn is_used(header: &str, site: &EndpointSite<'_>) -> bool {
    let passes = |name: &String| name == "*" || name.eq_ignore_ascii_case(header);
    if site
        .inputs
        .is_none_or(|inputs| inputs.headers.iter().any(passes))
    {
        return true;
    }
    let blocks = site.extra.as_ref().map(Node::members).unwrap_or_default();
    blocks.iter().any(|(namespace, block)| {
        let is_other = !namespace.contains("validator");
        if namespace.contains("lua") {
            !namespace.contains("proxy")
        } else {
            is_other && mentions(block.value(), header)
        }
    })
}

fn mentions(value: &Value, header: &str) -> bool {
    match &value.data {
        Data::Text(text) => text.to_ascii_lowercase().contains(header),
        Data::List(items) => items.iter().any(|item| mentions(item, header)),
        Data::Object(members) => members.iter().any(|member| mentions(&member.value, header)),
        _ => false,
    }
}

/// A claim without a header. The hint shows a whole pair, because a part of it would only cause the next error.
fn no_pair(item: &Node<'_>) {
    let config_error = ConfigError::invalid(format!(
        "{} is {}, but a pair of claim and header is expected",
        item.shown(),
        item.value().type_name()
    ));
    match &item.value().data {
        Data::Text(claim) if !claim.is_empty() => {
            let name = claim.rsplit(['.', '/']).next().unwrap_or(claim);
            let usable = |c: char| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            };
            let name: String = name.chars().map(usable).collect();
            let name = name.strip_prefix("x-").unwrap_or(&name);
            item.config_error_hint(
                config_error,
                format!("[{claim:?}, \"x-{}\"]", name.trim_matches('-')),
            );
        }
        _ => item.config_error_hint(config_error, "[\"sub\", \"x-user\"]"),
    }
}
