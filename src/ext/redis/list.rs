//! A list that several gateways share: the revoked tokens.

use std::sync::Arc;
use std::time::Duration;

use super::client::Reply;

/// A list of elements with their times. The arguments are described in `list.lua`.
pub(super) const LIST: &str = include_str!("list.lua");

/// The maximum number of elements in one response about a list.
#[cfg(test)]
pub(crate) const LIST_PAGE: usize = 2_000;

/// A query of a shared list.
#[derive(Debug, Clone)]
pub(crate) struct ListAsk {
    pub key: String,
    /// Elements to add.
    pub add: Vec<Arc<str>>,
    /// Whether only those are added that are not in the list.
    pub only_missing: bool,
    /// Up to where the list is known. `None` reads it from the start.
    pub after: Option<ListPlace>,
    /// How long an element is kept.
    pub keep: Duration,
}

/// A place in a shared list: that of one element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListPlace {
    /// The time of the element, as the store writes it.
    pub time: String,
    pub element: String,
}

/// The response about a shared list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// How many of the elements to add were not in the list, if only such were added.
    pub added: usize,
    /// The list does not contain the reader's place any longer, so these elements are the first ones of the whole list.
    pub lost: bool,
    /// At most 2,000, and fewer if they are long: a reply of Redis has a limit in bytes.
    pub elements: Vec<String>,
    /// The place of the last of them.
    pub place: Option<ListPlace>,
    /// Whether there are more after these.
    pub has_more: bool,
}

impl ListAsk {
    /// The arguments of the script.
    pub(super) fn arguments(&self) -> Vec<Arc<str>> {
        let (time, element) = match &self.after {
            Some(place) => (place.time.as_str(), place.element.as_str()),
            None => ("", ""),
        };
        let mode = if self.only_missing { "missing" } else { "" };
        let keep = self.keep.as_millis().to_string();
        let first = [keep.as_str(), time, element, mode].map(Arc::from);
        first.into_iter().chain(self.add.iter().cloned()).collect()
    }
}

impl Listed {
    /// The reply of the script. `None` if it is not one.
    pub(super) fn read(reply: Reply) -> Option<Listed> {
        let mut parts = reply.into_elements()?.into_iter();
        let mut number = || parts.next()?.integer();
        let (added, lost, has_more) = (number()?, number()? == 1, number()? == 1);
        let time = parts.next()?.into_text()?;
        let elements: Vec<String> = parts.map(Reply::into_text).collect::<Option<_>>()?;
        let place = elements.last().map(|element| ListPlace {
            time,
            element: element.clone(),
        });
        Some(Listed {
            added: usize::try_from(added).ok()?,
            lost,
            elements,
            place,
            has_more,
        })
    }
}
