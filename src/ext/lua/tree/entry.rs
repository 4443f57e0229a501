//! The entry of a failed backend (`return_error_details`). Scripts can read more of it than is written to the
//! response: the backend's name, and empty members.

use super::{Id, Members, Shown};

const WRITTEN: [&str; 3] = ["http_status_code", "http_body", "http_body_encoding"];
/// Members that can be read although they do not exist.
const READ: [&str; 3] = ["http_body", "http_body_encoding", "name"];

/// The entries that scripts have read, with the names of their backends.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<(Id, Box<str>)>);

impl Entries {
    /// Records the object that was found under `key`, if it is an entry.
    pub(super) fn note(&mut self, key: &str, id: Id, members: &Members) {
        let Some(name) = key.strip_prefix("error_") else {
            return;
        };
        if members.contains_key("http_status_code")
            && members.keys().all(|key| WRITTEN.contains(&&**key))
        {
            self.0.push((id, name.into()));
        }
    }

    /// The virtual member `key` of an entry.
    pub(super) fn shown(&self, id: Id, key: &str) -> Option<Shown> {
        let (_, name) = self.0.iter().find(|(known, _)| *known == id)?;
        match key {
            "name" => Some(Shown::Text(name.clone())),
            key if READ.contains(&key) => Some(Shown::Text(Box::default())),
            _ => None,
        }
    }

    /// The virtual members of an entry with `members`.
    pub(super) fn names(&self, id: Id, members: &Members) -> impl Iterator<Item = &'static str> {
        let is_entry = self.0.iter().any(|(known, _)| *known == id);
        let names = READ.iter().filter(move |_| is_entry);
        names.filter(|name| !members.contains_key(**name)).copied()
    }
}
