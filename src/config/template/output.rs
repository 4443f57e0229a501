//! The rendered text, and the origin of each piece.

/// The maximum size of the rendered text, which is that of any configuration file.
const MOST: usize = crate::config::load::MAX_FILE_BYTES as usize;

/// The origin of a piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) file: u32,
    /// The byte offset of the text, or of the action that printed it. No file has as many as a `u32` can count.
    pub(super) offset: u32,
    /// Whether the piece is text of the template, so that offsets within it are added.
    pub(super) verbatim: bool,
}

/// The output so far.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    /// The offset in `bytes` at which each piece starts, ascending.
    pub(super) pieces: Vec<(u32, Origin)>,
    /// The position up to which quotes have been tracked. They are tracked only on request.
    tracked: usize,
    quoted: bool,
    escaped: bool,
}

impl Output {
    /// Appends a piece.
    ///
    /// # Errors
    /// The text becomes too large. The error is the message for the operator.
    pub(super) fn push(&mut self, bytes: &[u8], origin: Origin) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.bytes.len() + bytes.len() > MOST {
            return Err(format!(
                "the rendered text is larger than {} MiB",
                MOST >> 20
            ));
        }
        self.pieces.push((self.bytes.len() as u32, origin));
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Tracks whether the end of the output is inside a JSON string.
    fn follow_quotes(&mut self) {
        let untracked = self.bytes.get(self.tracked..).unwrap_or_default();
        if untracked.is_empty() {
            return;
        }
        self.tracked = self.bytes.len();
        let mut rest = &untracked[usize::from(std::mem::take(&mut self.escaped))..];
        while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
            let is_escape = rest[at] == b'\\' && self.quoted;
            self.quoted ^= rest[at] == b'"';
            self.escaped = is_escape && at + 1 == rest.len();
            let used = at + 1 + usize::from(is_escape);
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// Whether the end of the output is inside a JSON string.
    pub(super) fn is_inside_string(&mut self) -> bool {
        self.follow_quotes();
        self.quoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_tracked_across_pieces() {
        for (pieces, want) in [
            (&["{\"a"][..], true),
            (&["{\"a\"", ": "], false),
            (&["\"a\\", "\"b"], true),
            (&["\"a\\\\", "\""], false),
            (&["\\", "\""], true),
            (&["\"", "\\", "n", "\""], false),
        ] {
            let mut output = Output::default();
            for piece in pieces {
                let origin = Origin {
                    file: 0,
                    offset: 0,
                    verbatim: true,
                };
                output.push(piece.as_bytes(), origin).unwrap();
                // Tracking continues from where it was requested.
                output.is_inside_string();
            }
            let mut whole = Output::default();
            let origin = Origin {
                file: 0,
                offset: 0,
                verbatim: true,
            };
            whole.push(pieces.concat().as_bytes(), origin).unwrap();
            assert_eq!(whole.is_inside_string(), want, "{pieces:?}");
            assert_eq!(output.is_inside_string(), want, "{pieces:?}");
        }
    }
}
