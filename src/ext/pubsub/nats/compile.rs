//! Compiles an address to a subject or a subscription.

use std::sync::{Arc, Weak};

use super::super::address::Address;
use super::super::driver::{Subscription, Topic};
use super::address::{Server, servers};
use super::connection::Client;
use super::opening::open;
use super::{Subject, Subscribed, subscribe};
use crate::config::{ConfigError, Node};
use crate::ext::broker::{Link, QUICK, most_bytes};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::reload_state::Task;
use crate::telemetry::queues::{Direction, MessageCounter};

const SERVER: &str = "NATS_SERVER_URL";
/// The name in messages and metrics. The address comes from the environment, and may contain a password.
const NAME: &str = "NATS";

/// The subject that messages are sent to. `None` after an error was reported.
pub(in crate::ext::pubsub) fn topic(
    node: &Node<'_>,
    address: &Address,
    cx: &mut Compile<'_>,
) -> Option<Arc<dyn Topic>> {
    let name = subject(node, address)?;
    if name.split('.').any(|word| word == "*" || word == ">") {
        node.invalid(format!("{name}: a message is sent to one subject"));
        return None;
    }
    let (link, _) = link(node, cx)?;
    Some(Arc::new(Subject {
        link,
        name: name.into(),
    }))
}

/// The subscription that messages are taken from. `None` after an error was reported.
pub(in crate::ext::pubsub) fn subscription(
    node: &Node<'_>,
    address: &Address,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> Option<Arc<dyn Subscription>> {
    let name = subject(node, address)?;
    let queue = address.option("queue").filter(|queue| !queue.is_empty());
    if queue.is_some_and(|queue| !is_word(queue)) {
        node.invalid("queue: a name without blanks");
        return None;
    }
    let queue = queue.map(str::to_owned);
    let (link, key) = link(node, cx)?;
    // Each backend has a subscription of its own, as in KrakenD.
    let key = format!("{} {key}", site.state("nats subscription", node));
    let counter = MessageCounter::new(site.pattern, Direction::In);
    let subscribed = cx.carry_over(key, |tasks| {
        let line = Arc::new(Link::new(&format!("the subject {name} of {NAME}")));
        let subscribed = Arc::new(Subscribed::new(Arc::clone(&line), counter));
        let weak = Arc::downgrade(&subscribed);
        let open = move || {
            let link = Arc::clone(&link);
            subscribe(link, Weak::clone(&weak), name.clone(), queue.clone())
        };
        let work = Link::keep(Arc::downgrade(&line), QUICK, open);
        tasks.push(Task::new("subscription of NATS", work));
        subscribed
    });
    Some(Arc::new(subscribed))
}

fn is_word(text: &str) -> bool {
    !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn subject(node: &Node<'_>, address: &Address) -> Option<String> {
    let off = ["false", "0"];
    let form = address.option("natsv2");
    if form.is_some_and(|value| off.contains(&value)) {
        node.config_error_hint(
            ConfigError::invalid(
                "messages are sent with headers of NATS, and not in KrakenD's older form",
            ),
            "remove natsv2; messages in the older form are also read",
        );
        return None;
    }
    address
        .flag("natsv2")
        .map_err(|why| node.invalid(why))
        .ok()?;
    let name = &address.place;
    let words: Vec<&str> = name.split('.').collect();
    // `>` matches all further words, so it must be the last one.
    let is_open = words.iter().rev().skip(1).any(|word| *word == ">");
    if !is_word(name) || words.iter().any(|word| word.is_empty()) || is_open {
        node.invalid(format!("{name:?} is not a subject of NATS"));
        return None;
    }
    Some(name.clone())
}

/// The connection, which all backends share, also across reloads, and its definition.
fn link(node: &Node<'_>, cx: &mut Compile<'_>) -> Option<(Arc<Link<Client>>, String)> {
    let url = cx.environment.get(SERVER).filter(|url| !url.is_empty());
    let Some(url) = url.map(str::to_owned) else {
        node.warn_hint(
            ConfigError::invalid(format!("{SERVER} is not set: every call fails")),
            format!("{SERVER}=nats://host:4222"),
        );
        let link = cx.carry_over("nats", |_| {
            Arc::new(Link::closed(NAME, "NATS_SERVER_URL is not set"))
        });
        return Some((link, String::new()));
    };
    let servers: Arc<[Server]> = match servers(&url) {
        Ok(servers) => servers.into(),
        Err(why) => {
            node.config_error_hint(
                ConfigError::invalid(format!("{SERVER} is not a list of servers: {why}")),
                format!("{SERVER}=nats://user:password@host:4222"),
            );
            return None;
        }
    };
    let tls = cx.client_tls();
    let most_bytes = most_bytes(cx);
    let key = format!("nats {url} {tls:?} {most_bytes}");
    let made = cx.try_carry_over(key.clone(), |tasks| {
        let config = Arc::new(tls.config()?);
        let link = Arc::new(Link::new(NAME));
        let turn = Arc::default();
        let open = move || {
            let (servers, config) = (Arc::clone(&servers), Arc::clone(&config));
            open(servers, config, most_bytes, Arc::clone(&turn))
        };
        let work = Link::keep(Arc::downgrade(&link), QUICK, open);
        tasks.push(Task::new("connection to NATS", work));
        Ok::<_, crate::upstream::ClientError>(link)
    });
    let link = made.map_err(|error| node.invalid(error.to_string())).ok()?;
    Some((link, key))
}
