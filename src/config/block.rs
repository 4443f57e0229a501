//! An object with known keys: reads them by name and reports unknown ones.

use std::time::Duration;

use super::key::{Key, Kind, is_comment};
use super::node::{Node, Typing};
use super::report::{ConfigError, Finding, Report, Severity};
use super::rule::{self, Rule};
use super::suggest::nearest;
use super::value::{Data, Member};

/// An open object. Each reader returns `None` for an absent key (and for `null`), and also for a wrong value, which
/// it reports. Reading a key that is not in the table is a bug, which is caught in debug builds.
#[derive(Debug, Clone)]
pub struct Block<'a> {
    node: Node<'a>,
    keys: &'static [Key],
    typing: Typing,
}

/// The value of a [`Kind::TextOrTexts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    /// The strings, however they are written.
    pub fn texts(&self) -> &[String] {
        match self {
            OneOrMany::One(text) => std::slice::from_ref(text),
            OneOrMany::Many(texts) => texts,
        }
    }
}

impl<'a> Block<'a> {
    /// Opens `node`, and warns about keys that are not in the table. Anything except an object is an error.
    pub fn open(node: Node<'a>, keys: &'static [Key], typing: Typing) -> Option<Block<'a>> {
        let block = Block::open_quietly(node, keys, typing)?;
        for member in block.members() {
            match block.known(&member.name) {
                None => block.unknown(member),
                Some(known) if matches!(known.kind, Kind::Leftover) => {
                    block.leftover(member, known)
                }
                Some(known) if member.value.is_null() => block.without_value(member, known),
                Some(known) if typing == Typing::Strict && known.name != &*member.name => {
                    block.respelled(member, known)
                }
                Some(_) => {}
            }
        }
        Some(block)
    }

    /// Reports a key that is `null`. A template value that was not filled in must not silently take a requirement away.
    fn without_value(&self, member: &Member, known: &Key) {
        if !known.guard && self.node.rule() != Rule::Guard {
            return;
        }
        let path = self.node.path().key(&member.name);
        let node = Node::at_path(&member.value, path, self.node.report());
        node.ruled(Rule::Guard).config_error_hint(
            ConfigError::invalid("null is not a value: the key would require nothing"),
            "remove the key, or put an \"@\" before it",
        );
    }

    /// Opens `node` without a check for unknown keys, for blocks whose other keys are names that the author chose.
    pub fn open_quietly(node: Node<'a>, keys: &'static [Key], typing: Typing) -> Option<Block<'a>> {
        if !matches!(node.value().data, Data::Object(_)) {
            node.wrong_type(&Kind::Object);
            return None;
        }
        Some(Block { node, keys, typing })
    }

    /// The object itself, for errors that concern the whole block.
    pub fn node(&self) -> &Node<'a> {
        &self.node
    }

    pub fn report(&self) -> &'a Report {
        self.node.report()
    }

    /// The value under `key`, with its location.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        debug_assert!(
            self.keys.iter().any(|known| known.name == key),
            "{key:?} is not in the table of this block"
        );
        let member = self.find(key)?;
        if member.value.is_null() {
            return None;
        }
        let path = self.node.path().key(&member.name);
        let known = self.known(key);
        let secret = known.is_some_and(|known| matches!(known.kind, Kind::Secret));
        let rule = match known {
            Some(known) if known.guard => Rule::Guard,
            _ => self.node.rule(),
        };
        let node = Node::at_path(&member.value, path, self.node.report());
        Some(node.hiding(secret).ruled(rule))
    }

    /// Whether the key is present and not `null`.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Reports that a required key is missing.
    pub fn missing(&self, key: &'static str) {
        self.node.config_error(ConfigError::Missing(key));
    }

    /// A required string. `None` if it is missing, empty or not a string, which is reported.
    pub fn required(&self, key: &'static str) -> Option<String> {
        let Some(node) = self.get(key) else {
            self.missing(key);
            return None;
        };
        let text = node.text(self.typing)?;
        if text.is_empty() {
            node.invalid("must not be empty");
            return None;
        }
        Some(text.to_owned())
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.text(self.typing)
    }

    pub fn string(&self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    /// A string without blanks and line ends around it, which come from templates and secrets. They are reported.
    pub fn trimmed(&self, key: &str) -> Option<&'a str> {
        let node = self.get(key)?;
        let text = node.text(self.typing)?;
        let trimmed = text.trim();
        if trimmed.len() < text.len() {
            node.warn(ConfigError::invalid(
                "blanks and line ends around it are removed",
            ));
        }
        Some(trimmed)
    }

    /// A string from the list in the key's table entry. It is case-sensitive. Any other is an error.
    pub fn choice(&self, key: &str) -> Option<&'static str> {
        self.chosen(key, |node, config_error, hint| match hint {
            Some(hint) => node.config_error_hint(config_error, hint),
            None => node.config_error(config_error),
        })
    }

    /// Like `choice`, for keys where KrakenD accepts other values: they give a warning, and `None`.
    pub fn lenient_choice(&self, key: &str) -> Option<&'static str> {
        self.chosen(key, |node, config_error, hint| match hint {
            Some(hint) => node.warn_hint(config_error, hint),
            None => node.warn(config_error),
        })
    }

    fn chosen(
        &self,
        key: &str,
        otherwise: fn(&Node<'_>, ConfigError, Option<String>),
    ) -> Option<&'static str> {
        let node = self.get(key)?;
        let text = node.text(self.typing)?;
        let allowed = match self.known(key).map(|known| known.kind) {
            Some(Kind::Choice(allowed)) => allowed,
            _ => &[],
        };
        let chosen = allowed.iter().find(|known| **known == text).copied();
        if chosen.is_none()
            && let Some(plain) = rule::choice(text, allowed)
        {
            node.warn(ConfigError::invalid(format!(
                "{} is treated as {plain:?}",
                node.shown()
            )));
            return Some(plain);
        }
        if chosen.is_none() {
            let config_error = ConfigError::NotOneOf {
                found: node.shown(),
                allowed: allowed.join(", "),
            };
            let meant = nearest(text, allowed.iter().copied());
            let hint = meant.map(|meant| format!("did you mean \"{meant}\"?"));
            otherwise(&node, config_error, hint);
        }
        chosen
    }

    pub fn bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.bool(self.typing)
    }

    /// A switch that is off if it is absent.
    pub fn flag(&self, key: &str) -> bool {
        self.bool(key).unwrap_or(false)
    }

    pub fn integer(&self, key: &str) -> Option<i64> {
        self.get(key)?.integer(self.typing)
    }

    /// An integer of at least 0.
    pub fn count(&self, key: &str) -> Option<u64> {
        self.get(key)?.count(self.typing)
    }

    /// An integer between `least` and `most`, inclusive.
    pub fn within(&self, key: &str, least: i64, most: i64) -> Option<i64> {
        let node = self.get(key)?;
        let integer = node.integer(self.typing)?;
        if (least..=most).contains(&integer) {
            return Some(integer);
        }
        node.config_error(ConfigError::OutOfRange {
            found: integer.to_string(),
            range: format!("{least} to {most}"),
        });
        None
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.number(self.typing)
    }

    pub fn duration(&self, key: &str) -> Option<Duration> {
        self.get(key)?.duration()
    }

    /// A duration where 0 means "not set".
    pub fn set_duration(&self, key: &str) -> Option<Duration> {
        self.duration(key).filter(|duration| !duration.is_zero())
    }

    /// A list of strings. Empty if absent.
    pub fn texts(&self, key: &str) -> Vec<String> {
        self.get(key)
            .and_then(|node| node.texts(self.typing))
            .unwrap_or_default()
    }

    /// A list of strings, each with its location.
    pub fn text_items(&self, key: &str) -> Vec<(String, Node<'a>)> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        let (texts, items) = (node.texts(self.typing), node.items());
        let texts = texts.unwrap_or_default().into_iter().enumerate();
        texts
            .map(|(index, text)| (text, items.get(index).unwrap_or(&node).clone()))
            .collect()
    }

    /// A string or a list of strings. `None` if it is absent, or has another type, which is reported.
    pub fn text_or_texts(&self, key: &str) -> Option<OneOrMany> {
        let node = self.get(key)?;
        match node.value().data {
            Data::List(_) => node.texts(self.typing).map(OneOrMany::Many),
            Data::Object(_) | Data::Null => {
                node.wrong_type(&Kind::TextOrTexts);
                None
            }
            _ => node
                .text(self.typing)
                .map(|text| OneOrMany::One(text.to_owned())),
        }
    }

    /// A list of integers. Empty if absent.
    pub fn integers(&self, key: &str) -> Vec<i64> {
        self.get(key)
            .and_then(|node| node.integers(self.typing))
            .unwrap_or_default()
    }

    /// An object of strings, in the configured order. Empty if absent.
    pub fn text_map(&self, key: &str) -> Vec<(String, String)> {
        self.get(key)
            .and_then(|node| node.text_map(self.typing))
            .unwrap_or_default()
    }

    /// An object whose members the caller reads.
    pub fn object(&self, key: &str) -> Option<Node<'a>> {
        self.get(key)?.object()
    }

    /// A list whose items the caller reads. Empty if absent.
    pub fn list(&self, key: &str) -> Vec<Node<'a>> {
        self.get(key)
            .and_then(|node| node.list(self.typing))
            .unwrap_or_default()
    }

    /// An object with its own table, which is the `Kind::Block` in this table.
    pub fn block(&self, key: &str) -> Option<Block<'a>> {
        let node = self.get(key)?;
        Block::open(node, self.inner(key), self.typing)
    }

    /// A list of objects with their own table, which is the `Kind::Blocks` in this table.
    pub fn blocks(&self, key: &str) -> Vec<Block<'a>> {
        self.list(key)
            .into_iter()
            .filter_map(|item| Block::open(item, self.inner(key), self.typing))
            .collect()
    }

    fn inner(&self, key: &str) -> &'static [Key] {
        match self.known(key).map(|known| known.kind) {
            Some(Kind::Block(keys) | Kind::Blocks(keys)) => keys,
            _ => {
                debug_assert!(false, "{key:?} is not a block in its table");
                &[]
            }
        }
    }

    /// Whether the table has this key.
    pub fn knows(&self, key: &str) -> bool {
        self.known(key).is_some()
    }

    fn known(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|known| self.same(known.name, name))
    }

    /// Keys are case-insensitive, as in KrakenD: silently at the core levels, with a warning in namespaces.
    /// There `maxRate` (as in version 1) is also accepted for `max_rate`.
    fn same(&self, known: &str, name: &str) -> bool {
        match self.typing {
            Typing::Weak => known.eq_ignore_ascii_case(name),
            Typing::Strict => known == name || rule::folded(known).eq(rule::folded(name)),
        }
    }

    /// The exact spelling first, then the others, of which the last one wins.
    fn find(&self, key: &str) -> Option<&'a Member> {
        let members = self.node.value().members();
        members
            .iter()
            .find(|member| &*member.name == key)
            .or_else(|| {
                members
                    .iter()
                    .rev()
                    .find(|member| self.same(key, &member.name))
            })
    }

    fn respelled(&self, member: &Member, known: &Key) {
        let read = self.find(known.name);
        if read.is_some_and(|read| read.name != member.name) {
            let path = self.node.path().key(&member.name);
            let node = Node::at_path(&member.value, path, self.node.report());
            return node.ruled(self.node.rule()).config_error_hint(
                ConfigError::KeySpelledTwice {
                    key: member.name.to_string(),
                    known: known.name,
                },
                "remove one of them",
            );
        }
        self.node.report().add(Finding {
            severity: Severity::Warning,
            pointer: self.node.path().key(&member.name).pointer(),
            at: member.at,
            config_error: ConfigError::KeyTaken {
                key: member.name.to_string(),
                known: known.name,
            },
            hint: None,
        });
    }

    fn leftover(&self, member: &Member, known: &Key) {
        self.node.report().add(Finding {
            severity: Severity::Warning,
            pointer: self.node.path().key(&member.name).pointer(),
            at: member.at,
            config_error: ConfigError::Leftover {
                key: member.name.to_string(),
            },
            hint: (!known.doc.is_empty()).then_some(known.doc.into()),
        });
    }

    /// Reports an unknown key. In a guard it may be a misspelt rule, which would not apply.
    fn unknown(&self, member: &Member) {
        let meant = self.meant(&member.name);
        let key = member.name.to_string();
        let guard = meant.is_some_and(|known| known.guard);
        let (severity, config_error, end) = if guard {
            (
                Severity::ConfigError,
                ConfigError::UnknownGuardKey { key },
                format!(" To ignore it, write \"@{}\"", member.name),
            )
        } else {
            (
                Severity::Warning,
                ConfigError::UnknownKey { key },
                String::new(),
            )
        };
        self.node.report().add(Finding {
            severity,
            pointer: self.node.path().key(&member.name).pointer(),
            at: member.at,
            config_error,
            hint: meant.and_then(|meant| match meant.kind {
                // The key that is meant has no effect: say at once what replaces it.
                Kind::Leftover => (!meant.doc.is_empty()).then_some(meant.doc.into()),
                _ => Some(format!("did you mean \"{}\"?{end}", meant.name).into()),
            }),
        });
    }

    /// The key that is meant by another name.
    fn meant(&self, name: &str) -> Option<&'static Key> {
        let mut keys = self.keys.iter();
        let same = |other: &&'static str| rule::folded(other).eq(rule::folded(name));
        keys.find(|known| known.also.iter().any(&same)).or_else(|| {
            let near = nearest(name, self.keys.iter().map(|known| known.name))?;
            self.keys.iter().find(|known| known.name == near)
        })
    }

    /// Whether it has keys, and none of them is in the table or nearly one that guards, which is an error of its own.
    pub fn has_only_unknown_keys(&self) -> bool {
        let mut members = self.members().peekable();
        members.peek().is_some()
            && members.all(|member| !self.knows(&member.name))
            && !self.misspells_a_guard()
    }

    /// Whether a key is nearly one that guards, which is reported when the block is opened.
    fn misspells_a_guard(&self) -> bool {
        let unknown = |member: &&Member| !self.knows(&member.name);
        let mut unknown = self.members().filter(unknown);
        unknown.any(|member| self.meant(&member.name).is_some_and(|known| known.guard))
    }

    /// Reports a guard's block without any rule. Unknown keys in it may be misspelt rules, so they stop the start.
    pub fn guards_nothing(&self, hint: &'static str) {
        if self.misspells_a_guard() {
            return;
        }
        let text = ConfigError::invalid("the block guards nothing");
        if self.members().all(|member| self.knows(&member.name)) {
            self.node.warn_hint(text, hint);
        } else {
            self.node.config_error_hint(text, hint);
        }
    }

    /// The members that are not comments.
    fn members(&self) -> impl Iterator<Item = &'a Member> + use<'a> {
        let members = self.node.value().members().iter();
        members.filter(|member| !is_comment(&member.name))
    }
}

#[cfg(test)]
mod tests;
