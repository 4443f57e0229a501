//! The route lookup.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderValue, Method};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use crate::runtime::request::Params;
use crate::runtime::router::build::{Builder, Options};
use crate::runtime::router::pattern::Pattern;
use crate::runtime::router::redirect::{self, Redirect};
use crate::runtime::router::tree::{Captures, Tree};
use crate::runtime::template::escape;

/// All routes of a service. `T` is the type of an endpoint.
#[derive(Debug)]
pub struct Router<T> {
    pub(super) options: Options,
    /// In the order in which each method was first registered.
    pub(super) trees: Box<[(Method, Tree)]>,
    pub(super) routes: Box<[Route<T>]>,
    /// For methods without a tree, except TRACE and CONNECT, which are never passed on.
    pub(super) others: Option<Tree>,
}

#[derive(Debug)]
pub(super) struct Route<T> {
    pub(super) names: SmallVec<[Arc<str>; 4]>,
    pub(super) wildcard: bool,
    /// Whether the last name is followed by a slash.
    pub(super) closed: bool,
    pub(super) weights: Box<[usize]>,
    /// Whether another route would match some of its paths better if they were spelt differently.
    pub(super) contested: bool,
    pub(super) target: Target<T>,
}

#[derive(Debug)]
pub(super) enum Target<T> {
    Endpoint(T),
    BuiltIn(BuiltIn),
    Options(HeaderValue),
}

/// The gateway's own endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    Health,
    Debug,
    Echo,
}

/// The result for a method and a path.
#[derive(Debug)]
pub enum Match<'r, T> {
    Found {
        endpoint: &'r T,
        params: Params,
    },
    BuiltIn(BuiltIn),
    /// An automatic response to OPTIONS: 200, empty, with this `Allow`.
    Options {
        allow: &'r HeaderValue,
    },
    /// Sent before all steps, and not in the access log.
    Redirect(Redirect),
    /// The path has endpoints of other methods; `near` is one of them.
    MethodNotAllowed {
        allow: HeaderValue,
        near: Option<&'r T>,
    },
    NotFound,
    /// 400 with this text as body, `text/plain; charset=utf-8`, without the gateway's headers.
    BadParam(Cow<'static, str>),
    /// A `%` without two hex digits after it: 400, because the request is not valid HTTP.
    BadTarget,
}

impl<T> Router<T> {
    /// Starts a list of routes.
    pub fn builder(options: Options) -> Builder<T> {
        Builder::new(options)
    }

    /// Looks up a request. `path` is raw and begins with a slash. `prefix` is `X-Forwarded-Prefix`, and is only
    /// passed if it comes from a trusted proxy.
    pub fn route(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        prefix: Option<&str>,
    ) -> Match<'_, T> {
        if !escape::is_well_formed(path) {
            return Match::BadTarget;
        }
        if !path.starts_with('/') {
            return Match::NotFound;
        }
        let sent = path;
        let path = if self.options.remove_extra_slash {
            redirect::collapse_slashes(path)
        } else {
            Cow::Borrowed(path)
        };
        let bare = path.strip_prefix('/').unwrap_or(&path);
        if let Some(tree) = self.tree(method) {
            let mut captures = Captures::new();
            if let Some(leaf) = tree.find(bare, &mut captures) {
                let asked = Asked {
                    method,
                    path: &path,
                    query,
                    prefix,
                };
                return if captures.is_empty() {
                    self.found(leaf, captures)
                } else {
                    self.captured(tree, asked, leaf, captures)
                };
            }
            if let Some(location) = self.elsewhere(tree, &path)
                && let Some(location) = location.with(prefix)
                && location != sent
            {
                return Match::Redirect(Redirect::to(method, &location, query));
            }
        }
        self.unmatched(method, bare)
    }

    fn tree(&self, method: &Method) -> Option<&Tree> {
        let found = self.trees.iter().find(|(known, _)| known == method);
        if let Some((_, tree)) = found {
            return Some(tree);
        }
        let passes = !matches!(*method, Method::TRACE | Method::CONNECT);
        self.others.as_ref().filter(|_| passes)
    }

    /// Handles a route with parameters. A backend may treat another spelling of the path as equal, and that spelling
    /// may have its own route with its own guards: a request must not bypass them by its spelling.
    fn captured<'r>(
        &'r self,
        tree: &Tree,
        asked: Asked<'_>,
        leaf: u32,
        captures: Captures<'_>,
    ) -> Match<'r, T> {
        let route = &self.routes[leaf as usize];
        let open = route.wildcard || route.contested;
        if !open && redirect::is_plain(asked.path) {
            return self.found(leaf, captures);
        }
        let merged = redirect::collapse_slashes(asked.path);
        let changed = matches!(merged, Cow::Owned(_));
        if changed && tree.leads_elsewhere(&merged, leaf) {
            return match redirect::relative(merged.into_owned()) {
                Some(to) if self.options.redirect_fixed_path => {
                    Match::Redirect(Redirect::to(asked.method, &to, asked.query))
                }
                _ => Match::NotFound,
            };
        }
        let readings = redirect::read_again(&merged);
        let name = redirect::before_parameters(&merged);
        if name.len() < merged.len() {
            let names = redirect::without_parameters(&merged);
            let names = redirect::collapse_slashes(&names);
            if [name, &*names]
                .iter()
                .any(|path| self.is_of_another(tree, path, leaf))
            {
                return Match::NotFound;
            }
        }
        let all = || std::iter::once(&merged[..]).chain(readings.iter().map(String::as_str));
        if all().any(redirect::has_nameless)
            && all()
                .flat_map(redirect::without_nameless)
                .any(|path| tree.leads_elsewhere_in_any_case(&path, leaf))
        {
            return Match::NotFound;
        }
        if !open {
            return self.found(leaf, captures);
        }
        // A route matches its own text exactly, even if a less specific one matches another reading of it. That route
        // only counts if the reading leaves the place of the route, as `..%20` does.
        let names = |path: &str| path.matches('/').count();
        let is_another = |path: &String| {
            if route.wildcard || names(path) != names(&merged) {
                self.is_of_another(tree, path, leaf)
            } else {
                self.better(tree, path, leaf).is_some() || self.another(tree, path, leaf).is_some()
            }
        };
        if readings.iter().any(is_another) {
            return Match::NotFound;
        }
        if let Some(other) = self.another(tree, &merged, leaf) {
            let redirects = if other.prefixed {
                self.options.redirect_trailing_slash
            } else {
                self.options.redirect_fixed_path
            };
            return match other.with(asked.prefix) {
                Some(to) if redirects => {
                    Match::Redirect(Redirect::to(asked.method, &to, asked.query))
                }
                _ => Match::NotFound,
            };
        }
        if !changed || self.options.keep_slashes || !route.wildcard {
            return self.found(leaf, captures);
        }
        let mut captures = Captures::new();
        match tree.find(merged.strip_prefix('/').unwrap_or(&merged), &mut captures) {
            Some(leaf) => self.found(leaf, captures),
            None => Match::NotFound,
        }
    }

    fn is_of_another(&self, tree: &Tree, path: &str, leaf: u32) -> bool {
        tree.leads_elsewhere(path, leaf) || self.another(tree, path, leaf).is_some()
    }

    /// The path of a more specific route that differs only by a redirect from `path`, which `leaf` matches.
    fn another(&self, tree: &Tree, path: &str, leaf: u32) -> Option<Elsewhere> {
        let route = &self.routes[leaf as usize];
        if !route.contested {
            return None;
        }
        // A parameter matches `/a/b` even if there is a route `/a/b/`, as in KrakenD.
        let slash = route.wildcard && (path.ends_with('/') || tree.has_closed(route.closed));
        if !slash && !tree.may_differ_in_case(path) {
            return None;
        }
        // Even without redirects `leaf` does not match this path.
        let slashed = slash.then(|| other_slash(tree, path)).flatten();
        if let Some(path) = slashed.filter(|path| self.better(tree, path, leaf).is_some()) {
            return Some(Elsewhere {
                path,
                prefixed: true,
            });
        }
        let accept = |path: &str, other: u32| self.better(tree, path, leaf) == Some(other);
        in_another_case(tree, path, slash, &accept)
    }

    /// The route for `path`, if it is more specific than `leaf`.
    fn better(&self, tree: &Tree, path: &str, leaf: u32) -> Option<u32> {
        let other = tree.find(path.strip_prefix('/')?, &mut Captures::new())?;
        let weights = |leaf: u32| &self.routes[leaf as usize].weights;
        (weights(other) > weights(leaf)).then_some(other)
    }

    fn found(&self, leaf: u32, captures: Captures<'_>) -> Match<'_, T> {
        let route = &self.routes[leaf as usize];
        match &route.target {
            Target::Endpoint(endpoint) => self
                .params(route, captures)
                .map_or_else(Match::BadParam, |params| Match::Found { endpoint, params }),
            Target::Options(allow) => self
                .params(route, captures)
                .map_or_else(Match::BadParam, |_| Match::Options { allow }),
            // The part after one of our own endpoints is a parameter there, although it has no name.
            Target::BuiltIn(which) => {
                let checked = if self.options.check_params {
                    captures.iter().try_for_each(|rest| check_rest(rest))
                } else {
                    Ok(())
                };
                checked.map_or_else(Match::BadParam, |()| Match::BuiltIn(*which))
            }
        }
    }

    fn params(
        &self,
        route: &Route<T>,
        captures: Captures<'_>,
    ) -> Result<Params, Cow<'static, str>> {
        let values = captures.into_iter().map(Cow::into_owned);
        let params = Params(route.names.iter().cloned().zip(values).collect());
        check(&params, self.options.check_params).map(|()| params)
    }

    /// The path that the request should have used: with another trailing slash, or cleaned and in another letter
    /// case.
    fn elsewhere(&self, tree: &Tree, path: &str) -> Option<Elsewhere> {
        if path == "/" {
            return None;
        }
        let slashed = self.slashed(tree, path);
        slashed.or_else(|| self.folded(tree, path))
    }

    fn slashed(&self, tree: &Tree, path: &str) -> Option<Elsewhere> {
        let slash = self.options.redirect_trailing_slash;
        let path = slash.then(|| other_slash(tree, path))??;
        let prefixed = true;
        Some(Elsewhere { path, prefixed })
    }

    fn folded(&self, tree: &Tree, path: &str) -> Option<Elsewhere> {
        let fixed = self.options.redirect_fixed_path;
        let slash = self.options.redirect_trailing_slash;
        fixed.then(|| in_another_case(tree, path, slash, &|_, _| true))?
    }

    fn unmatched(&self, method: &Method, bare: &str) -> Match<'_, T> {
        if !self.options.method_not_allowed {
            return Match::NotFound;
        }
        let others = self
            .trees
            .iter()
            .filter(|(known, _)| known != method)
            .filter_map(|(known, tree)| Some((known, tree.find(bare, &mut Captures::new())?)));
        let mut others = others.peekable();
        let Some(&(_, leaf)) = others.peek() else {
            return Match::NotFound;
        };
        Match::MethodNotAllowed {
            near: match &self.routes[leaf as usize].target {
                Target::Endpoint(endpoint) => Some(endpoint),
                _ => None,
            },
            allow: method_list(others.map(|(known, _)| known)),
        }
    }
}

/// The requested path and method.
#[derive(Clone, Copy)]
struct Asked<'a> {
    method: &'a Method,
    path: &'a str,
    query: Option<&'a str>,
    prefix: Option<&'a str>,
}

/// The path that the client should have requested.
struct Elsewhere {
    path: String,
    /// Whether `X-Forwarded-Prefix` is prepended to it.
    prefixed: bool,
}

impl Elsewhere {
    /// The path to redirect to. `None` if a browser would take it for another host.
    fn with(self, prefix: Option<&str>) -> Option<String> {
        redirect::relative(if self.prefixed {
            redirect::with_prefix(&self.path, prefix)
        } else {
            self.path
        })
    }
}

impl Tree {
    /// Whether `path` leads to a route other than `leaf`.
    fn leads_elsewhere(&self, path: &str, leaf: u32) -> bool {
        let bare = path.strip_prefix('/').unwrap_or(path);
        let found = self.find(bare, &mut Captures::new());
        found.is_some_and(|other| other != leaf)
    }

    /// The same in another letter case, or with a slash at the end.
    fn leads_elsewhere_in_any_case(&self, path: &str, leaf: u32) -> bool {
        let accept = |_: &str, other: u32| other != leaf;
        self.leads_elsewhere(path, leaf) || in_another_case(self, path, true, &accept).is_some()
    }
}

/// Looks up any path in a small router and returns the `Location` of a redirect. For a fuzz target and a property
/// test.
#[doc(hidden)]
pub fn route_anything(path: &str) -> Option<HeaderValue> {
    let mut builder = Router::builder(Options::default());
    for text in ["/a/{x}/*", "/{x}.y/b", "/a/é/", "/{a}/{b}"] {
        let pattern = Pattern::parse(text, true).ok()?;
        builder.add(Method::GET, pattern, ()).ok()?;
    }
    match builder.build().route(&Method::GET, path, None, None) {
        Match::Redirect(to) => Some(to.location),
        _ => None,
    }
}

/// The path in another letter case, if that is a route. `slash`: a route with another trailing slash counts too.
fn in_another_case(
    tree: &Tree,
    path: &str,
    slash: bool,
    accept: &dyn Fn(&str, u32) -> bool,
) -> Option<Elsewhere> {
    let clean = redirect::clean(path);
    let path = tree.find_folded(clean.strip_prefix('/')?, slash, accept)?;
    Some(Elsewhere {
        path,
        prefixed: false,
    })
}

/// The path with its trailing slash added or removed, if that is a route.
fn other_slash(tree: &Tree, path: &str) -> Option<String> {
    let other = match path.strip_suffix('/') {
        Some(shorter) => shorter.to_owned(),
        None => format!("{path}/"),
    };
    let bare = other.strip_prefix('/')?;
    tree.find(bare, &mut Captures::new())?;
    Some(other)
}

/// `GET, POST`.
pub(super) fn method_list<'m>(methods: impl Iterator<Item = &'m Method>) -> HeaderValue {
    let names: Vec<&str> = methods.map(Method::as_str).collect();
    // A method is a token, so the value is always valid.
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// Rejects values that change when they are decoded again, in KrakenD's words.
///
/// # Errors
/// The text of the 400 response.
pub(crate) fn check_params(params: &Params) -> Result<(), Cow<'static, str>> {
    check(params, true)
}

fn check(params: &Params, twice: bool) -> Result<(), Cow<'static, str>> {
    for (name, value) in &params.0 {
        // The rest of a wildcard is raw, and was checked during the match.
        if &**name == "*" || is_plain(value) {
            continue;
        }
        if value.contains(|c: char| c == '\\' || c.is_control()) {
            return Err(Cow::Borrowed(ENCODED));
        }
        if twice {
            check_twice(value)?;
        }
    }
    Ok(())
}

/// Checks the rest of a path after one of our own endpoints, which is a parameter there.
fn check_rest(raw: &str) -> Result<(), Cow<'static, str>> {
    if is_plain(raw) {
        return Ok(());
    }
    check_twice(&percent_decode_str(raw).decode_utf8_lossy())
}

const ENCODED: &str = "error: encoded url params";

/// The common case, checked in one pass.
fn is_plain(value: &str) -> bool {
    value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'@' | b':'))
}

fn check_twice(value: &str) -> Result<(), Cow<'static, str>> {
    if let Some(bad) = escape::malformed(value) {
        return Err(Cow::Owned(format!("error: invalid URL escape {bad:?}")));
    }
    let again = percent_decode_str(value).collect::<Vec<u8>>();
    if again == value.as_bytes() && !value.contains(['?', '#']) {
        Ok(())
    } else {
        Err(Cow::Borrowed(ENCODED))
    }
}
