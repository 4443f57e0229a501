//! What happens to the path of a request before the router: rewrites, virtual hosts, wildcards, files.
//!
//! A service without any of these has no [`Ahead`], and its requests go to the router as they are.

mod site;

use std::sync::Arc;

pub use site::Site;

/// All of it, in the order in which it is asked.
#[derive(Debug, Default)]
pub struct Ahead {
    /// The longest prefix first.
    pub sites: Vec<Arc<Site>>,
}

/// What one block contributes.
#[derive(Debug)]
pub enum AheadPart {
    Sites(Vec<Arc<Site>>),
}

impl Ahead {
    /// Adds the part of a block.
    pub fn add(&mut self, part: AheadPart) {
        match part {
            AheadPart::Sites(sites) => self.sites = sites,
        }
    }

    /// Where a request goes.
    pub fn way<'p>(&self, path: &'p str) -> Way<'p> {
        let mut sites = self.sites.iter();
        let found = sites.find_map(|site| Some((site, site.rest(path)?)));
        match found {
            Some((site, rest)) => Way::Site(Arc::clone(site), rest),
            None => Way::Router,
        }
    }
}

/// Where a request goes.
#[derive(Debug)]
pub enum Way<'p> {
    Router,
    /// To the files of a folder; the path below it.
    Site(Arc<Site>, &'p str),
}
