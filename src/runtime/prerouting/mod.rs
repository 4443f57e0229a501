//! What happens to the path of a request before the router: rewrites, wildcards, virtual hosts, files.
//!
//! A service without any of these has no [`Prerouting`], and its requests go to the router as they are. All later code sees
//! only the new path, so the guards of an endpoint also protect its other paths. The access log shows what the client
//! asked for.

mod hosts;
mod rewrites;
mod site;
#[cfg(test)]
mod tests;
mod wildcards;

use std::borrow::Cow;
use std::sync::Arc;

use crate::runtime::request::Head;

pub(crate) use hosts::{Hosts, VIRTUAL};
pub(crate) use rewrites::{Piece, Rewrites, Target, decoded, is_path};
pub(crate) use site::Site;
pub(crate) use wildcards::Wildcards;

/// All of it, in the order of evaluation.
#[derive(Debug, Default)]
pub struct Prerouting {
    pub rewrites: Option<Rewrites>,
    pub wildcards: Option<Arc<Wildcards>>,
    pub hosts: Option<Arc<Hosts>>,
    /// The longest prefix first.
    pub sites: Vec<Arc<Site>>,
}

/// What one block contributes.
#[derive(Debug)]
pub enum PreroutingPart {
    Rewrites(Rewrites),
    Wildcards(Arc<Wildcards>),
    Hosts(Arc<Hosts>),
    Sites(Vec<Arc<Site>>),
}

/// Where a request goes, and the path that it has from here on.
#[derive(Debug)]
pub struct Routed<'p> {
    pub path: Cow<'p, str>,
    pub query: Option<Cow<'p, str>>,
    /// How clients see the path.
    pub shown: Shown,
    pub way: Destination,
}

/// What clients may see of a path, in redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    All,
    /// Without so many bytes at its beginning.
    After(usize),
    /// Nothing.
    Not,
}

/// Where a request goes.
#[derive(Debug)]
pub enum Destination {
    Router,
    /// 404.
    Nowhere,
    /// To the files of a folder; the path below it.
    Site(Arc<Site>, Box<str>),
}

impl Prerouting {
    /// Adds the part of a block.
    pub fn add(&mut self, part: PreroutingPart) {
        match part {
            PreroutingPart::Rewrites(rewrites) => self.rewrites = Some(rewrites),
            PreroutingPart::Wildcards(wildcards) => self.wildcards = Some(wildcards),
            PreroutingPart::Hosts(hosts) => self.hosts = Some(hosts),
            PreroutingPart::Sites(sites) => self.sites = sites,
        }
    }

    /// Decides where a request goes. `health` is the path of the health endpoint, which is never rewritten.
    pub fn route<'p>(&self, head: &Head<'p>, health: Option<&str>) -> Routed<'p> {
        let mut routed = Routed {
            path: Cow::Borrowed(head.path),
            query: head.query.map(Cow::Borrowed),
            shown: Shown::All,
            way: Destination::Router,
        };
        if is_ours(head.path) || health == Some(head.path) {
            return routed;
        }
        match self
            .rewrites
            .as_ref()
            .and_then(|all| all.apply(head.path, head.query))
        {
            Some(Some(new)) => {
                routed.path = Cow::Owned(new.path);
                routed.query = new.query.map(Cow::Owned);
            }
            Some(None) => {
                routed.way = Destination::Nowhere;
                return routed;
            }
            None => {}
        }
        if let Some(path) = self
            .wildcards
            .as_ref()
            .and_then(|all| all.rewritten(&routed.path))
        {
            routed.path = Cow::Owned(path);
            routed.shown = Shown::Not;
        }
        if !is_ours(&routed.path)
            && let Some(prefix) = self.hosts.as_ref().and_then(|all| all.prefix(head.host()))
        {
            routed.path = Cow::Owned(format!("{prefix}{}", routed.path));
            routed.shown = Shown::After(prefix.len());
        }
        let mut sites = self.sites.iter();
        let found = sites.find_map(|site| Some((site, site.rest(&routed.path)?.into())));
        if let Some((site, rest)) = found {
            routed.way = Destination::Site(Arc::clone(site), rest);
        }
        routed
    }

    /// Whether the path is one that only a rewrite leads to.
    pub fn hides(&self, path: &str) -> bool {
        let of_wildcard = |endpoint: &str| {
            path.strip_prefix(endpoint)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.hosts.is_some() && path.starts_with(VIRTUAL)
            || self
                .wildcards
                .as_ref()
                .is_some_and(|all| all.endpoints().any(of_wildcard))
    }

    /// Whether clients reach this endpoint only by a rewrite, and not by its own path.
    pub fn is_internal(&self, endpoint: &str) -> bool {
        let of_host = self.hosts.is_some() && endpoint.starts_with(VIRTUAL);
        of_host
            || self
                .wildcards
                .as_ref()
                .is_some_and(|all| all.receives(endpoint))
    }
}

impl Routed<'_> {
    /// Whether it is not what the client asked for.
    pub fn is_rewritten(&self) -> bool {
        matches!(self.path, Cow::Owned(_))
    }
}

/// The gateway's own paths (`/__health`, `/__debug/…`), and those of virtual hosts.
fn is_ours(path: &str) -> bool {
    path.starts_with("/__")
}
