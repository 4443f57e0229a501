//! Finds guarded endpoints that match a path which a rewrite or a wildcard sends to another endpoint.

use std::collections::{BTreeSet, HashMap};

use super::{elsewhere, not_guarded, shown};
use crate::compile::namespaces;
use crate::config::{Endpoint, Service};
use crate::runtime::prerouting::Prerouting;
use crate::runtime::router::CATCH_ALL;
use crate::runtime::template::escape;

/// How many rewritten paths are tried for one endpoint: a file may have thousands of endpoints and of rewrites.
const MAX_LITERALS: usize = 16;

/// The endpoints of a file, indexed by their paths. Only paths and methods decide which endpoint matches.
pub(super) struct EndpointIndex<'f> {
    prerouting: &'f Prerouting,
    takers: Vec<Taker<'f>>,
    /// The indices of those whose path begins with this text.
    by_first: HashMap<&'f str, Vec<usize>>,
    /// The indices of those whose path begins with a parameter.
    open: Vec<usize>,
    /// The endpoints of wildcards, by their names.
    by_name: HashMap<&'f str, usize>,
    /// The rewritten paths that each endpoint would match.
    literals: HashMap<usize, Vec<String>>,
}

struct Taker<'f> {
    endpoint: &'f Endpoint<'f>,
    method: String,
    /// The pattern of the paths with which clients call it. `None` if they cannot.
    pattern: Option<&'f str>,
}

/// The path that a request is sent to, the reason, and the guards that do not apply there.
pub(super) type Bypass = (String, String, String);

impl<'f> EndpointIndex<'f> {
    pub(super) fn new(file: &'f Service<'f>, prerouting: &'f Prerouting) -> EndpointIndex<'f> {
        let takers = file.endpoints.iter().map(|endpoint| Taker {
            endpoint,
            method: endpoint
                .method
                .as_deref()
                .unwrap_or("GET")
                .to_ascii_uppercase(),
            pattern: pattern_of(endpoint, prerouting),
        });
        let mut reach = EndpointIndex {
            prerouting,
            takers: takers.collect(),
            by_first: HashMap::new(),
            open: Vec::new(),
            by_name: HashMap::new(),
            literals: HashMap::new(),
        };
        for (index, taker) in reach.takers.iter().enumerate() {
            let name = taker.endpoint.endpoint.as_deref().unwrap_or_default();
            if name.starts_with("/__") {
                let bare = name.strip_suffix("/*").unwrap_or(name);
                reach.by_name.entry(bare).or_insert(index);
            }
            match taker.pattern.and_then(first) {
                Some(text) if !is_param(text) && text != "*" => {
                    reach.by_first.entry(text).or_default().push(index);
                }
                Some(_) => reach.open.push(index),
                None => {}
            }
        }
        reach.add_literals();
        reach
    }

    fn add_literals(&mut self) {
        let prerouting = self.prerouting;
        let Some(rewrites) = &prerouting.rewrites else {
            return;
        };
        let methods: BTreeSet<String> = self.takers.iter().map(|one| one.method.clone()).collect();
        let mut paths: Vec<&str> = rewrites.literals.keys().map(|path| &**path).collect();
        paths.sort_unstable();
        for path in paths.into_iter().map(encoded) {
            for method in &methods {
                if let Some(taker) = self.taking(&path, method) {
                    let paths = self.literals.entry(taker).or_default();
                    if paths.len() < MAX_LITERALS {
                        paths.push(path.clone());
                    }
                }
            }
        }
    }

    /// A request that matches the endpoint with this index but is sent to one without its guards.
    pub(super) fn unguarded(&self, index: usize) -> Option<Bypass> {
        let taker = self.takers.get(index)?;
        let (own, pattern) = (guards(taker.endpoint), taker.pattern?);
        if own.is_empty() {
            return None;
        }
        let prefixes = self
            .prerouting
            .wildcards
            .iter()
            .flat_map(|all| all.prefixes());
        let below = prefixes.filter_map(|prefix| below_prefix(pattern, prefix));
        let below = below.filter(|path| self.taking(path, &taker.method) == Some(index));
        let literals = self.literals.get(&index).into_iter().flatten().cloned();
        below.chain(literals).find_map(|path| {
            let (to, why) = elsewhere(&path, self.prerouting)?;
            let there = self.by_name.get(&*to).copied();
            let there = there.or_else(|| self.taking(&to, &taker.method));
            let there = there.and_then(|index| self.takers.get(index));
            let there = there.map_or_else(Vec::new, |there| guards(there.endpoint));
            let lost = own.iter().filter(|guard| !there.contains(guard));
            let lost: Vec<&str> = lost.map(|(name, _)| name.as_str()).collect();
            (!lost.is_empty()).then(|| (to, why, not_guarded(lost)))
        })
    }

    /// The endpoint that matches this path and method. Other conditions are ignored.
    fn taking(&self, path: &str, method: &str) -> Option<usize> {
        let fixed = first(path).and_then(|first| self.by_first.get(first));
        let all = fixed.into_iter().flatten().chain(&self.open);
        let ranked = all.filter_map(|index| {
            let taker = self.takers.get(*index)?;
            let same = taker.method == method;
            Some((rank(taker.pattern.filter(|_| same)?, path)?, *index))
        });
        ranked.min().map(|(_, index)| index)
    }
}

/// The first segment of a path.
fn first(path: &str) -> Option<&str> {
    path.split('/').nth(1)
}

/// A decoded path on the wire.
fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        encoded.push('/');
        escape::path_segment(&mut encoded, segment);
    }
    encoded
}

/// The pattern of the paths with which clients call an endpoint.
fn pattern_of<'e>(endpoint: &'e Endpoint<'_>, prerouting: &Prerouting) -> Option<&'e str> {
    match endpoint.endpoint.as_deref()? {
        CATCH_ALL => Some("/*"),
        path => shown(path, prerouting),
    }
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
