//! The bytes of commands, and the slots of keys in a cluster.

use bytes::Bytes;

/// The number of slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// A command as an array of bulk strings, which is how all clients send them.
#[derive(Debug, Clone)]
pub(crate) struct Command(pub(super) Bytes);

impl Command {
    pub(crate) fn new(words: &[&[u8]]) -> Command {
        Command::of(words.iter().copied())
    }

    /// `EVAL` or `EVALSHA` with a script or its digest.
    pub(crate) fn script(
        name: &str,
        script: &str,
        keys: &[&str],
        arguments: &[impl AsRef<str>],
    ) -> Command {
        let count = keys.len().to_string();
        let head = [name.as_bytes(), script.as_bytes(), count.as_bytes()];
        let keys = keys.iter().map(|key| key.as_bytes());
        let arguments = arguments.iter().map(|text| text.as_ref().as_bytes());
        let words: smallvec::SmallVec<[&[u8]; 16]> =
            head.into_iter().chain(keys).chain(arguments).collect();
        Command::new(&words)
    }

    /// Its keys and values: a server can repeat them in an error, and they may be secrets. The name of the command and a script
    /// are none.
    pub(super) fn values(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.splitn(2, |byte| *byte == b'\n').nth(1);
        let mut words = std::iter::from_fn(move || {
            let all = rest?;
            let end = all.iter().position(|byte| *byte == b'\n')?;
            let digits = std::str::from_utf8(all.get(1..end)?).ok()?;
            let length: usize = digits.trim_end().parse().ok()?;
            let (word, more) = all.get(end + 1..)?.split_at_checked(length)?;
            rest = more.get(2..);
            Some(word)
        });
        let name = words.next().unwrap_or_default();
        let is_script = name.eq_ignore_ascii_case(b"EVAL") || name.eq_ignore_ascii_case(b"EVALSHA");
        words.skip(usize::from(is_script))
    }

    fn of<'a>(words: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Command {
        let mut digits = itoa::Buffer::new();
        let size: usize = words.clone().map(|word| word.len() + 16).sum();
        let mut bytes = Vec::with_capacity(size + 16);
        let mut push = |kind: u8, number: usize, bytes: &mut Vec<u8>| {
            bytes.push(kind);
            bytes.extend_from_slice(digits.format(number).as_bytes());
            bytes.extend_from_slice(b"\r\n");
        };
        push(b'*', words.len(), &mut bytes);
        for word in words {
            push(b'$', word.len(), &mut bytes);
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        Command(bytes.into())
    }
}

/// The slot of a key: CRC-16 (XMODEM) of the part between the first braces, or of the whole key.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    let sum = tag.unwrap_or(key).iter().fold(0_u16, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| {
            let shifted = sum << 1;
            if sum & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    });
    sum % SLOTS
}
