//! The properties of messages (AMQP 0-9-1, section 1.8).

use super::codec::{Cursor, Malformed, number, put_long, put_short};

/// The header in which quorum queues count deliveries.
const COUNT: &str = "x-delivery-count";

/// The bits of properties, in the order in which they are encoded.
const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;

/// The delivery mode of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ext::amqp) enum Texts {
    One(String),
    List(Vec<String>),
}

/// The properties of a message to send. Texts have at most 255 bytes, except those of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::ext::amqp) struct Properties {
    pub(in crate::ext::amqp) content_type: Option<String>,
    pub(in crate::ext::amqp) headers: Vec<(String, Texts)>,
    pub(in crate::ext::amqp) is_persistent: bool,
    pub(in crate::ext::amqp) priority: Option<u8>,
    pub(in crate::ext::amqp) reply_to: Option<String>,
    pub(in crate::ext::amqp) expiration: Option<String>,
    pub(in crate::ext::amqp) message_id: Option<String>,
    /// Seconds since 1970.
    pub(in crate::ext::amqp) timestamp: Option<u64>,
}

impl Properties {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        let mut values = Vec::new();
        if let Some(text) = &self.content_type {
            flags |= CONTENT_TYPE;
            put_short(&mut values, text);
        }
        if !self.headers.is_empty() {
            flags |= HEADERS;
            put_long(&mut values, &table(&self.headers));
        }
        if self.is_persistent {
            flags |= DELIVERY_MODE;
            values.push(PERSISTENT);
        }
        if let Some(priority) = self.priority {
            flags |= PRIORITY;
            values.push(priority);
        }
        for (flag, text) in [
            (REPLY_TO, &self.reply_to),
            (EXPIRATION, &self.expiration),
            (MESSAGE_ID, &self.message_id),
        ] {
            if let Some(text) = text {
                flags |= flag;
                put_short(&mut values, text);
            }
        }
        if let Some(seconds) = self.timestamp {
            flags |= TIMESTAMP;
            values.extend(seconds.to_be_bytes());
        }
        out.extend(flags.to_be_bytes());
        out.extend(values);
    }
}

/// The inside of a table with these headers.
fn table(headers: &[(String, Texts)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in headers {
        put_short(&mut out, name);
        match value {
            Texts::One(text) => put_text(&mut out, text),
            Texts::List(texts) => {
                let mut list = Vec::new();
                for text in texts {
                    put_text(&mut list, text);
                }
                out.push(b'A');
                put_long(&mut out, &list);
            }
        }
    }
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'S');
    put_long(out, text.as_bytes());
}

/// The properties that matter of a message that has arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::ext::amqp) struct Known {
    pub(in crate::ext::amqp) content_type: Option<Vec<u8>>,
    pub(in crate::ext::amqp) message_id: String,
    /// How often a quorum queue has delivered the message before.
    pub(in crate::ext::amqp) earlier: Option<u32>,
}

impl Known {
    /// Reads properties up to the first one that cannot be read: a message with odd properties is delivered, too.
    pub(super) fn read(bytes: &[u8]) -> Known {
        let mut known = Known::default();
        let _ = known.fill(&mut Cursor::new(bytes));
        known
    }

    fn fill(&mut self, from: &mut Cursor<'_>) -> Result<(), Malformed> {
        let flags = from.u16()?;
        let has = |flag: u16| flags & flag != 0;
        if has(CONTENT_TYPE) {
            self.content_type = Some(from.short()?.to_vec());
        }
        if has(CONTENT_ENCODING) {
            from.short()?;
        }
        if has(HEADERS) {
            let count = number(from.long()?, COUNT);
            self.earlier = count.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        }
        for flag in [DELIVERY_MODE, PRIORITY] {
            if has(flag) {
                from.u8()?;
            }
        }
        for flag in [CORRELATION_ID, REPLY_TO, EXPIRATION] {
            if has(flag) {
                from.short()?;
            }
        }
        if has(MESSAGE_ID) {
            self.message_id = from.text()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_without_the_rest() {
        let text = |text: &str| Some(text.to_owned());
        let sent = Properties {
            content_type: text("text/plain"),
            headers: vec![
                ("a".to_owned(), Texts::One("b".to_owned())),
                ("c".to_owned(), Texts::List(vec!["d".to_owned(); 2])),
            ],
            is_persistent: true,
            priority: Some(7),
            reply_to: text("r"),
            expiration: text("60000"),
            message_id: text("m"),
            timestamp: Some(1),
        };
        let mut bytes = Vec::new();
        sent.put(&mut bytes);
        let known = Known {
            content_type: Some(b"text/plain".to_vec()),
            message_id: "m".to_owned(),
            earlier: None,
        };
        assert_eq!(Known::read(&bytes), known);
        // Bytes that end early have what came before.
        for end in 0..bytes.len() {
            let cut = Known::read(&bytes[..end]);
            assert!(cut == known || cut.message_id.is_empty());
        }
        assert_eq!(Known::read(&[0, 0]), Known::default());
        let mut none = Vec::new();
        Properties::default().put(&mut none);
        assert_eq!(none, [0, 0]);
    }

    #[test]
    fn quorum_queues_count() {
        let mut bytes = HEADERS.to_be_bytes().to_vec();
        let mut inside = Vec::new();
        put_short(&mut inside, COUNT);
        inside.push(b'l');
        inside.extend(3_i64.to_be_bytes());
        put_long(&mut bytes, &inside);
        assert_eq!(Known::read(&bytes).earlier, Some(3));
    }
}
