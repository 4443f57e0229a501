//! Guarded endpoints whose parameters take a path that a rewrite or a wildcard leads elsewhere.

use super::{elsewhere, not_guarded, shown};
use crate::compile::namespaces;
use crate::config::{Endpoint, Service};
use crate::runtime::ahead::Ahead;
use crate::runtime::router::CATCH_ALL;
use crate::runtime::template::escape;

/// Where a request goes that `endpoint` would take, if its guards do not apply there; why; and which guards these are.
pub(super) fn unguarded(
    endpoint: &Endpoint<'_>,
    file: &Service<'_>,
    ahead: &Ahead,
) -> Option<(String, String, String)> {
    let own = guards(endpoint);
    let pattern = pattern_of(endpoint, ahead).filter(|_| !own.is_empty())?;
    samples(pattern, ahead).into_iter().find_map(|path| {
        let takes = taking(&path, endpoint.method.as_deref(), file, ahead);
        if !takes.is_some_and(|first| std::ptr::eq(first, endpoint)) {
            return None;
        }
        let (to, why) = elsewhere(&path, ahead)?;
        let there = receiving(&to, file)
            .or_else(|| taking(&to, endpoint.method.as_deref(), file, ahead))
            .map(guards)
            .unwrap_or_default();
        let lost: Vec<&str> = own
            .iter()
            .filter(|guard| !there.contains(guard))
            .map(|(name, _)| name.as_str())
            .collect();
        (!lost.is_empty()).then(|| (to, why, not_guarded(lost)))
    })
}

/// Paths that match `pattern` and that a wildcard or a literal rewrite names.
fn samples(pattern: &str, ahead: &Ahead) -> Vec<String> {
    let mut samples = Vec::new();
    if let Some(wildcards) = &ahead.wildcards {
        let below = wildcards.prefixes();
        samples.extend(below.filter_map(|prefix| below_prefix(pattern, prefix)));
    }
    if let Some(rewrites) = &ahead.rewrites {
        let mut literals: Vec<&str> = rewrites.literals.keys().map(|path| &**path).collect();
        literals.sort_unstable();
        let encoded = literals.into_iter().map(|path| {
            let mut encoded = String::new();
            for segment in path.split('/').skip(1) {
                encoded.push('/');
                escape::path_segment(&mut encoded, segment);
            }
            encoded
        });
        samples.extend(encoded.filter(|path| rank(pattern, path).is_some()));
    }
    samples
}

/// A path below `prefix` that matches `pattern`.
fn below_prefix(pattern: &str, prefix: &str) -> Option<String> {
    let mut segments = pattern.split('/');
    for known in prefix.split('/') {
        match segments.next()? {
            "*" => return Some(prefix.to_owned()),
            segment if is_param(segment) || segment == known => {}
            _ => return None,
        }
    }
    let mut path = prefix.to_owned();
    for segment in segments {
        path.push('/');
        let is_open = is_param(segment) || segment == "*";
        path.push_str(if is_open { "x" } else { segment });
    }
    Some(path)
}

fn is_param(segment: &str) -> bool {
    segment.starts_with('{')
}

/// How exactly `pattern` matches `path`: for each segment 0 for the text itself, 1 for a parameter, 2 for the rest.
/// The router takes the smallest. `None` if it does not match.
fn rank(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let (mut segments, mut rank) = (pattern.split('/'), Vec::new());
    for known in path.split('/') {
        let exactness = match segments.next()? {
            "*" => 2,
            segment if segment == known => 0,
            segment if is_param(segment) && !known.is_empty() => 1,
            _ => return None,
        };
        rank.push(exactness);
        if exactness == 2 {
            return Some(rank);
        }
    }
    segments.next().is_none().then_some(rank)
}

/// The endpoint that takes this path, as far as paths alone tell.
fn taking<'f, 'a>(
    path: &str,
    method: Option<&str>,
    file: &'f Service<'a>,
    ahead: &Ahead,
) -> Option<&'f Endpoint<'a>> {
    let same = |endpoint: &&Endpoint<'_>| {
        let name = |method: Option<&str>| method.unwrap_or("GET").to_ascii_uppercase();
        name(endpoint.method.as_deref()) == name(method)
    };
    let ranked = file.endpoints.iter().filter(same).filter_map(|endpoint| {
        let pattern = pattern_of(endpoint, ahead)?;
        Some((rank(pattern, path)?, endpoint))
    });
    ranked
        .min_by(|(one, _), (two, _)| one.cmp(two))
        .map(|(_, endpoint)| endpoint)
}

/// The pattern of the paths with which clients call an endpoint.
fn pattern_of<'e>(endpoint: &'e Endpoint<'_>, ahead: &Ahead) -> Option<&'e str> {
    match endpoint.endpoint.as_deref()? {
        CATCH_ALL => Some("/*"),
        path => shown(path, ahead),
    }
}

/// The endpoint of a wildcard, by its name.
fn receiving<'f, 'a>(name: &str, file: &'f Service<'a>) -> Option<&'f Endpoint<'a>> {
    let is_named = |endpoint: &&Endpoint<'_>| {
        let path = endpoint.endpoint.as_deref().unwrap_or_default();
        path.strip_suffix("/*").unwrap_or(path) == name
    };
    let mut all = file.endpoints.iter().filter(|_| name.starts_with("/__"));
    all.find(is_named)
}

/// The guards of an endpoint, and how they are configured.
fn guards(endpoint: &Endpoint<'_>) -> Vec<(String, String)> {
    let all = endpoint.extra.namespaces().into_iter();
    all.filter(|(name, _)| namespaces::is_guard(name))
        .map(|(name, node)| (name.to_owned(), node.value().to_json()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_prefers_texts_to_parameters_and_these_to_the_rest() {
        for (pattern, path, expected) in [
            ("/a/x", "/a/x", Some(vec![0, 0, 0])),
            ("/{a}/x", "/a/x", Some(vec![0, 1, 0])),
            ("/a/*", "/a/x/y", Some(vec![0, 0, 2])),
            ("/*", "/a/x", Some(vec![0, 2])),
            ("/a", "/a/x", None),
            ("/a/x/{y}", "/a/x", None),
            ("/a/{x}", "/a/", None),
        ] {
            assert_eq!(rank(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_parameter_takes_paths_below_a_prefix() {
        for (pattern, prefix, expected) in [
            ("/{a}/x", "/foo", Some("/foo/x")),
            ("/{a}/{b}/y", "/foo/bar", Some("/foo/bar/y")),
            ("/{a}", "/foo", Some("/foo")),
            ("/*", "/foo/bar", Some("/foo/bar")),
            ("/{a}/*", "/foo", Some("/foo/x")),
            ("/{a}", "/foo/bar", None),
            ("/b/x", "/foo", None),
        ] {
            let found = below_prefix(pattern, prefix);
            assert_eq!(found.as_deref(), expected, "{pattern} {prefix}");
        }
    }
}
