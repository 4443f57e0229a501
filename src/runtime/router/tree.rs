//! The tree of one method.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use smallvec::SmallVec;

use crate::runtime::router::pattern::{Pattern, Segment};
use crate::runtime::template::escape::{self, decoded as decode};

/// The decoded values of the parameters, in the order of the pattern. The rest of a wildcard is raw.
pub(super) type Captures<'p> = SmallVec<[Cow<'p, str>; 4]>;

/// All patterns of one method. Leaves are indexes into the routes of the router.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// The number of routes that exist only with a slash after their last name: `/a/` and `/a/*`.
    closed: u32,
    /// Whether a fixed text has capitals, so that a path without capitals may be another spelling of it.
    capitals: bool,
}

#[derive(Debug, Default)]
struct Node {
    fixed: HashMap<Box<str>, u32, BuildHasherDefault<Fnv>>,
    /// The same children by lower-cased text, to find the registered spelling.
    folded: HashMap<Box<str>, Spellings, BuildHasherDefault<Fnv>>,
    /// Sorted by the length of the text around the parameter, longest first.
    affixed: Vec<Affixed>,
    param: Option<u32>,
    /// The route that ends here.
    leaf: Option<u32>,
    /// The route that matches the whole rest of the path.
    tail: Option<u32>,
}

/// Children whose text differs only in letter case.
type Spellings = SmallVec<[(Box<str>, u32); 1]>;

#[derive(Debug)]
struct Affixed {
    prefix: Box<str>,
    suffix: Box<str>,
    node: u32,
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree {
            nodes: vec![Node::default()],
            closed: 0,
            capitals: false,
        }
    }

    /// Whether this path may differ in letter case from the fixed text of a route.
    pub(super) fn may_differ_in_case(&self, path: &str) -> bool {
        let odd = |byte: u8| byte.is_ascii_uppercase() || byte == b'%' || !byte.is_ascii();
        self.capitals || path.bytes().any(odd)
    }

    /// Calls `tell` with each route that takes paths from another route: without their dots, blanks or parameters, or
    /// in another letter case, these paths would match the other route.
    pub(super) fn contested(&self, tell: &mut impl FnMut(u32)) {
        self.contested_below(0, false, tell);
    }

    fn contested_below(&self, at: u32, contested: bool, tell: &mut impl FnMut(u32)) {
        let node = &self.nodes[at as usize];
        let by_fixed = contested || !node.fixed.is_empty();
        let by_affixed = by_fixed || !node.affixed.is_empty();
        let tail_contested = by_affixed || node.param.is_some();
        let tail = node.tail.filter(|_| tail_contested);
        for leaf in node.leaf.filter(|_| contested).into_iter().chain(tail) {
            tell(leaf);
        }
        for spellings in node.folded.values() {
            let contested = contested || spellings.len() > 1;
            for (_, child) in spellings {
                self.contested_below(*child, contested, tell);
            }
        }
        for affixed in &node.affixed {
            let contested = by_fixed || node.affixed.len() > 1;
            self.contested_below(affixed.node, contested, tell);
        }
        if let Some(child) = node.param {
            self.contested_below(child, by_affixed, tell);
        }
    }

    /// Whether there is a route, other than one of `own`, that a path without its last slash could mean.
    pub(super) fn has_closed(&self, own: bool) -> bool {
        self.closed > u32::from(own)
    }

    /// Adds a route, or returns the one that matches exactly the same paths.
    pub(super) fn add(&mut self, pattern: &Pattern, leaf: u32) -> Result<(), u32> {
        let mut at = 0;
        for segment in &pattern.segments {
            at = match segment {
                Segment::Fixed(text) => self.fixed_child(at, text),
                Segment::Param { prefix, suffix, .. } => self.param_child(at, prefix, suffix),
            };
        }
        let node = &mut self.nodes[at as usize];
        let slot = if pattern.wildcard {
            &mut node.tail
        } else {
            &mut node.leaf
        };
        match slot {
            Some(known) => Err(*known),
            None => {
                *slot = Some(leaf);
                self.closed += u32::from(pattern.is_closed());
                Ok(())
            }
        }
    }

    fn grow(&mut self) -> u32 {
        self.nodes.push(Node::default());
        (self.nodes.len() - 1) as u32
    }

    fn fixed_child(&mut self, at: u32, text: &str) -> u32 {
        if let Some(known) = self.nodes[at as usize].fixed.get(text) {
            return *known;
        }
        let new = self.grow();
        let node = &mut self.nodes[at as usize];
        node.fixed.insert(text.into(), new);
        let folded = folded(text).into_boxed_str();
        self.capitals |= *folded != *text;
        let node = &mut self.nodes[at as usize];
        let spellings = node.folded.entry(folded).or_default();
        spellings.push((text.into(), new));
        new
    }

    fn param_child(&mut self, at: u32, prefix: &str, suffix: &str) -> u32 {
        let node = &self.nodes[at as usize];
        let plain = prefix.is_empty() && suffix.is_empty();
        let known = if plain {
            node.param
        } else {
            node.affixed
                .iter()
                .find(|affixed| &*affixed.prefix == prefix && &*affixed.suffix == suffix)
                .map(|affixed| affixed.node)
        };
        if let Some(known) = known {
            return known;
        }
        let new = self.grow();
        self.capitals |= folded(prefix) != prefix || folded(suffix) != suffix;
        let node = &mut self.nodes[at as usize];
        if plain {
            node.param = Some(new);
        } else {
            node.affixed.push(Affixed {
                prefix: prefix.into(),
                suffix: suffix.into(),
                node: new,
            });
            node.affixed
                .sort_by_key(|a| std::cmp::Reverse(a.prefix.len() + a.suffix.len()));
        }
        new
    }

    /// The route for a path without its first slash.
    pub(super) fn find<'p>(&self, path: &'p str, captures: &mut Captures<'p>) -> Option<u32> {
        self.walk(0, Some(path), captures)
    }

    /// The recursion is limited by the depth of the patterns, however long the path is.
    fn walk<'p>(&self, at: u32, rest: Option<&'p str>, captures: &mut Captures<'p>) -> Option<u32> {
        let node = &self.nodes[at as usize];
        let Some(rest) = rest else {
            return node.leaf;
        };
        let (raw, next) = split(rest);
        if let Some(segment) = decode(raw) {
            if let Some(child) = node.fixed.get(&*segment)
                && let Some(leaf) = self.walk(*child, next, captures)
            {
                return Some(leaf);
            }
            let mark = captures.len();
            for affixed in node.affixed.iter().filter(|_| one_segment(&segment)) {
                if let Some(value) = affixed.value(&segment) {
                    captures.push(Cow::Owned(value.to_owned()));
                    if let Some(leaf) = self.walk(affixed.node, next, captures) {
                        return Some(leaf);
                    }
                    captures.truncate(mark);
                }
            }
            // As in KrakenD, a parameter may be empty between two slashes, but not at the end.
            if let Some(child) = node.param
                && one_segment(&segment)
                && !(segment.is_empty() && next.is_none())
            {
                captures.push(segment);
                if let Some(leaf) = self.walk(child, next, captures) {
                    return Some(leaf);
                }
                captures.truncate(mark);
            }
        }
        let tail = node.tail.filter(|_| plain_tail(rest))?;
        captures.push(Cow::Borrowed(rest));
        Some(tail)
    }

    /// The registered spelling of a path that differs in letter case and, with `slash`, in its trailing slash: the
    /// first one that `accept` takes together with its route.
    pub(super) fn find_folded(
        &self,
        path: &str,
        slash: bool,
        accept: &dyn Fn(&str, u32) -> bool,
    ) -> Option<String> {
        let mut search = Folded {
            slash,
            spelling: String::with_capacity(path.len() + 2),
            accept,
        };
        self.walk_folded(0, Some(path), &mut search)
            .then_some(search.spelling)
    }

    fn walk_folded(&self, at: u32, rest: Option<&str>, search: &mut Folded<'_>) -> bool {
        let node = &self.nodes[at as usize];
        let Some(rest) = rest else {
            let child = node.fixed.get("").map(|child| &self.nodes[*child as usize]);
            let closed = child.and_then(|child| child.leaf);
            return search.ends(node.leaf, &[])
                || search.slash && (search.ends(node.tail, &["/"]) || search.ends(closed, &["/"]));
        };
        let (raw, next) = split(rest);
        let mark = search.spelling.len();
        if let Some(segment) = decode(raw) {
            let fixed = node.folded.get(&*folded(&segment));
            for (text, child) in fixed.into_iter().flatten() {
                search.spelling.push('/');
                escape::path_segment(&mut search.spelling, text);
                if self.walk_folded(*child, next, search) {
                    return true;
                }
                search.spelling.truncate(mark);
            }
            for affixed in node.affixed.iter().filter(|_| one_segment(&segment)) {
                if let Some(value) = affixed.folded_value(&segment) {
                    search.spelling.push('/');
                    for text in [&*affixed.prefix, value, &*affixed.suffix] {
                        escape::path_segment(&mut search.spelling, text);
                    }
                    if self.walk_folded(affixed.node, next, search) {
                        return true;
                    }
                    search.spelling.truncate(mark);
                }
            }
            let plain = node
                .param
                .filter(|_| one_segment(&segment) && !segment.is_empty());
            if let Some(child) = plain {
                search.spelling.push('/');
                search.spelling.push_str(raw);
                if self.walk_folded(child, next, search) {
                    return true;
                }
                search.spelling.truncate(mark);
            }
        }
        if search.slash && rest.is_empty() && at != 0 && search.ends(node.leaf, &[]) {
            return true;
        }
        let tail = node.tail.filter(|_| plain_tail(rest));
        search.ends(tail, &["/", rest])
    }
}

/// A search for another spelling.
struct Folded<'a> {
    slash: bool,
    /// The spelling of the part that is already found.
    spelling: String,
    accept: &'a dyn Fn(&str, u32) -> bool,
}

impl Folded<'_> {
    /// Whether the spelling, with these texts at its end, is accepted. Otherwise it is unchanged.
    fn ends(&mut self, leaf: Option<u32>, texts: &[&str]) -> bool {
        let Some(leaf) = leaf else {
            return false;
        };
        let mark = self.spelling.len();
        self.spelling.extend(texts.iter().copied());
        let accepted = (self.accept)(&self.spelling, leaf);
        if !accepted {
            self.spelling.truncate(mark);
        }
        accepted
    }
}

impl Affixed {
    /// The value of the parameter in `segment`. Never empty.
    fn value<'s>(&self, segment: &'s str) -> Option<&'s str> {
        segment
            .strip_prefix(&*self.prefix)?
            .strip_suffix(&*self.suffix)
            .filter(|value| !value.is_empty() && !value.contains('/'))
    }

    /// The value of the parameter in a segment whose text around the value may have another letter case.
    fn folded_value<'s>(&self, segment: &'s str) -> Option<&'s str> {
        if let Some(value) = self.value(segment) {
            return Some(value);
        }
        let (prefix, suffix) = (folded(&self.prefix), folded(&self.suffix));
        // The texts can have another length in another letter case. They are short, and few routes have them.
        let ends = |text: &str| text.char_indices().map(|(at, _)| at).collect::<Vec<_>>();
        let start = ends(segment)
            .into_iter()
            .take(4 * prefix.len() + 1)
            .find(|at| folded(&segment[..*at]) == prefix)?;
        let rest = &segment[start..];
        let end = ends(rest)
            .into_iter()
            .chain([rest.len()])
            .rev()
            .take(4 * suffix.len() + 1)
            .find(|at| folded(&rest[*at..]) == suffix)?;
        Some(&rest[..end]).filter(|value| !value.is_empty())
    }
}

fn split(rest: &str) -> (&str, Option<&str>) {
    match memchr::memchr(b'/', rest.as_bytes()) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    }
}

/// Whether every server treats a decoded segment as one segment: a hidden slash or a dot segment would be another
/// path upstream.
fn one_segment(segment: &str) -> bool {
    !escape::is_dot_segment(segment) && !segment.contains('/')
}

/// Whether the rest may be passed on unchanged.
fn plain_tail(rest: &str) -> bool {
    rest.split('/').all(|raw| {
        decode(raw).is_some_and(|segment| is_plain_segment(&segment) && !hides_path(&segment))
    })
}

fn is_plain_segment(segment: &str) -> bool {
    one_segment(segment) && !segment.contains(|c: char| c == '\\' || c.is_control())
}

/// A backend that decodes even more often is not considered.
const MAX_DECODINGS: usize = 4;

/// Whether a decoded segment becomes another path if a backend decodes it again: `%2e%2e`.
fn hides_path(segment: &str) -> bool {
    let mut text = Cow::Borrowed(segment);
    for _ in 0..MAX_DECODINGS {
        if !text.contains('%') {
            return false;
        }
        let again = match decode(&text) {
            Some(again) if *again == *text => return false,
            Some(again) => again.into_owned(),
            None => return true,
        };
        if !is_plain_segment(&again) {
            return true;
        }
        text = Cow::Owned(again);
    }
    true
}

/// FNV-1a. The keys are short and come from the configuration, so an attacker cannot provoke collisions.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The text without its letter case. In both directions, because `ſ` and `ı` have an upper case that is that of `s` and
/// `i`, but no lower case of their own. `İ` becomes `i` with a dot above, and Java's `equalsIgnoreCase` drops the dot.
fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let folded = text.to_uppercase().to_lowercase();
    if folded.is_ascii() {
        return folded;
    }
    folded.replace("i\u{307}", "i")
}
