//! Numbers, texts and tables as AMQP 0-9-1 encodes them (section 4.2).

/// Bytes that end early, or are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads values one after another.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor(bytes)
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(bytes).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A text of at most 255 bytes, which is not always UTF-8.
    pub(super) fn short(&mut self) -> Result<&'a [u8], Malformed> {
        let bytes = self.u8()?;
        self.take(bytes.into())
    }

    /// A short text for people.
    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        Ok(String::from_utf8_lossy(self.short()?).into_owned())
    }

    /// A long text, or the inside of a table.
    pub(super) fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let bytes = self.u32()?;
        self.take(usize::try_from(bytes).map_err(|_| Malformed)?)
    }

    /// The value of a header of this type. The types are those of RabbitMQ.
    fn value(&mut self, kind: u8) -> Result<&'a [u8], Malformed> {
        let bytes = match kind {
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'u' | b'U' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            b'S' | b'x' | b'A' | b'F' => return self.long(),
            _ => return Err(Malformed),
        };
        self.take(bytes)
    }
}

/// The number of a header in the inside of a table. `None` if it is not there, or no number from 0.
pub(super) fn number(table: &[u8], name: &str) -> Option<u64> {
    let mut rest = Cursor::new(table);
    loop {
        let key = rest.short().ok()?;
        let kind = rest.u8().ok()?;
        let value = rest.value(kind).ok()?;
        if key == name.as_bytes() {
            return unsigned(kind, value);
        }
    }
}

fn unsigned(kind: u8, value: &[u8]) -> Option<u64> {
    let is_signed = match kind {
        b'b' | b's' | b'I' | b'l' => true,
        b'B' | b'u' | b'i' => false,
        _ => return None,
    };
    let is_negative = is_signed && value.first().is_some_and(|first| *first >= 0x80);
    let number = value
        .iter()
        .fold(0, |all: u64, byte| all << 8 | u64::from(*byte));
    (!is_negative).then_some(number)
}

/// Writes a text of at most 255 bytes. Those who call it have checked this.
pub(super) fn put_short(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let bytes = bytes.get(..255).unwrap_or(bytes);
    out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(bytes);
}

/// Writes a long text, or the inside of a table. It is part of a frame, and so much smaller than 4 GiB.
pub(super) fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_among_headers_of_all_types() {
        let mut table = Vec::new();
        for (kind, bytes) in [
            (b'V', 0),
            (b't', 1),
            (b'u', 2),
            (b'f', 4),
            (b'D', 5),
            (b'T', 8),
        ] {
            put_short(&mut table, "other");
            table.push(kind);
            table.extend(vec![0xff; bytes]);
        }
        for kind in *b"SxAF" {
            // The text is not UTF-8, and the table no table.
            put_short(&mut table, "\u{e9}");
            table.push(kind);
            put_long(&mut table, b"\xff\xfe");
        }
        let with = |kind: u8, value: &[u8]| {
            let mut table = table.clone();
            put_short(&mut table, "count");
            table.push(kind);
            table.extend(value);
            number(&table, "count")
        };
        assert_eq!(with(b'l', &7_i64.to_be_bytes()), Some(7));
        assert_eq!(with(b'l', &(-7_i64).to_be_bytes()), None);
        assert_eq!(with(b'I', &7_i32.to_be_bytes()), Some(7));
        assert_eq!(with(b'i', &u32::MAX.to_be_bytes()), Some(u32::MAX.into()));
        assert_eq!(with(b'b', &[255]), None);
        assert_eq!(with(b'B', &[255]), Some(255));
        for bad in [&b""[..], b"\x00", b"\xff\xff"] {
            assert_eq!(with(b'l', bad), None);
        }
        assert_eq!(with(b'?', &[0; 8]), None);
        assert_eq!(with(b'S', &[0, 0, 0, 0]), None);
        assert_eq!(with(b'F', &[255; 8]), None);
        assert_eq!(number(&table, "count"), None);
    }

    #[test]
    fn texts_are_cut_at_the_end_of_the_bytes() {
        let mut cursor = Cursor::new(b"\x02ab\x00\x00\x00\x01c\x05ab");
        assert_eq!(cursor.short(), Ok(&b"ab"[..]));
        assert_eq!(cursor.long(), Ok(&b"c"[..]));
        assert_eq!(cursor.short(), Err(Malformed));
        assert_eq!(Cursor::new(b"\xff\xff\xff\xffx").long(), Err(Malformed));
    }
}
