//! The heads of WebSocket frames as they pass (RFC 6455 §5.2): where messages end, and how large they are.

/// Follows one direction of a WebSocket.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The most bytes of a message.
    most: Option<u64>,
    /// The bytes of an incomplete frame header.
    head: [u8; 14],
    have: usize,
    /// Bytes of the current frame's payload that are still to come.
    left: u64,
    /// Bytes of the current message, which may be several frames.
    message: u64,
    /// A close frame has begun: nothing may follow it.
    closed: bool,
    /// Control frames must be as RFC 6455 §5.5 says.
    strict: bool,
}

/// Why a client's frames must not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A message is larger than allowed.
    TooLarge,
    /// A control frame of more than 125 bytes, or in several parts (RFC 6455 §5.5). It would pass any limit.
    Control,
}

/// Reasons to close (RFC 6455 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    GoingAway = 1001,
    Protocol = 1002,
    Policy = 1008,
    TooBig = 1009,
    Internal = 1011,
}

impl Frames {
    /// The state for frames of a client, whose messages have at most `most` bytes.
    pub(super) fn of_client(most: Option<u64>) -> Frames {
        Frames {
            most,
            strict: true,
            ..Frames::default()
        }
    }

    /// The state for frames of a backend, which are not limited.
    pub(super) fn of_backend() -> Frames {
        Frames::default()
    }

    /// Follows these bytes.
    ///
    /// # Errors
    /// A message is too large, or a frame is not as it must be. The frame says so before its payload has come.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
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
    fn begin(&mut self) -> Result<(), Fault> {
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
            let is_final = first & 0x80 != 0;
            if self.strict && (self.left > 125 || !is_final) {
                return Err(Fault::Control);
            }
            return Ok(());
        }
        self.message = self.message.saturating_add(self.left);
        if self.most.is_some_and(|most| self.message > most) {
            return Err(Fault::TooLarge);
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
            |frames: &[Vec<u8>], most| Frames::of_client(Some(most)).pass(&frames.concat()).is_ok();
        let parts = [
            frame(0x01, 60, true),
            frame(0x89, 100, true),
            frame(0x80, 40, true),
        ];
        assert!(fits(&parts, 100) && !fits(&parts, 99));
        let two = [frame(0x81, 70_000, true), frame(0x82, 70_000, true)];
        assert!(fits(&two, 70_000) && !fits(&two, 69_999));
        // This depends only on the head.
        assert_eq!(
            Frames::of_client(Some(10)).pass(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 11, 1, 2, 3, 4]),
            Err(Fault::TooLarge)
        );
        let huge = [0x81, 0x7f, 255, 255, 255, 255, 255, 255, 255, 255];
        let mut frames = Frames::of_backend();
        assert_eq!(frames.pass(&[&huge[..], &huge].concat()), Ok(()));
    }

    #[test]
    fn control_frames_do_not_pass_the_limit() {
        for opcode in [0x8, 0x9, 0xa, 0xb, 0xf] {
            let pass = |frame: &[u8]| Frames::of_client(None).pass(frame);
            assert_eq!(pass(&frame(0x80 | opcode, 125, true)), Ok(()));
            for size in [126, 70_000] {
                let result = pass(&frame(0x80 | opcode, size, true));
                assert_eq!(result, Err(Fault::Control), "{opcode:x} {size}");
            }
            assert_eq!(pass(&frame(opcode, 3, true)), Err(Fault::Control));
            let backend = Frames::of_backend().pass(&frame(0x80 | opcode, 126, false));
            assert_eq!(backend, Ok(()));
        }
    }

    #[test]
    fn nothing_follows_a_close() {
        let mut frames = Frames::of_backend();
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
            let mut frames = Frames::of_client(Some(largest));
            for piece in all.chunks(cut) {
                prop_assert_eq!(frames.pass(piece), Ok(()));
            }
            prop_assert!(frames.is_between());
        }

        #[test]
        fn anything_can_be_followed(bytes: Vec<u8>) {
            let _ = Frames::of_client(Some(3)).pass(&bytes);
        }
    }
}
