//! Which endpoint a request is for, before the router has said so: a preflight is answered first.

use std::collections::HashMap;

use http::Method;

/// Endpoints by the segments of their patterns; a fixed segment wins over a parameter, as in the router.
#[derive(Debug, Default, Clone)]
pub struct Routes {
    root: Node,
}

#[derive(Debug, Default, Clone)]
struct Node {
    fixed: HashMap<Box<str>, Node>,
    param: Option<Box<Node>>,
    /// The index of the policy, `None` for an endpoint without one of its own.
    ends: Vec<(Method, Option<usize>)>,
}

impl Routes {
    /// Adds an endpoint; a policy replaces an earlier entry without one.
    pub fn add(&mut self, method: &Method, pattern: &str, policy: Option<usize>) {
        let mut node = &mut self.root;
        for segment in segments(pattern) {
            node = if segment.starts_with('{') {
                node.param.get_or_insert_default()
            } else {
                node.fixed.entry(segment.into()).or_default()
            };
        }
        match node.ends.iter_mut().find(|(known, _)| known == method) {
            Some((_, known)) => *known = policy.or(*known),
            None => node.ends.push((method.clone(), policy)),
        }
    }

    /// The policy of the endpoint that `path` and `method` belong to.
    pub fn policy(&self, method: &str, path: &str) -> Option<usize> {
        let segments: Vec<&str> = segments(path).collect();
        self.root.find(&segments, method).flatten()
    }
}

impl Node {
    fn find(&self, segments: &[&str], method: &str) -> Option<Option<usize>> {
        let Some((first, rest)) = segments.split_first() else {
            return self
                .ends
                .iter()
                .find(|(known, _)| known.as_str() == method)
                .map(|(_, policy)| *policy);
        };
        let fixed = self
            .fixed
            .get(*first)
            .and_then(|node| node.find(rest, method));
        fixed.or_else(|| self.param.as_ref()?.find(rest, method))
    }
}

/// More segments than this no endpoint has; they would only cost time.
const MAX_SEGMENTS: usize = 64;

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.trim_start_matches('/').split('/').take(MAX_SEGMENTS)
}
