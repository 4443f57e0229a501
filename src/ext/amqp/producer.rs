//! Makes messages of requests for an exchange.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;

use super::client::{Properties, Texts};
use super::publish::{Outgoing, OutgoingMessage, send};
use crate::ext::broker::Link;
use crate::ext::pubsub::{Listed, Outlet, Sending};
use crate::runtime::failure::Failure;
use crate::runtime::pipe::PipeRequest;
use crate::runtime::request::Params;

/// The most bytes of a short string (AMQP 0-9-1, 4.2.5.3).
const MAX_SHORT: usize = 255;
/// The queue of RabbitMQ for replies on the channel of the sender.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";
/// The longest expiration that RabbitMQ takes, in milliseconds: ten years of 365 days.
const MAX_EXPIRATION: u64 = 315_360_000_000;

/// Where the routing key comes from.
#[derive(Debug)]
pub(super) enum RoutingKey {
    Fixed(String),
    /// The value of this parameter.
    Of(Box<str>),
}

/// The parameters whose values are properties of messages.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) expiration: Option<Box<str>>,
    pub(super) reply_to: Option<Box<str>>,
    pub(super) message_id: Option<Box<str>>,
    pub(super) priority: Option<Box<str>>,
}

/// Sends the body of each request.
pub(super) struct Producer {
    pub(super) link: Arc<Link<Outgoing>>,
    pub(super) routing_key: RoutingKey,
    pub(super) names: Names,
    pub(super) mandatory: bool,
    /// Messages survive a restart of the broker, like the queues that they are for.
    pub(super) durable: bool,
    pub(super) listed: Listed,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({:?})", self.link)
    }
}

impl Outlet for Producer {
    fn send(&self, request: &PipeRequest) -> Result<Sending<'_>, Failure> {
        let letter = self.letter(request)?;
        Ok(Box::pin(send(&self.link, letter, request.deadline)))
    }
}

impl Producer {
    /// # Errors
    /// 400: a parameter cannot be the property that it is for.
    fn letter(&self, request: &PipeRequest) -> Result<OutgoingMessage, Failure> {
        let routing_key = match &self.routing_key {
            RoutingKey::Fixed(key) => key.clone(),
            RoutingKey::Of(name) => short("routing key", request.params.get(name).unwrap_or(""))?,
        };
        let metadata = self.listed.all(&request.headers);
        let headers = metadata.iter();
        let head_bytes = headers
            .flat_map(|(name, values)| values.iter().map(|value| field_bytes(name, value)))
            .sum();
        let mut properties = properties(metadata)?;
        self.names.set(&mut properties, &request.params)?;
        properties.is_persistent = self.durable;
        Ok(OutgoingMessage {
            routing_key,
            mandatory: self.mandatory,
            properties,
            head_bytes,
            body: request.body.clone(),
        })
    }
}

impl Names {
    fn set(&self, properties: &mut Properties, params: &Params) -> Result<(), Failure> {
        let value = |name: &Option<Box<str>>| {
            let value = params.get(name.as_deref()?)?;
            (!value.is_empty()).then(|| value.to_owned())
        };
        if let Some(text) = value(&self.expiration) {
            properties.expiration = Some(expiration(&text)?);
        }
        if let Some(text) = value(&self.reply_to) {
            // The broker closes the channel of a sender that does not consume from it.
            if text == DIRECT_REPLY {
                return Err(bad(format!("replies to {DIRECT_REPLY} are not supported")));
            }
            properties.reply_to = Some(short("address for replies", &text)?);
        }
        if let Some(text) = value(&self.message_id) {
            properties.message_id = Some(short("message id", &text)?);
        }
        if let Some(text) = value(&self.priority) {
            let number = text.parse().ok();
            let number =
                number.ok_or_else(|| bad("the priority is not a number from 0 to 255".to_owned()));
            properties.priority = Some(number?);
        }
        Ok(())
    }
}

/// A number of milliseconds, as the broker takes it.
///
/// # Errors
/// 400: the broker would close the channel, with the messages of other requests on it.
fn expiration(text: &str) -> Result<String, Failure> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u64>().ok().filter(|_| digits);
    match number.filter(|number| *number <= MAX_EXPIRATION) {
        Some(number) => Ok(number.to_string()),
        None => Err(bad(format!(
            "the expiration is not a number of milliseconds from 0 to {MAX_EXPIRATION}"
        ))),
    }
}

/// Properties with the headers of a request, each an array of texts as in KrakenD, its content type and the time.
fn properties(metadata: Vec<(String, Vec<String>)>) -> Result<Properties, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut properties = Properties {
        timestamp: Some(now.unwrap_or_default().as_secs()),
        ..Properties::default()
    };
    for (name, values) in metadata {
        if let Some(first) = values.first().filter(|_| name == "Content-Type")
            && !first.is_empty()
        {
            properties.content_type = Some(short("content type", first)?);
        }
        let name = short("name of a header", &name)?;
        properties.headers.push((name, Texts::List(values)));
    }
    Ok(properties)
}

/// Properties for `rabbit://`: each header is one text, and there is no content type of its own.
pub(super) fn plain_properties(metadata: Vec<(String, String)>) -> Result<Properties, Failure> {
    let headers = metadata.into_iter().map(|(name, value)| {
        let name = short("name of a header", &name)?;
        Ok((name, Texts::One(value)))
    });
    Ok(Properties {
        headers: headers.collect::<Result<_, Failure>>()?,
        ..Properties::default()
    })
}

/// The most bytes of a header with one value: a name, a type and a length of each.
pub(super) fn field_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + 16
}

/// # Errors
/// 400: it is longer than AMQP allows.
pub(super) fn short(what: &str, text: &str) -> Result<String, Failure> {
    if text.len() > MAX_SHORT {
        return Err(bad(format!("the {what} is longer than {MAX_SHORT} bytes")));
    }
    Ok(text.to_owned())
}

fn bad(text: String) -> Failure {
    Failure::bad_input(StatusCode::BAD_REQUEST, text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc as Shared;

    use super::*;

    #[test]
    fn bad_parameters_are_400() {
        let names = Names {
            expiration: Some("exp".into()),
            reply_to: Some("reply".into()),
            message_id: None,
            priority: Some("priority".into()),
        };
        let long = "r".repeat(256);
        for (name, value, good) in [
            ("exp", "60000", true),
            ("exp", "abc", false),
            ("exp", "-1", false),
            ("exp", "+1", false),
            ("exp", "007", true),
            ("exp", "315360000000", true),
            ("exp", "315360000001", false),
            ("exp", "99999999999999999999", false),
            ("priority", "-1", false),
            ("reply", "amq.rabbitmq.reply-to", false),
            ("priority", "255", true),
            ("priority", "256", false),
            ("priority", "x", false),
            ("reply", "r", true),
            ("reply", &*long, false),
            ("other", &*long, true),
        ] {
            let mut params = Params::default();
            params.0.push((Shared::from(name), value.to_owned()));
            let set = names.set(&mut Properties::default(), &params);
            assert_eq!(set.is_ok(), good, "{name}={value}");
            let status = set.err().map(|failure| failure.status);
            assert!(status.is_none_or(|status| status == StatusCode::BAD_REQUEST));
        }
    }
}
