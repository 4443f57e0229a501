//! Builds a [`Router`] from a list of routes.

use std::sync::Arc;

use http::Method;
use smallvec::SmallVec;

use crate::runtime::router::pattern::Pattern;
use crate::runtime::router::search::{BuiltIn, Route, Router, Target, method_list};
use crate::runtime::router::tree::Tree;

/// The options of the `router` namespace that affect how a path is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Disabled by `disable_redirect_trailing_slash`.
    pub redirect_trailing_slash: bool,
    /// Disabled by `disable_redirect_fixed_path`.
    pub redirect_fixed_path: bool,
    /// Disabled by `disable_handle_method_not_allowed`: 405 becomes 404.
    pub method_not_allowed: bool,
    /// `remove_extra_slash`: `//a` is looked up as `/a`.
    pub remove_extra_slash: bool,
    /// `keep_slashes`: a wildcard passes `a//b` on unchanged.
    pub keep_slashes: bool,
    /// `auto_options`: the path of every endpoint responds to OPTIONS.
    pub auto_options: bool,
    /// Disabled by `disable_path_decoding`: values that can be decoded twice pass.
    pub check_params: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            redirect_trailing_slash: true,
            redirect_fixed_path: true,
            method_not_allowed: true,
            remove_extra_slash: false,
            keep_slashes: false,
            auto_options: false,
            check_params: true,
        }
    }
}

/// Why a route conflicts with the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("{method} {pattern} is defined twice")]
    Duplicate { method: Method, pattern: String },
    /// The two routes differ only in the names of their parameters.
    #[error("{method} {pattern} matches the same paths as {first}")]
    Indistinguishable {
        method: Method,
        pattern: String,
        first: String,
    },
}

/// Collects routes. The order of methods in `Allow` is the order in which they first appear here.
#[derive(Debug)]
pub struct Builder<T> {
    options: Options,
    trees: Vec<(Method, Tree)>,
    routes: Vec<Route<T>>,
    /// The method and pattern of each route, for messages and for OPTIONS.
    origins: Vec<(Method, Pattern)>,
    others: Option<Tree>,
}

impl<T> Builder<T> {
    pub(super) fn new(options: Options) -> Builder<T> {
        Builder {
            options,
            trees: Vec::new(),
            routes: Vec::new(),
            origins: Vec::new(),
            others: None,
        }
    }

    /// Adds the health endpoint. Call it before all others, because `Allow` then lists GET first.
    ///
    /// # Errors
    /// Another route already uses the path.
    pub fn health(&mut self, path: &str) -> Result<(), RouteError> {
        let pattern = Pattern::fixed(path, false);
        self.insert(Method::GET, pattern, Target::BuiltIn(BuiltIn::Health))
    }

    /// Adds `/__debug/*` or `/__echo/*` for every method.
    ///
    /// # Errors
    /// Another route already uses the path.
    pub fn any(&mut self, which: BuiltIn) -> Result<(), RouteError> {
        let path = match which {
            BuiltIn::Health => "/__health",
            BuiltIn::Debug => "/__debug",
            BuiltIn::Echo => "/__echo",
        };
        // The order is KrakenD's, as seen in its `Allow`.
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::HEAD,
            Method::OPTIONS,
            Method::DELETE,
            Method::CONNECT,
            Method::TRACE,
        ] {
            self.insert(method, Pattern::fixed(path, true), Target::BuiltIn(which))?;
        }
        Ok(())
    }

    /// Adds an endpoint.
    ///
    /// # Errors
    /// Another route of this method matches the same paths.
    pub fn add(&mut self, method: Method, pattern: Pattern, endpoint: T) -> Result<(), RouteError> {
        self.insert(method, pattern, Target::Endpoint(endpoint))
    }

    /// Adds the endpoint of all paths for the methods that no other endpoint has, except TRACE and CONNECT.
    pub fn add_others(&mut self, pattern: Pattern, endpoint: T) {
        let mut tree = Tree::new();
        // The first route of a tree has no other one to collide with.
        let _ = tree.add(&pattern, self.routes.len() as u32);
        self.others = Some(tree);
        self.keep(Method::GET, pattern, Target::Endpoint(endpoint));
    }

    /// The finished router.
    pub fn build(mut self) -> Router<T> {
        if self.options.auto_options {
            self.add_options();
        }
        for (_, tree) in &self.trees {
            tree.contested(&mut |leaf| self.routes[leaf as usize].contested = true);
        }
        Router {
            options: self.options,
            trees: self.trees.into_boxed_slice(),
            routes: self.routes.into_boxed_slice(),
            others: self.others,
        }
    }

    fn insert(
        &mut self,
        method: Method,
        pattern: Pattern,
        target: Target<T>,
    ) -> Result<(), RouteError> {
        let leaf = self.routes.len() as u32;
        let tree = tree_of(&mut self.trees, &method);
        if let Err(known) = tree.add(&pattern, leaf) {
            let first = self.origins[known as usize].1.as_str();
            return Err(if first == pattern.as_str() {
                RouteError::Duplicate {
                    method,
                    pattern: pattern.as_str().to_string(),
                }
            } else {
                RouteError::Indistinguishable {
                    method,
                    pattern: pattern.as_str().to_string(),
                    first: first.to_string(),
                }
            });
        }
        self.keep(method, pattern, target);
        Ok(())
    }

    fn keep(&mut self, method: Method, pattern: Pattern, target: Target<T>) {
        self.routes.push(Route {
            names: names(&pattern),
            wildcard: pattern.is_wildcard(),
            closed: pattern.is_closed(),
            weights: pattern.weights(),
            contested: false,
            target,
        });
        self.origins.push((method, pattern));
    }

    /// Adds OPTIONS for the path of each endpoint, with the sorted list of its methods.
    fn add_options(&mut self) {
        let mut shared = Tree::new();
        let mut paths: Vec<(Pattern, Vec<Method>)> = Vec::new();
        for ((method, pattern), route) in self.origins.iter().zip(&self.routes) {
            if !matches!(route.target, Target::Endpoint(_)) {
                continue;
            }
            match shared.add(pattern, paths.len() as u32) {
                Ok(()) => paths.push((pattern.clone(), vec![method.clone()])),
                Err(known) => paths[known as usize].1.push(method.clone()),
            }
        }
        for (pattern, mut methods) in paths {
            methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            methods.dedup();
            let allow = method_list(methods.iter());
            // An existing OPTIONS route takes precedence.
            let _ = self.insert(Method::OPTIONS, pattern, Target::Options(allow));
        }
    }
}

fn tree_of<'t>(trees: &'t mut Vec<(Method, Tree)>, method: &Method) -> &'t mut Tree {
    let at = match trees.iter().position(|(known, _)| known == method) {
        Some(at) => at,
        None => {
            trees.push((method.clone(), Tree::new()));
            trees.len() - 1
        }
    };
    &mut trees[at].1
}

/// The names of the captures. As in KrakenD, the last of several equal names counts, and the earlier ones get an
/// empty name.
fn names(pattern: &Pattern) -> SmallVec<[Arc<str>; 4]> {
    let all: Vec<&Arc<str>> = pattern.params().collect();
    let mut names: SmallVec<[Arc<str>; 4]> = SmallVec::new();
    for (at, name) in all.iter().enumerate() {
        let again = all[at + 1..].contains(name);
        names.push(if again {
            Arc::from("")
        } else {
            (*name).clone()
        });
    }
    if pattern.is_wildcard() {
        names.push(Arc::from("*"));
    }
    names
}
