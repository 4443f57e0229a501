//! What tells of a failed backend (`return_error_details`). Scripts see more of it than is written: the backend's name,
//! and what is empty.

use super::{Id, Members, Shown};

const WRITTEN: [&str; 3] = ["http_status_code", "http_body", "http_body_encoding"];
/// What can be read although it is not there.
const READ: [&str; 3] = ["http_body", "http_body_encoding", "name"];

/// The entries that scripts looked into, with their backends' names.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<(Id, Box<str>)>);

impl Entries {
    /// Takes note of the object that was found under `key`, if it is one.
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

    /// The member called `key` of an entry that has none.
    pub(super) fn shown(&self, id: Id, key: &str) -> Option<Shown> {
        let (_, name) = self.0.iter().find(|(known, _)| *known == id)?;
        match key {
            "name" => Some(Shown::Text(name.clone())),
            key if READ.contains(&key) => Some(Shown::Text(Box::default())),
            _ => None,
        }
    }

    /// The names that an entry with `members` has besides.
    pub(super) fn names(&self, id: Id, members: &Members) -> impl Iterator<Item = &'static str> {
        let is_entry = self.0.iter().any(|(known, _)| *known == id);
        let names = READ.iter().filter(move |_| is_entry);
        names.filter(|name| !members.contains_key(**name)).copied()
    }
}
