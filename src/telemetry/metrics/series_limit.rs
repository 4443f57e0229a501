//! Which routes have series of their own: the page must not grow without limit.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use smallvec::SmallVec;

use crate::telemetry::series::MAX_SERIES;

/// Where a pair of a route and a method comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// An endpoint of the configuration.
    Endpoint,
    /// A request for the path of an endpoint with another method. Clients must not use up the series of endpoints.
    Request,
}

/// The routes with series of their own, at most [`MAX_SERIES`] pairs of route and method of each origin.
#[derive(Debug, Default)]
pub(super) struct SeriesLimit {
    /// The limit was reached, so that a route may have no series of its own.
    is_full: AtomicBool,
    sets: RwLock<Sets>,
    overflowed: AtomicU64,
}

#[derive(Debug, Default)]
struct Sets {
    endpoints: Pairs,
    requests: Pairs,
}

/// Methods by route.
#[derive(Debug, Default)]
struct Pairs {
    by_route: HashMap<Box<str>, SmallVec<[Box<str>; 1]>>,
    count: usize,
}

impl Pairs {
    fn has(&self, route: &str, method: &str) -> bool {
        let methods = self.by_route.get(route);
        methods.is_some_and(|methods| methods.iter().any(|known| **known == *method))
    }

    /// Adds a pair, unless the limit is reached.
    fn add(&mut self, route: &str, method: &str) -> bool {
        if self.has(route, method) {
            return true;
        }
        let has_room = self.count < MAX_SERIES;
        if has_room {
            self.count += 1;
            let methods = self.by_route.entry(route.into()).or_default();
            methods.push(method.into());
        }
        has_room
    }

    fn keep(&mut self, is_kept: impl Fn(&str, &str) -> bool) {
        self.by_route.retain(|route, methods| {
            methods.retain(|method| is_kept(route, method));
            !methods.is_empty()
        });
        self.count = self.by_route.values().map(SmallVec::len).sum();
    }
}

impl SeriesLimit {
    /// Whether the route has series of its own with this method. It gets them if the limit allows it.
    pub(super) fn admits(&self, route: &str, method: &str, origin: Origin) -> bool {
        if self.has(route, method) {
            return true;
        }
        let mut sets = self.write();
        let admitted = match origin {
            Origin::Endpoint => sets.endpoints.add(route, method),
            Origin::Request => sets.requests.add(route, method),
        };
        if !admitted {
            self.is_full.store(true, Ordering::Relaxed);
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Whether the route has series of its own, with any method.
    pub(super) fn knows(&self, route: &str) -> bool {
        !self.is_full.load(Ordering::Relaxed) || self.read().endpoints.by_route.contains_key(route)
    }

    /// How often a route got no series of its own.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Whether the route has series of its own with this method.
    pub(super) fn has(&self, route: &str, method: &str) -> bool {
        let sets = self.read();
        sets.endpoints.has(route, method) || sets.requests.has(route, method)
    }

    /// Removes all endpoints except these pairs of route and method, which makes room for others.
    pub(super) fn keep_endpoints(&self, pairs: &HashSet<(&str, &str)>) {
        let mut sets = self.write();
        sets.endpoints
            .keep(|route, method| pairs.contains(&(route, method)));
        let is_full = sets.endpoints.count >= MAX_SERIES;
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    /// Removes all routes except these.
    pub(super) fn keep(&self, routes: &HashSet<&str>) {
        let mut sets = self.write();
        sets.endpoints.keep(|route, _| routes.contains(route));
        sets.requests.keep(|route, _| routes.contains(route));
        let is_full = sets.endpoints.count >= MAX_SERIES;
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Sets> {
        self.sets.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sets> {
        self.sets.write().unwrap_or_else(PoisonError::into_inner)
    }
}
