//! The heads of WebSocket frames as they pass (RFC 6455 §5.2): where messages end, and how large they are.

/// Follows one direction of a WebSocket.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The most bytes of a message.
    most: Option<u64>,
    /// What is here of a head that is not complete.
    head: [u8; 14],
    have: usize,
    /// Bytes of the current frame's payload that are still to come.
    left: u64,
    /// Bytes of the current message, which may be several frames.
    message: u64,
    /// A close frame has begun: nothing may follow it.
    closed: bool,
}

/// A message is larger than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Reasons to close (RFC 6455 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    GoingAway = 1001,
    Policy = 1008,
    TooBig = 1009,
    Internal = 1011,
}

impl Frames {
    pub(super) fn new(most: Option<u64>) -> Frames {
        Frames {
            most,
            ..Frames::default()
        }
    }

    /// Follows these bytes.
    ///
    /// # Errors
    /// A message is too large. The frame says so before its payload has come.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Result<(), TooLarge> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len() as u64);
                self.left -= skipped;
                bytes = bytes.get(skipped as usize..).unwrap_or_default();
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else {
                break;
            };
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *first;
            }
            self.have += 1;
            bytes = rest;
            if self.have >= self.size_of_head() {
                self.begin()?;
            }
        }
        Ok(())
    }

    /// Whether the next byte begins a frame, so that another frame may be put in here.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0 && !self.closed
    }

    /// Whether this side has sent a close frame.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    fn size_of_head(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let length = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 != 0 { 4 } else { 0 };
        2 + length + mask
    }

    /// A head is complete.
    fn begin(&mut self) -> Result<(), TooLarge> {
        let [first, second, ..] = self.head;
        let extended = |bytes: &[u8]| bytes.iter().fold(0, |sum, b| sum << 8 | u64::from(*b));
        self.left = match second & 0x7f {
            126 => extended(&self.head[2..4]),
            127 => extended(&self.head[2..10]),
            short => u64::from(short),
        };
        self.have = 0;
        let is_control = first & 0x08 != 0;
        self.closed |= first & 0x0f == 0x08;
        if is_control {
            return Ok(());
        }
        self.message = self.message.saturating_add(self.left);
        if self.most.is_some_and(|most| self.message > most) {
            return Err(TooLarge);
        }
        if first & 0x80 != 0 {
            self.message = 0;
        }
        Ok(())
    }
}

/// A close frame for the client, which servers do not mask.
pub(super) fn close(reason: Reason) -> [u8; 4] {
    let [high, low] = (reason as u16).to_be_bytes();
    [0x88, 2, high, low]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, size: usize, is_masked: bool) -> Vec<u8> {
        let mask = u8::from(is_masked) << 7;
        let mut out = match size {
            0..=125 => vec![first, mask | size as u8],
            126..=65535 => [&[first, mask | 126][..], &(size as u16).to_be_bytes()].concat(),
            _ => [&[first, mask | 127][..], &(size as u64).to_be_bytes()].concat(),
        };
        out.extend(std::iter::repeat_n(7, if is_masked { 4 } else { 0 }));
        out.extend(std::iter::repeat_n(0x88, size));
        out
    }

    #[test]
    fn messages_are_measured_over_their_frames() {
        let fits =
            |frames: &[Vec<u8>], most| Frames::new(Some(most)).pass(&frames.concat()).is_ok();
        let parts = [
            frame(0x01, 60, true),
            frame(0x89, 100, true),
            frame(0x80, 40, true),
        ];
        assert!(fits(&parts, 100) && !fits(&parts, 99));
        let two = [frame(0x81, 70_000, true), frame(0x82, 70_000, true)];
        assert!(fits(&two, 70_000) && !fits(&two, 69_999));
        // The head alone tells.
        assert_eq!(
            Frames::new(Some(10)).pass(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 11, 1, 2, 3, 4]),
            Err(TooLarge)
        );
        let huge = [0x81, 0x7f, 255, 255, 255, 255, 255, 255, 255, 255];
        let mut frames = Frames::new(None);
        assert_eq!(frames.pass(&[&huge[..], &huge].concat()), Ok(()));
    }

    #[test]
    fn nothing_follows_a_close() {
        let mut frames = Frames::new(None);
        frames.pass(&frame(0x81, 3, false)).unwrap();
        assert!(frames.is_between());
        frames.pass(&frame(0x88, 2, false)).unwrap();
        assert!(!frames.is_between());
        assert_eq!(close(Reason::TooBig), [0x88, 2, 0x03, 0xf1]);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_the_same_frames(
            sizes in prop::collection::vec(0_usize..70_000, 1..5), cut in 1_usize..5000, is_masked: bool
        ) {
            let all: Vec<u8> = sizes.iter().flat_map(|size| frame(0x82, *size, is_masked)).collect();
            let largest = sizes.iter().max().copied().unwrap() as u64;
            let mut frames = Frames::new(Some(largest));
            for piece in all.chunks(cut) {
                prop_assert_eq!(frames.pass(piece), Ok(()));
            }
            prop_assert!(frames.is_between());
        }

        #[test]
        fn anything_can_be_followed(bytes: Vec<u8>) {
            let _ = Frames::new(Some(3)).pass(&bytes);
        }
    }
}
