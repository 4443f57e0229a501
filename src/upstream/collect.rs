//! Bodies that are read whole, within a limit of their own and the budget of the process.

use bytes::{Bytes, BytesMut};

use super::budget::{Budget, Charge, FREE};

/// Larger bodies are collected in blocks of this size. One buffer that doubles would hold up to three times the body
/// while it grows, and the budget would not know.
const BLOCK: usize = 1 << 20;

/// Why a body cannot be collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// More than its own limit.
    TooLarge,
    /// The process holds as many bytes of bodies as it may.
    Full,
}

/// A body under way.
#[derive(Debug)]
pub struct Collector {
    most: u64,
    copies: usize,
    blocks: Vec<Bytes>,
    last: BytesMut,
    length: usize,
    charge: Charge,
}

impl Collector {
    /// Collects at most `most` bytes, with room for `expected` of them at first. What is announced has not arrived, so
    /// the room is one block at most. `copies` tells how often the budget is charged for each byte: more than once where
    /// something as large will be made of the body.
    pub fn new(expected: usize, most: u64, copies: usize) -> Collector {
        Collector {
            most,
            copies,
            blocks: Vec::new(),
            last: BytesMut::with_capacity(expected.min(BLOCK)),
            length: 0,
            charge: Budget::process().charge(),
        }
    }

    /// Appends the next piece.
    ///
    /// # Errors
    /// The body is too large, or there is no room; it is lost then.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Overflow> {
        self.length += piece.len();
        if self.length as u64 > self.most {
            return Err(Overflow::TooLarge);
        }
        if self.length > FREE {
            let charged = self.length.saturating_mul(self.copies);
            self.charge.cover(charged).map_err(|_| Overflow::Full)?;
        }
        if !self.last.is_empty() && self.last.len() + piece.len() > BLOCK {
            let next = BytesMut::with_capacity(BLOCK.max(piece.len()));
            let full = std::mem::replace(&mut self.last, next);
            self.blocks.push(full.freeze());
        }
        self.last.extend_from_slice(piece);
        Ok(())
    }

    /// The whole body. Each block is freed as soon as it has been copied.
    pub fn done(self) -> Bytes {
        if self.blocks.is_empty() {
            return self.charge.settle(self.last);
        }
        let mut whole = BytesMut::with_capacity(self.length);
        for block in self.blocks {
            whole.extend_from_slice(&block);
        }
        whole.extend_from_slice(&self.last);
        drop(self.last);
        self.charge.settle(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_become_one_body() {
        for size in [1_000, 70_000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let mut collector = Collector::new(0, u64::MAX, 1);
            let mut want = Vec::new();
            for number in 0..5_u8 {
                let piece = vec![number; size];
                collector.push(&piece).unwrap();
                want.extend_from_slice(&piece);
            }
            let blocks = collector.blocks.iter().map(Bytes::len);
            assert!(blocks.max().unwrap_or(0) <= BLOCK.max(size));
            assert!(collector.done() == want, "{size}");
        }
    }

    #[test]
    fn a_body_has_a_limit() {
        let mut collector = Collector::new(10, 10, 1);
        collector.push(b"0123456789").unwrap();
        assert_eq!(collector.push(b"x"), Err(Overflow::TooLarge));
    }
}
