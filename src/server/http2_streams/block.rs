//! Counts the headers of a header block without decoding them (RFC 7541 §6). One byte can stand for a header of the
//! client's table, so the length of a block does not say how much memory its headers take.

/// A header block, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Block {
    next: Next,
    /// The number of strings that the current header still has.
    strings: u8,
    /// The bytes before the next thing to look at.
    skip: usize,
}

/// What the next byte belongs to.
#[derive(Debug, Default, Clone, Copy)]
enum Next {
    #[default]
    Header,
    /// The rest of an index or of the size of a table.
    Index,
    String,
    /// The rest of the length of a string: its value so far, and the bits that are known.
    Length(usize, u32),
}

impl Block {
    /// A block that begins after this many bytes.
    pub(super) fn after(skip: usize) -> Block {
        Block {
            skip,
            ..Block::default()
        }
    }

    /// The number of headers that begin in these bytes, which follow those of the last call.
    pub(super) fn count(&mut self, mut bytes: &[u8]) -> usize {
        let mut fields = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let Some((byte, rest)) = bytes.get(skipped..).and_then(<[u8]>::split_first) else {
                return fields;
            };
            bytes = rest;
            match self.next {
                Next::Header => fields += usize::from(self.begin(*byte)),
                Next::Index if byte & 0x80 == 0 => self.string(),
                Next::Index => {}
                Next::String if byte & 0x7f == 0x7f => self.next = Next::Length(0x7f, 0),
                Next::String => self.skip_string(usize::from(byte & 0x7f)),
                Next::Length(sum, bits) => {
                    let more = usize::from(byte & 0x7f).checked_shl(bits).unwrap_or(0);
                    let sum = sum.saturating_add(more);
                    if byte & 0x80 == 0 {
                        self.skip_string(sum);
                    } else {
                        self.next = Next::Length(sum, bits.saturating_add(7));
                    }
                }
            }
        }
    }

    /// Looks at the first byte of a header. `false` if it is the size of a table instead.
    fn begin(&mut self, byte: u8) -> bool {
        let (most, strings) = match byte {
            0x80.. => (0x7f, 0),
            0x40..0x80 => (0x3f, 1),
            0x20..0x40 => (0x1f, 0),
            ..0x20 => (0x0f, 1),
        };
        let index = byte & most;
        // Without an index, the name is a string, too.
        self.strings = strings + u8::from(strings == 1 && index == 0);
        if index == most {
            self.next = Next::Index;
        } else {
            self.string();
        }
        !(0x20..0x40).contains(&byte)
    }

    /// A string follows, or the next header.
    fn string(&mut self) {
        self.next = if self.strings == 0 {
            Next::Header
        } else {
            Next::String
        };
    }

    fn skip_string(&mut self, length: usize) {
        self.skip = length;
        self.strings = self.strings.saturating_sub(1);
        self.string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_all_forms_are_counted_however_they_are_split() {
        let long = [&[0x00, 0x01, b'n', 0x7f, 0x81, 0x01][..], &[b'v'; 256]].concat();
        let parts: [&[u8]; 7] = [
            // The size of a table, which is no header.
            &[0x3f, 0xe1, 0x1f],
            &[0x82],
            &[0xff, 0x80, 0x01],
            &[0x40, 0x02, b'a', b'b', 0x83, 0x80, 0x80, 0x80],
            &[0x44, 0x01, b'/'],
            &[0x1f, 0x05, 0x00],
            &long,
        ];
        let bytes = parts.concat();
        for size in [1, 2, 3, 7, 1000] {
            let mut block = Block::after(0);
            let count: usize = bytes.chunks(size).map(|part| block.count(part)).sum();
            assert_eq!(count, 6, "{size}");
            assert!(matches!(block.next, Next::Header) && block.skip == 0);
        }
        assert_eq!(Block::after(6).count(&[0x82; 10]), 4);
    }

    #[test]
    fn a_length_without_an_end_is_no_panic() {
        let mut block = Block::default();
        block.count(&[0x00, 0x7f]);
        for _ in 0..100 {
            block.count(&[0xff; 100]);
        }
    }
}
