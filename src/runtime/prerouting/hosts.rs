//! Virtual hosts: the paths of a host have a prefix in the router.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The first segment of the paths of virtual hosts.
pub(crate) const VIRTUAL: &str = "/__virtual/";

/// The prefixes by the name of the host, in lower case, with a port unless it is 80 or 443.
#[derive(Debug, Default)]
pub struct Hosts(HashMap<Box<str>, Box<str>>);

impl Hosts {
    /// Adds a host, by a short name or its own. `false` if it is there already.
    pub fn add(&mut self, host: &str, alias: Option<&str>) -> bool {
        let host = plain(host);
        let prefix = format!("{VIRTUAL}{}", alias.unwrap_or(&host)).into();
        match self.0.entry(host.into()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(prefix);
                true
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The prefix for requests to `host`, which is the value of `Host`.
    pub fn prefix(&self, host: &str) -> Option<&str> {
        self.0.get(&*plain(host)).map(|prefix| &**prefix)
    }

    /// Whether the path is that of one of the hosts.
    pub fn has(&self, path: &str) -> bool {
        let mut prefixes = self.0.values();
        prefixes.any(|prefix| {
            path.strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// A host in lower case, without a final dot and without the ports 80 and 443.
fn plain(host: &str) -> Cow<'_, str> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    let port = port.filter(|port| !matches!(*port, "" | "80" | "443"));
    let is_lower = !bare.bytes().any(|byte| byte.is_ascii_uppercase());
    match port {
        None if is_lower => Cow::Borrowed(bare),
        None => Cow::Owned(bare.to_ascii_lowercase()),
        Some(_) if is_lower && bare.len() == name.len() => Cow::Borrowed(host),
        Some(port) => Cow::Owned(format!("{}:{port}", bare.to_ascii_lowercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_by_its_name_and_port() {
        let mut hosts = Hosts::default();
        assert!(hosts.add("A.example.com:443", None));
        assert!(!hosts.add("a.example.com", Some("again")));
        assert!(hosts.add("b.example.com:8080", Some("b")));
        for (host, prefix) in [
            ("a.example.com", Some("/__virtual/a.example.com")),
            ("A.EXAMPLE.com.", Some("/__virtual/a.example.com")),
            ("a.example.com:80", Some("/__virtual/a.example.com")),
            ("a.example.com:443", Some("/__virtual/a.example.com")),
            ("a.example.com:8080", None),
            ("b.example.com", None),
            ("b.example.com:8080", Some("/__virtual/b")),
            ("B.example.com.:8080", Some("/__virtual/b")),
            ("x.a.example.com", None),
            ("", None),
        ] {
            assert_eq!(hosts.prefix(host), prefix, "{host}");
        }
        assert!(hosts.has("/__virtual/b/x") && hosts.has("/__virtual/b"));
        assert!(!hosts.has("/__virtual/bb/x"));
    }
}
