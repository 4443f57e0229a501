//! A prefix whose paths are files.

use std::sync::Arc;

use crate::runtime::files::Folder;

/// A folder and its place in the paths of the service.
#[derive(Debug)]
pub struct Site {
    /// Without a slash at its end. Empty for all paths.
    pub prefix: Box<str>,
    /// The prefixes that are excluded.
    pub skip: Box<[Box<str>]>,
    pub folder: Arc<Folder>,
}

impl Site {
    /// What follows the prefix in a raw path. `None` if the path is not the site's. Paths of the gateway itself
    /// (`/__health`) never are.
    pub fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = after(path, &self.prefix)?;
        let is_ours = path.starts_with("/__") && !self.prefix.starts_with("/__");
        let is_excepted = self.skip.iter().any(|skip| after(path, skip).is_some());
        (!is_ours && !is_excepted).then_some(rest)
    }

    /// The prefix in messages.
    pub fn shown(&self) -> &str {
        match &*self.prefix {
            "" => "/",
            prefix => prefix,
        }
    }
}

/// What follows these segments.
fn after<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(prefix: &str, skip: &[&str]) -> Site {
        Site {
            prefix: prefix.into(),
            skip: skip.iter().map(|skip| (*skip).into()).collect(),
            folder: Arc::new(Folder::new("/nowhere".into())),
        }
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        let media = site("/media", &["/media/api"]);
        for (path, rest) in [
            ("/media", Some("")),
            ("/media/", Some("/")),
            ("/media/a/b.css", Some("/a/b.css")),
            ("/mediators", None),
            ("/x/media", None),
            ("/media/api", None),
            ("/media/api/x", None),
            ("/media/apis", Some("/apis")),
        ] {
            assert_eq!(media.rest(path), rest, "{path}");
        }
    }

    #[test]
    fn the_gateways_own_paths_are_never_files() {
        let all = site("", &["/api"]);
        assert_eq!(all.rest("/"), Some("/"));
        assert_eq!(all.rest("/x"), Some("/x"));
        assert_eq!(all.rest("/api/x"), None);
        for path in ["/__health", "/__ready", "/__debug/x", "/__echo/"] {
            assert_eq!(all.rest(path), None, "{path}");
        }
    }
}
