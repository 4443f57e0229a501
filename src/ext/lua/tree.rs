//! Data as scripts see it: objects and lists that several places may refer to.
//!
//! They are stored side by side in one [`Tree`] and refer to each other by number. So a script can create a cycle
//! without a leak: everything is freed with the request. Data that is never read stays an unparsed slice of the body.

mod budget;
mod entry;

use std::collections::BTreeMap;

pub(super) use self::budget::texts_bytes;
use self::budget::{
    LIST_ITEM, NEW_LIST, NEW_OBJECT, Spent, member, members, text_bytes, value_bytes,
};
use self::entry::Entries;
use crate::runtime::json::{Kind, MAX_DEPTH, Object, Value};
use crate::upstream::budget::{Charge, Full};

/// The index of an object or a list in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

impl Id {
    /// For storage that can only hold a number.
    pub(super) fn number(self) -> u32 {
        self.0
    }

    pub(super) fn from_number(number: u32) -> Id {
        Id(number)
    }
}

/// A value in an object or a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// A scalar, or a value that was not read yet.
    Leaf(Value),
    Object(Id),
    List(Id),
}

/// A value as a script sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shown {
    Null,
    Bool(bool),
    Number(f64),
    Text(Box<str>),
    Object(Id),
    List(Id),
}

/// Why data could not be changed or exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TreeError {
    #[error("not enough memory: the data of a request is bounded")]
    Full,
    /// The process holds too much.
    #[error(transparent)]
    Crowded(#[from] Full),
    #[error("the data is nested too deeply, or contains itself")]
    TooDeep,
}

/// An item of a list that was read: twice its place, while it is moved there.
const OPENED_ITEM: usize = 2 * size_of::<Node>();
/// The virtual members of an entry of a failed backend.
const ENTRY_NAMES: usize = 3;

type Members = BTreeMap<Box<str>, Node>;

#[derive(Debug, Default)]
struct List {
    items: Vec<Node>,
    /// A parent refers to it. As in KrakenD, a script that makes it longer gets a copy.
    shared: bool,
}

/// All objects and lists of one request.
#[derive(Debug, Default)]
pub(super) struct Tree {
    objects: Vec<Members>,
    lists: Vec<List>,
    entries: Entries,
    spent: Spent,
}

impl Tree {
    /// An empty object.
    pub(super) fn object(&mut self) -> Result<Id, TreeError> {
        self.spend(NEW_OBJECT)?;
        self.add_object(Members::new())
    }

    /// An empty list.
    pub(super) fn list(&mut self) -> Result<Id, TreeError> {
        self.spend(NEW_LIST)?;
        self.add_list(Vec::new(), false)
    }

    /// A list of strings, for which the caller has spent [`texts_bytes`] before they were made.
    pub(super) fn texts(&mut self, texts: Vec<Box<str>>) -> Result<Id, TreeError> {
        let items = texts
            .into_iter()
            .map(|text| Node::Leaf(Value::String(text)));
        let items = items.collect();
        self.add_list(items, false)
    }

    /// Imports `value`. Anything except an object becomes an empty object.
    pub(super) fn import(&mut self, value: Value) -> Result<Id, TreeError> {
        match self.opened(value)? {
            Node::Object(id) => Ok(id),
            _ => self.object(),
        }
    }

    /// The value of `id` for the gateway, and the charge for it. The tree keeps its own.
    ///
    /// # Errors
    /// It contains itself, or has become too large by containing other values many times.
    pub(super) fn export(&mut self, id: Id) -> Result<(Value, Charge), TreeError> {
        let mut copies = Spent::default();
        let value = self.value_of(&Node::Object(id), 0, &mut copies)?;
        Ok((value, copies.growth.into_charge()))
    }

    // Objects.

    /// The member called `key`.
    pub(super) fn member(&mut self, id: Id, key: &str) -> Result<Option<Shown>, TreeError> {
        let Some(slot) = self.members_mut(id).and_then(|m| m.get_mut(key)) else {
            return Ok(self.entries.shown(id, key));
        };
        let node = std::mem::replace(slot, Node::Leaf(Value::Null));
        let is_new = matches!(node, Node::Leaf(_));
        let node = self.looked_into(node)?;
        if let (true, Node::Object(new)) = (is_new, &node)
            && let Some(members) = self.objects.get(new.0 as usize)
        {
            self.entries.note(key, *new, members);
        }
        let shown = self.prepare(text_bytes(&node)).map(|()| shown(&node));
        if let Some(slot) = self.members_mut(id).and_then(|m| m.get_mut(key)) {
            *slot = node;
        }
        shown.map(Some)
    }

    /// Puts `node` under `key`.
    pub(super) fn set_member(&mut self, id: Id, key: &str, node: Node) -> Result<(), TreeError> {
        let place = match self.members(id) {
            Some(members) if members.contains_key(key) => 0,
            Some(members) => member(members.len()) + key.len(),
            None => 0,
        };
        self.spend(place + text_bytes(&node))?;
        self.share(&node);
        if let Some(members) = self.members_mut(id) {
            members.insert(key.into(), node);
        }
        Ok(())
    }

    /// Removes the member `key`.
    pub(super) fn remove_member(&mut self, id: Id, key: &str) {
        if let Some(members) = self.members_mut(id) {
            members.remove(key);
        }
    }

    /// A list of the sorted names of all members.
    pub(super) fn keys(&mut self, id: Id) -> Result<Id, TreeError> {
        let lengths = self.members(id).into_iter().flatten();
        let (count, bytes) = lengths.fold((ENTRY_NAMES, 0), |(count, bytes), (key, _)| {
            (count + 1, bytes + key.len())
        });
        self.spend(texts_bytes(count, bytes))?;
        let keys = self.names(id);
        self.texts(keys)
    }

    fn names(&self, id: Id) -> Vec<Box<str>> {
        let Some(members) = self.members(id) else {
            return Vec::new();
        };
        let mut names: Vec<Box<str>> = members.keys().cloned().collect();
        let written = names.len();
        names.extend(self.entries.names(id, members).map(Box::from));
        if names.len() > written {
            names.sort_unstable();
        }
        names
    }

    /// Whether there is a member `key`.
    pub(super) fn has(&self, id: Id, key: &str) -> bool {
        self.members(id).is_some_and(|m| m.contains_key(key))
            || self.entries.shown(id, key).is_some()
    }

    /// The number of members.
    pub(super) fn members_len(&self, id: Id) -> usize {
        self.members(id).map_or(0, |members| {
            members.len() + self.entries.names(id, members).count()
        })
    }

    // Lists.

    /// The item at `index`, starting at 0.
    pub(super) fn item(&mut self, id: Id, index: usize) -> Result<Option<Shown>, TreeError> {
        let Some(slot) = self.items_mut(id).and_then(|items| items.get_mut(index)) else {
            return Ok(None);
        };
        let node = std::mem::replace(slot, Node::Leaf(Value::Null));
        let node = self.looked_into(node)?;
        let shown = self.prepare(text_bytes(&node)).map(|()| shown(&node));
        if let Some(slot) = self.items_mut(id).and_then(|items| items.get_mut(index)) {
            *slot = node;
        }
        shown.map(Some)
    }

    /// Puts `node` at `index`. If the list grows and a parent refers to it, it is unchanged and a longer copy is
    /// created.
    ///
    /// Returns the list that contains `node`.
    pub(super) fn set_item(&mut self, id: Id, index: usize, node: Node) -> Result<Id, TreeError> {
        let length = self.items_len(id);
        self.share(&node);
        if index < length {
            self.spend(text_bytes(&node))?;
            if let Some(slot) = self.items_mut(id).and_then(|items| items.get_mut(index)) {
                *slot = node;
            }
            return Ok(id);
        }
        let added = (index - length).saturating_add(1);
        self.spend(
            added
                .saturating_mul(LIST_ITEM)
                .saturating_add(text_bytes(&node)),
        )?;
        let id = match self.lists.get(id.0 as usize) {
            Some(List {
                items,
                shared: true,
            }) => {
                let texts = items.iter().map(text_bytes).sum::<usize>();
                let bytes = NEW_LIST + LIST_ITEM * items.len() + texts;
                self.spent.add(bytes)?;
                let copy = items.clone();
                self.add_list(copy, false)?
            }
            _ => id,
        };
        if let Some(items) = self.items_mut(id) {
            items.resize(index, Node::Leaf(Value::Null));
            items.push(node);
        }
        Ok(id)
    }

    /// Removes the item at `index`. Later items move up.
    pub(super) fn remove_item(&mut self, id: Id, index: usize) {
        if let Some(items) = self.items_mut(id)
            && index < items.len()
        {
            items.remove(index);
        }
    }

    /// The length of the list.
    pub(super) fn items_len(&self, id: Id) -> usize {
        self.lists
            .get(id.0 as usize)
            .map_or(0, |list| list.items.len())
    }

    /// The items of a list as strings. Items that are not scalars are omitted.
    pub(super) fn item_texts(&mut self, id: Id) -> Result<Vec<Box<str>>, TreeError> {
        let items = self.lists.get(id.0 as usize).map(|list| &list.items);
        let bytes = items.into_iter().flatten().map(text_bytes).sum();
        self.prepare(texts_bytes(self.items_len(id), bytes))?;
        let mut texts = Vec::new();
        for index in 0..self.items_len(id) {
            match self.item(id, index)? {
                Some(Shown::Text(text)) => texts.push(text),
                Some(Shown::Number(number)) => texts.extend(number_text(number).map(Into::into)),
                Some(Shown::Bool(yes)) => texts.push(if yes { "true" } else { "false" }.into()),
                _ => {}
            }
        }
        Ok(texts)
    }

    // Internals.

    fn members(&self, id: Id) -> Option<&Members> {
        self.objects.get(id.0 as usize)
    }

    fn members_mut(&mut self, id: Id) -> Option<&mut Members> {
        self.objects.get_mut(id.0 as usize)
    }

    fn items_mut(&mut self, id: Id) -> Option<&mut Vec<Node>> {
        self.lists
            .get_mut(id.0 as usize)
            .map(|list| &mut list.items)
    }

    fn add_object(&mut self, members: Members) -> Result<Id, TreeError> {
        let id = u32::try_from(self.objects.len()).map_err(|_| TreeError::Full)?;
        self.objects.push(members);
        Ok(Id(id))
    }

    fn add_list(&mut self, items: Vec<Node>, shared: bool) -> Result<Id, TreeError> {
        let id = u32::try_from(self.lists.len()).map_err(|_| TreeError::Full)?;
        self.lists.push(List { items, shared });
        Ok(Id(id))
    }

    fn share(&mut self, node: &Node) {
        if let Node::List(id) = node
            && let Some(list) = self.lists.get_mut(id.0 as usize)
        {
            list.shared = true;
        }
    }

    /// One level of a value that was not read yet.
    fn looked_into(&mut self, node: Node) -> Result<Node, TreeError> {
        match node {
            Node::Leaf(value) => self.opened(value),
            other => Ok(other),
        }
    }

    fn opened(&mut self, mut value: Value) -> Result<Node, TreeError> {
        value.open_within(&mut self.spent.growth)?;
        match value {
            Value::Object(object) => {
                self.spend(NEW_OBJECT + members(object.len()))?;
                let leaves = object.into_iter().map(|(key, v)| (key, Node::Leaf(v)));
                let members = leaves.collect();
                self.add_object(members).map(Node::Object)
            }
            Value::Array(items) => {
                self.spend(NEW_LIST + items.len() * OPENED_ITEM)?;
                let items = items.into_iter().map(Node::Leaf).collect();
                self.add_list(items, true).map(Node::List)
            }
            scalar => Ok(Node::Leaf(scalar)),
        }
    }

    fn value_of(&self, node: &Node, depth: usize, copies: &mut Spent) -> Result<Value, TreeError> {
        if depth > MAX_DEPTH {
            return Err(TreeError::TooDeep);
        }
        match node {
            Node::Leaf(value) => {
                copies.add(value_bytes(value))?;
                Ok(value.clone())
            }
            Node::Object(id) => {
                copies.add(NEW_OBJECT)?;
                let mut object = Object::new();
                for (key, node) in self.members(*id).into_iter().flatten() {
                    copies.add(member(object.len()) + key.len())?;
                    object.insert(key.clone(), self.value_of(node, depth + 1, copies)?);
                }
                Ok(Value::Object(object))
            }
            Node::List(id) => {
                let list = self.lists.get(id.0 as usize);
                let items = list.map(|list| list.items.as_slice()).unwrap_or_default();
                copies.add(NEW_LIST + items.len() * LIST_ITEM)?;
                let values = items
                    .iter()
                    .map(|node| self.value_of(node, depth + 1, copies));
                values.collect::<Result<_, _>>().map(Value::Array)
            }
        }
    }

    /// Charges a text before it is copied from a script. What becomes of it is counted when it is added.
    pub(super) fn prepare(&mut self, bytes: usize) -> Result<(), TreeError> {
        Ok(self.spent.growth.prepare(bytes)?)
    }

    /// Counts memory against the limit of the request that is charged where it is kept.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), TreeError> {
        self.spent.count(bytes)
    }

    /// Counts memory that a script uses elsewhere too, because one limit applies to all of it.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), TreeError> {
        self.spent.add(bytes)
    }
}

fn shown(node: &Node) -> Shown {
    match node {
        Node::Object(id) => Shown::Object(*id),
        Node::List(id) => Shown::List(*id),
        Node::Leaf(value) => match value {
            Value::Bool(yes) => Shown::Bool(*yes),
            Value::Number(text) => Shown::Number(text.parse().unwrap_or(f64::NAN)),
            Value::String(text) => Shown::Text(text.clone()),
            // A leaf that was read has none of the other types.
            Value::Null | Value::Array(_) | Value::Object(_) | Value::Raw(_) => {
                debug_assert_eq!(value.kind(), Kind::Null);
                Shown::Null
            }
        },
    }
}

/// The text of a number: without a fraction if it has none. `None` if JSON cannot contain this number.
pub(super) fn number_text(number: f64) -> Option<String> {
    if !number.is_finite() {
        return None;
    }
    // Exact in both types below 2^63.
    if number.fract() == 0.0 && number.abs() < 9.2e18 {
        return Some((number as i64).to_string());
    }
    let size = number.abs();
    if (1e-6..1e21).contains(&size) {
        return Some(number.to_string());
    }
    let text = format!("{number:e}");
    Some(if text.contains("e-") {
        text
    } else {
        text.replace('e', "e+")
    })
}

#[cfg(test)]
mod tests;
