//! Prefixes whose paths go to other endpoints, as with KrakenD's plugin `wildcard`.

/// The prefixes, the longest first, and the paths of their endpoints.
#[derive(Debug, Default)]
pub struct Wildcards(Vec<(Box<str>, Box<str>)>);

impl Wildcards {
    /// Adds a prefix and the endpoint that serves its paths. `false` if the prefix already exists.
    pub fn add(&mut self, prefix: &str, endpoint: &str) -> bool {
        if self.0.iter().any(|(known, _)| **known == *prefix) {
            return false;
        }
        self.0.push((prefix.into(), endpoint.into()));
        self.0
            .sort_by_key(|(known, _)| std::cmp::Reverse(known.len()));
        true
    }

    /// The path for the router.
    pub fn rewritten(&self, path: &str) -> Option<String> {
        let (prefix, endpoint) = self.taking(path)?;
        let rest = path.get(prefix.len()..).filter(|rest| !rest.is_empty());
        Some(format!("{endpoint}{}", rest.unwrap_or("/")))
    }

    /// The prefix that takes this path, and the endpoint that serves it.
    pub fn taking(&self, path: &str) -> Option<(&str, &str)> {
        let below = |prefix: &str| {
            let rest = path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(rest)
        };
        let mut all = self.0.iter();
        let (prefix, endpoint) = all.find(|(prefix, _)| below(prefix).is_some())?;
        Some((prefix, endpoint))
    }

    /// The prefixes, the longest first.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(prefix, _)| &**prefix)
    }

    /// The endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, endpoint)| &**endpoint)
    }

    /// Whether an endpoint takes the paths of a prefix.
    pub fn receives(&self, endpoint: &str) -> bool {
        let bare = endpoint.strip_suffix("/*").unwrap_or(endpoint);
        self.0.iter().any(|(_, receiving)| **receiving == *bare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_is_used_and_matches_whole_segments() {
        let mut all = Wildcards::default();
        assert!(all.add("/foo", "/__wildcard/foo"));
        assert!(all.add("/foo/bar", "/__wildcard/bar"));
        assert!(!all.add("/foo", "/__wildcard/other"));
        for (path, expected) in [
            ("/foo", Some("/__wildcard/foo/")),
            ("/foo/", Some("/__wildcard/foo/")),
            ("/foo/x/y", Some("/__wildcard/foo/x/y")),
            ("/foo/bar/x", Some("/__wildcard/bar/x")),
            ("/foo/barn", Some("/__wildcard/foo/barn")),
            ("/foobar", None),
            ("/x/foo", None),
        ] {
            assert_eq!(all.rewritten(path).as_deref(), expected, "{path}");
        }
        assert!(all.receives("/__wildcard/foo/*") && !all.receives("/__wildcard/fo/*"));
    }
}
