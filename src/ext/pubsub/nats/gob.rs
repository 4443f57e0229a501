//! Messages in the form in which KrakenD writes them to NATS unless `natsv2` is set: a map of strings and then the body,
//! both as values of Go's package `encoding/gob`.

use bytes::Bytes;

/// The description of the map and the beginning of its value, as Go writes them.
const TYPE: &[u8] = &[
    0x0d, 0x7f, 0x04, 0x01, 0x02, 0xff, 0x80, 0x00, 0x01, 0x0c, 0x01, 0x0c, 0x00, 0x00,
];
const MAP: &[u8] = &[0xff, 0x80, 0x00];
const BODY: &[u8] = &[0x0a, 0x00];

/// A message of KrakenD.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) metadata: Vec<(String, String)>,
    pub(super) body: Bytes,
}

/// `None` if the bytes have another form.
pub(super) fn read(message: &Bytes) -> Option<Message> {
    let mut reader = Reader {
        rest: message.strip_prefix(TYPE)?,
    };
    let mut map = Reader {
        rest: reader.bytes()?.strip_prefix(MAP)?,
    };
    let count = map.number()?;
    let mut metadata = Vec::new();
    for _ in 0..count {
        metadata.push((map.text()?, map.text()?));
    }
    let mut value = Reader {
        rest: reader.bytes()?.strip_prefix(BODY)?,
    };
    let body = value.bytes()?;
    let complete = map.rest.is_empty() && value.rest.is_empty() && reader.rest.is_empty();
    complete.then(|| Message {
        metadata,
        body: message.slice_ref(body),
    })
}

/// Bytes that are not read yet.
struct Reader<'m> {
    rest: &'m [u8],
}

impl<'m> Reader<'m> {
    /// A number below 128 is one byte. Else the first byte is the negated number of bytes that follow.
    fn number(&mut self) -> Option<usize> {
        let (first, rest) = self.rest.split_first()?;
        if *first < 128 {
            self.rest = rest;
            return Some(usize::from(*first));
        }
        let length = usize::from(0_u8.wrapping_sub(*first));
        if length > 4 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        let number = bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        Some(number)
    }

    /// As many bytes as the number before them says.
    fn bytes(&mut self) -> Option<&'m [u8]> {
        let length = self.number()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        let bytes = self.bytes()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(metadata: &[(&str, &str)], body: &[u8]) -> Bytes {
        let number = |value: usize| match u8::try_from(value) {
            Ok(small) if small < 128 => vec![small],
            Ok(byte) => vec![0xff, byte],
            Err(_) => [&[0xfe_u8][..], &u16::try_from(value).unwrap().to_be_bytes()].concat(),
        };
        let sized = |bytes: &[u8]| [number(bytes.len()), bytes.to_vec()].concat();
        let mut map = [MAP, &number(metadata.len())].concat();
        for (name, value) in metadata {
            map.extend(sized(name.as_bytes()));
            map.extend(sized(value.as_bytes()));
        }
        let value = [BODY, &sized(body)].concat();
        [TYPE, &sized(&map), &sized(&value)].concat().into()
    }

    #[test]
    fn messages_of_krakend_are_read() {
        for body in [&b"{\"p\":3}"[..], b"", &[b'x'; 200], &[b'y'; 700]] {
            let message = written(&[("X-A", "a"), ("User-Agent", "k")], body);
            let read = read(&message).unwrap();
            assert_eq!(read.body, body);
            assert_eq!(read.metadata[0], ("X-A".to_owned(), "a".to_owned()));
        }
    }

    #[test]
    fn anything_else_is_not_a_message_of_krakend() {
        let whole = written(&[("X-A", "a")], b"body");
        for end in 0..whole.len() {
            assert_eq!(read(&whole.slice(..end)), None, "{end}");
        }
        for at in TYPE.len()..whole.len() {
            for byte in [0, 1, 127, 128, 252, 255] {
                let mut changed = whole.to_vec();
                changed[at] = byte;
                // It must not panic.
                let _ = read(&changed.into());
            }
        }
        assert_eq!(read(&Bytes::from_static(b"{}")), None);
    }
}
