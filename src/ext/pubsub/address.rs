//! The URL of a topic or a queue: `scheme://place?option=value`.

use std::borrow::Cow;

/// A URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// In lower case.
    pub(super) scheme: String,
    /// Host and path, without slashes around them.
    pub(super) place: String,
    /// In the order of the URL.
    pub(super) options: Vec<(String, String)>,
}

impl Address {
    /// `None` if the text has no scheme.
    pub(super) fn parse(text: &str) -> Option<Address> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let pairs = form_urlencoded::parse(query.as_bytes());
        Some(Address {
            scheme: scheme.to_ascii_lowercase(),
            place: place.trim_matches('/').to_owned(),
            options: pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        })
    }

    /// The first value of an option. An option without a value is empty.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let mut options = self.options.iter();
        options.find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }

    /// An option that is on or off; the name alone means on.
    ///
    /// # Errors
    /// The value is neither.
    pub(super) fn flag(&self, name: &str) -> Result<bool, String> {
        match self.option(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => Err(format!("{name}={other}: true or false")),
        }
    }

    /// Scheme and place, for messages.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        let place = match self.place.rsplit_once('@') {
            Some((_, place)) => place,
            None => &self.place,
        };
        Cow::Owned(format!("{}://{place}", self.scheme))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_a_place_and_options() {
        let address = Address::parse("awssqs://sqs.x.amazonaws.com/1/q?region=x&raw").unwrap();
        assert_eq!(address.scheme, "awssqs");
        assert_eq!(address.place, "sqs.x.amazonaws.com/1/q");
        assert_eq!(address.option("region"), Some("x"));
        assert_eq!(address.flag("raw"), Ok(true));
        assert_eq!(address.flag("other"), Ok(false));
        let arn = Address::parse("awssns:///arn:aws:sns:eu-west-1:1:t").unwrap();
        assert_eq!(arn.place, "arn:aws:sns:eu-west-1:1:t");
        assert_eq!(Address::parse("orders"), None);
        let secret = Address::parse("nats://user:pass@host/x").unwrap();
        assert_eq!(secret.shown(), "nats://host/x");
    }
}
