//! Finds the key of a request that decides about its host.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderName, HeaderValue};

use crate::config::{Block, ConfigError};
use crate::ext::Compile;
use crate::runtime::request::{Head, Notes};
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::resilience::{AffinityKey, affinity};

/// `sticky` of one or more backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sticky {
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Header(HeaderName),
    Cookie {
        name: Box<str>,
        /// The attributes of a cookie of our own. `None`: only cookies that others set count.
        own: Option<Box<str>>,
    },
}

impl Sticky {
    /// Rules with the same place have the same id.
    pub(crate) fn id(&self) -> u64 {
        let text = match &self.place {
            Place::Header(name) => format!("header {name}"),
            Place::Cookie { name, .. } => format!("cookie {name}"),
        };
        affinity(text.as_bytes()).get()
    }

    /// The key of a request. `None`: any host may be called.
    fn key(&self, head: &Head<'_>, notes: &mut Notes) -> Option<AffinityKey> {
        match &self.place {
            Place::Header(name) => {
                let value = notes.header_values(head, name).next()?;
                (!value.is_empty()).then(|| affinity(value.as_bytes()))
            }
            Place::Cookie { name, own } => {
                let found = cookie(head, notes, name).map(|value| affinity(value.as_bytes()));
                match (found, own) {
                    (Some(key), _) => Some(key),
                    (None, Some(attributes)) => given(name, attributes, notes),
                    (None, None) => None,
                }
            }
        }
    }
}

/// Gives the client a cookie with a random value, which says nothing about the host.
fn given(name: &str, attributes: &str, notes: &mut Notes) -> Option<AffinityKey> {
    let mut bytes = [0; 16];
    // Without randomness any host is called.
    rand::fill(&mut bytes).ok()?;
    let value = format!("{:032x}", u128::from_be_bytes(bytes));
    let line = HeaderValue::try_from(format!("{name}={value}{attributes}")).ok()?;
    notes.response_fields.push((SET_COOKIE, line));
    Some(affinity(value.as_bytes()))
}

/// The first cookie with this name (RFC 6265 §5.4).
fn cookie<'n>(head: &Head<'n>, notes: &'n Notes, name: &str) -> Option<&'n str> {
    notes
        .header_values(head, &COOKIE)
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, value)| *known == name && !value.is_empty())
        .map(|(_, value)| value)
}

/// The step of an endpoint whose backends have sticky hosts.
#[derive(Debug)]
struct Keys(Box<[Sticky]>);

impl EndpointStep for Keys {
    fn name(&self) -> &'static str {
        "portcullis/upstream"
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        let mut keys = Vec::new();
        for rule in &self.0 {
            keys.extend(rule.key(head, notes).map(|key| (rule.id(), key)));
        }
        notes.affinity = (!keys.is_empty()).then(|| keys.into());
        Gate::Pass
    }
}

/// The rules of the backends of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Sticky>);

/// Begins an endpoint.
pub(crate) fn begin(cx: &mut Compile<'_>) {
    cx.set_fact(Arc::new(Rules::default()));
}

/// Adds the rule of a backend.
pub(crate) fn add(rule: &Sticky, cx: &mut Compile<'_>) {
    let mut rules = cx
        .fact::<Rules>()
        .map_or_else(Vec::new, |rules| rules.0.clone());
    if !rules.iter().any(|known| known.id() == rule.id()) {
        rules.push(rule.clone());
    }
    cx.set_fact(Arc::new(Rules(rules)));
}

/// The step that finds the keys for the backends that were compiled since [`begin`].
pub(crate) fn step(cx: &Compile<'_>) -> Option<Box<dyn EndpointStep>> {
    let rules = cx.fact::<Rules>().filter(|rules| !rules.0.is_empty())?;
    Some(Box::new(Keys(rules.0.clone().into())))
}

/// Reads the block. `None` without a rule, after reporting all errors.
pub(super) fn read(block: &Block<'_>) -> Option<Sticky> {
    if block.bool("enabled") == Some(false) {
        return None;
    }
    let place = match (block.text("header"), block.text("cookie")) {
        (Some(header), None) => {
            let name = HeaderName::try_from(header).ok();
            if name.is_none() {
                block
                    .get("header")?
                    .config_error(ConfigError::header_name(header));
            }
            Place::Header(name?)
        }
        (None, Some(cookie)) => {
            // The names of cookies and of headers are tokens (RFC 9110 §5.6.2).
            if HeaderName::from_bytes(cookie.as_bytes()).is_err() {
                block
                    .get("cookie")?
                    .invalid(format!("{cookie:?} is not the name of a cookie"));
            }
            Place::Cookie {
                name: cookie.into(),
                own: own(block, cookie),
            }
        }
        _ => {
            block.node().config_error_hint(
                ConfigError::invalid(
                    "one of \"header\" and \"cookie\" must be set: it selects the host",
                ),
                "\"header\": \"X-Tenant\", or \"cookie\": \"session\"",
            );
            return None;
        }
    };
    if matches!(place, Place::Header(_)) || !block.flag("set") {
        for key in ["max_age", "path", "same_site", "secure"] {
            if let Some(node) = block.get(key) {
                node.warn(ConfigError::invalid("has no effect without \"set\": true"));
            }
        }
    }
    if matches!(place, Place::Header(_)) && block.flag("set") {
        block.get("set")?.invalid("is for cookies only");
    }
    Some(Sticky { place })
}

/// The attributes of a cookie of our own (RFC 6265 §4.1.1).
fn own(block: &Block<'_>, name: &str) -> Option<Box<str>> {
    if !block.flag("set") {
        return None;
    }
    let path = block.text("path").unwrap_or("/");
    let is_path = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b';');
    if !is_path && let Some(node) = block.get("path") {
        node.invalid(format!("{} is not a path", node.shown()));
    }
    let same_site = block.choice("same_site").unwrap_or("Lax");
    let is_secure = block.bool("secure").unwrap_or(true);
    if same_site == "None" && !is_secure {
        block.node().invalid(
            "browsers reject a cookie with \"same_site\": \"None\" that is not \"secure\"",
        );
    }
    if name.starts_with("__Host-") && (path != "/" || !is_secure)
        || name.starts_with("__Secure-") && !is_secure
    {
        block.node().invalid(
            "browsers reject a cookie of this name that is not \"secure\", or not for \"/\"",
        );
    }
    let mut attributes = format!("; Path={path}");
    if let Some(age) = block.set_duration("max_age") {
        attributes.push_str(&format!(
            "; Max-Age={}",
            age.max(Duration::from_secs(1)).as_secs()
        ));
    }
    attributes.push_str("; HttpOnly; SameSite=");
    attributes.push_str(same_site);
    if is_secure {
        attributes.push_str("; Secure");
    }
    Some(attributes.into())
}
