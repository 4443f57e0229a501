//! Creates or accepts the id of a request, and passes it on.

use aws_lc_rs::rand;
use http::{HeaderName, HeaderValue};

use crate::runtime::request::{GivenId, Head, Notes, RequestId};
use crate::runtime::response::Response;
use crate::runtime::step::ServiceStep;

/// Longer ids of clients are replaced, because they would only make logs large.
const MAX_LENGTH: usize = 128;

/// Gives each request its id.
#[derive(Debug)]
pub(crate) struct RequestIds {
    header: HeaderName,
    trust: bool,
    respond: bool,
}

impl RequestIds {
    /// Ids in `header`. With `trust` a client's own id is kept, and with `respond` the response contains the id.
    pub(crate) fn new(header: HeaderName, trust: bool, respond: bool) -> RequestIds {
        RequestIds {
            header,
            trust,
            respond,
        }
    }

    fn given(&self, value: HeaderValue) -> GivenId {
        let id = RequestId {
            header: self.header.clone(),
            value,
        };
        GivenId {
            id,
            respond: self.respond,
        }
    }

    /// The client's own id, if it is trusted, valid and sent only once.
    fn sent(&self, head: &Head<'_>) -> Option<HeaderValue> {
        let mut lines = head.headers.get_all(&self.header).iter();
        match (lines.next(), lines.next()) {
            (Some(only), None) if self.trust && is_sane(only.as_bytes()) => Some(only.clone()),
            _ => None,
        }
    }
}

impl ServiceStep for RequestIds {
    fn covers_health(&self) -> bool {
        // Every response and log line can have an id, including redirects and preflights.
        true
    }

    fn new_id(&self) -> Option<GivenId> {
        random().map(|value| self.given(value))
    }

    fn request(&self, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
        // Without randomness there is no id: the request is more important.
        notes.identify(self.given(self.sent(head).or_else(random)?));
        None
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// A random UUID (RFC 9562 §5.4); `None` without randomness.
pub(crate) fn random() -> Option<HeaderValue> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).ok()?;
    let bits = u128::from_be_bytes(bytes);
    // Version 4 and variant 2, each over random bits.
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let mut text = Vec::with_capacity(36);
    for place in 0..32_u32 {
        if matches!(place, 8 | 12 | 16 | 20) {
            text.push(b'-');
        }
        let digit = (bits >> (124 - 4 * place)) & 0xf;
        text.push(b"0123456789abcdef".get(digit as usize).copied()?);
    }
    HeaderValue::try_from(text).ok()
}
