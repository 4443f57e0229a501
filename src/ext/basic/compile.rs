//! Compiles the blocks. A user who could not log in, and an endpoint that would accept no user, are errors.

use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;

use super::config::Block;
use super::runtime::{Attempts, BasicCheck};
use super::users::Users;
use crate::config::{ConfigError, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::named_file;
use crate::runtime::address::Ipv6Prefix;
use crate::runtime::clock::Clock;

/// A larger list of users belongs in a database.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The compiled service block, for the endpoints.
#[derive(Debug)]
pub(in crate::ext) struct Shared {
    users: Arc<Users>,
    challenge: HeaderValue,
}

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = Block::read(node) else {
        return ServicePart::Nothing;
    };
    if !has_users(&block) {
        nobody(node);
        return ServicePart::Nothing;
    }
    if let (Some(users), Some(challenge)) = (users(node, &block, cx), challenge(&block)) {
        cx.set_fact(Arc::new(Shared { users, challenge }));
    }
    ServicePart::Nothing
}

/// Guards all requests of the gateway, as KrakenD's plugin of this name.
pub(super) fn everywhere(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    match check(node, cx) {
        Some(check) => ServicePart::Gate(Box::new(check)),
        None => ServicePart::Nothing,
    }
}

pub(super) fn endpoint(
    node: &Node<'_>,
    _site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    match check(node, cx) {
        Some(check) => EndpointPart::step(check),
        None => EndpointPart::Nothing,
    }
}

/// `None` after an error, which is reported.
fn check(node: &Node<'_>, cx: &mut Compile<'_>) -> Option<BasicCheck> {
    let block = Block::read(node)?;
    let shared = cx.fact::<Shared>();
    let users = match (has_users(&block), &shared) {
        (true, _) => users(node, &block, cx),
        (false, Some(shared)) => Some(Arc::clone(&shared.users)),
        (false, None) => {
            nobody(node);
            return None;
        }
    };
    let challenge = match (&block.realm, &shared) {
        (None, Some(shared)) => Some(shared.challenge.clone()),
        _ => challenge(&block),
    };
    let (users, challenge) = (users?, challenge?);
    cx.browsers_send("browsers send the password of \"auth/basic\" with it");
    let attempts = cx.carry_over("auth/basic attempts", |_| {
        Arc::new(Attempts::new(Clock::system()))
    });
    Some(BasicCheck {
        users,
        attempts,
        prefix: cx
            .fact::<Ipv6Prefix>()
            .map_or_else(Ipv6Prefix::default, |prefix| *prefix),
        challenge,
    })
}

fn has_users(block: &Block<'_>) -> bool {
    !block.htpasswd_path.is_empty() || !block.users.is_empty()
}

fn nobody(node: &Node<'_>) {
    node.config_error_hint(
        ConfigError::invalid("there are no users"),
        "\"htpasswd_path\" or \"users\", here or in the service's \"auth/basic\"",
    );
}

/// The users of the file and those of the block, which take precedence. Passwords that were verified stay verified
/// after a reload if the list is unchanged.
fn users(node: &Node<'_>, block: &Block<'_>, cx: &mut Compile<'_>) -> Option<Arc<Users>> {
    let mut pairs = match (&block.htpasswd_path_at, block.htpasswd_path.as_str()) {
        (Some(at), path) if !path.is_empty() => match read(&cx.path(path)) {
            Ok(pairs) => pairs,
            Err(reason) => {
                at.config_error(ConfigError::File {
                    path: path.to_owned(),
                    reason,
                });
                return None;
            }
        },
        _ => Vec::new(),
    };
    pairs.extend(block.users.iter().cloned());
    let users = match Users::new(&pairs) {
        Ok(users) => Arc::new(users),
        Err((name, error)) => {
            let at = block.users_at.as_ref().or(block.htpasswd_path_at.as_ref());
            at.unwrap_or(node).config_error_hint(
                ConfigError::invalid(format!("user {name:?}: {error}")),
                "`htpasswd -nB NAME` prints a name and a bcrypt hash",
            );
            return None;
        }
    };
    if users.is_empty() {
        nobody(node);
        return None;
    }
    Some(cx.carry_over(format!("auth/basic {pairs:?}"), |_| users))
}

fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    let text = named_file::read_text(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            line.split_once(':')
                .map(|(name, hash)| (name.to_owned(), hash.to_owned()))
                .ok_or_else(|| format!("line {} is not name:hash", index + 1))
        })
        .collect()
}

fn challenge(block: &Block<'_>) -> Option<HeaderValue> {
    let realm = block.realm.as_deref().unwrap_or("portcullis");
    // RFC 9110 §5.6.4
    let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
    let value = HeaderValue::try_from(format!("Basic realm=\"{quoted}\", charset=\"UTF-8\"")).ok();
    if let (None, Some(at)) = (&value, &block.realm_at) {
        at.invalid("a realm must not contain control characters");
    }
    value
}
