//! Reads whole bodies, within a limit for the body and the budget of the process.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use super::budget::{Budget, Charge, SMALL, Store, register_copy};
use super::large_buffer::{LARGE, LargeBuffer};

/// The size of the parts in which larger bodies are collected. A single buffer that doubles would hold up to three times
/// the body while it grows, unknown to the budget.
const BLOCK: usize = 1 << 20;

/// Why a body cannot be collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The body exceeds its own limit.
    TooLarge,
    /// The process holds as many bytes of bodies as it may.
    Full,
}

/// A body that comes in pieces.
pub(crate) trait Pieces: Send {
    type Error;

    /// Whether what is charged in addition to the body lasts as long as the body.
    const KEEPS_BUFFER: bool;

    /// The memory that is charged for `length` bytes of a body.
    fn charged(length: usize, copies: usize) -> usize;

    /// The next piece; `None` after the last one.
    fn piece(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;

    /// The error for a body that cannot be collected.
    fn overflow(overflow: Overflow, most: u64) -> Self::Error;
}

/// Reads a body to its end, at most `most` bytes; `announced` is its length where that is known. The usual body is one
/// piece, which is returned as it came. `copies`: see [`Collector::new`].
///
/// # Errors
/// The body is too large (an announced length is checked before reading), exceeds the budget, or ends early.
pub(crate) async fn whole<P: Pieces>(
    from: &mut P,
    announced: Option<u64>,
    most: u64,
    copies: usize,
) -> Result<Bytes, P::Error> {
    let too_large = || P::overflow(Overflow::TooLarge, most);
    if announced.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let Some(first) = from.piece().await? else {
        return Ok(Bytes::new());
    };
    if first.len() as u64 > most {
        return Err(too_large());
    }
    let full = |overflow| P::overflow(overflow, most);
    let mut charge = Charge::default();
    if first.len() > SMALL {
        let charged = P::charged(first.len(), copies);
        charge.cover(charged).map_err(|_| full(Overflow::Full))?;
    }
    let Some(second) = from.piece().await? else {
        if !P::KEEPS_BUFFER {
            charge.lower((first.len() * copies) as u64);
        }
        return Ok(charge.hold(first));
    };
    let expected = announced.and_then(|length| usize::try_from(length).ok());
    let capacity = expected.unwrap_or(first.len() * 4);
    let whole = Collector::new(capacity.max(first.len() + second.len()), most, copies);
    let mut whole = Collector {
        charge,
        charged: P::charged,
        ..whole
    };
    whole.push(&first).map_err(full)?;
    let mut piece = Some(second);
    while let Some(bytes) = piece {
        whole.push(&bytes).map_err(full)?;
        piece = from.piece().await?;
    }
    Ok(whole.done())
}

/// A body that is being collected.
#[derive(Debug)]
pub(crate) struct Collector {
    most: u64,
    copies: usize,
    /// The first bytes, or the whole body if it is not large.
    first: BytesMut,
    /// The maximum size of the first buffer.
    most_first: usize,
    /// The rest, or the whole body if it is large.
    blocks: Vec<LargeBuffer>,
    /// The size of the first block.
    first_block: usize,
    length: usize,
    charge: Charge,
    /// See [`Pieces::charged`].
    charged: fn(usize, usize) -> usize,
}

/// The memory that is charged for `length` bytes, unless a body is charged otherwise.
pub(crate) fn charged(length: usize, copies: usize) -> usize {
    if length > SMALL {
        length.saturating_mul(copies)
    } else {
        0
    }
}

impl Collector {
    /// Collects at most `most` bytes, with initial space for `expected` of them, but not for more than a block: an
    /// announced length is not yet received data. `copies` is the number of times that each byte is charged: more than
    /// once if something of the same size will be made from the body.
    pub(crate) fn new(expected: usize, most: u64, copies: usize) -> Collector {
        let (space, most_first, first_block) = match expected {
            0..LARGE => (expected, LARGE, BLOCK),
            LARGE..=BLOCK => (0, 0, expected),
            _ => (0, 0, BLOCK),
        };
        Collector {
            most,
            copies,
            first: BytesMut::with_capacity(space),
            most_first,
            blocks: Vec::new(),
            first_block,
            length: 0,
            charge: Budget::process().charge(),
            charged,
        }
    }

    /// Appends the next piece.
    ///
    /// # Errors
    /// The body is too large or the budget is full. The body is discarded then.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Overflow> {
        self.length += piece.len();
        if self.length as u64 > self.most {
            return Err(Overflow::TooLarge);
        }
        let charged = (self.charged)(self.length, self.copies);
        self.charge.cover(charged).map_err(|_| Overflow::Full)?;
        if self.blocks.is_empty() && self.length <= self.most_first {
            self.first.extend_from_slice(piece);
            return Ok(());
        }
        let mut rest = match self.blocks.last_mut() {
            Some(last) => last.push(piece),
            None => piece,
        };
        while !rest.is_empty() {
            let size = if self.blocks.is_empty() {
                self.first_block
            } else {
                BLOCK
            };
            let mut next = LargeBuffer::new(size);
            rest = next.push(rest);
            self.blocks.push(next);
        }
        Ok(())
    }

    /// The whole body. Each block is freed as soon as it is copied.
    pub(crate) fn done(mut self) -> Bytes {
        if self.blocks.is_empty() {
            return self.charge.settle(self.first);
        }
        let only = if self.first.is_empty() && self.blocks.len() == 1 {
            self.blocks.pop()
        } else {
            None
        };
        let whole = only.unwrap_or_else(|| {
            let mut whole = LargeBuffer::new(self.length);
            whole.push(&self.first);
            drop(self.first);
            for block in self.blocks {
                whole.push(block.as_ref());
            }
            whole
        });
        self.charge.settle_large(whole)
    }
}

/// A copy of a body that is to be stored, within the budget of stored responses. It gives way to requests.
#[derive(Debug)]
pub(crate) struct StoreCopy {
    shared: Arc<Shared>,
    is_registered: bool,
}

/// `None` once the copy was given up.
#[derive(Debug)]
struct Shared(Mutex<Option<Collector>>);

/// A smaller copy cannot be evicted.
const MAX_KEPT: usize = 64 * 1024;

impl StoreCopy {
    /// A copy of at most `most` bytes. Each byte is charged twice, because the copy is copied when it is stored.
    pub(crate) fn new(most: u64) -> StoreCopy {
        let collector = Collector {
            charge: Budget::stores().charge(),
            ..Collector::new(0, most, 2)
        };
        StoreCopy {
            shared: Arc::new(Shared(Mutex::new(Some(collector)))),
            is_registered: false,
        }
    }

    /// Appends the next piece.
    ///
    /// # Errors
    /// The body is too large, the budget is full, or the copy was evicted.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Overflow> {
        let mut collector = self.shared.locked();
        let Some(copy) = collector.as_mut() else {
            return Err(Overflow::Full);
        };
        copy.push(piece)?;
        let is_large = copy.charge.bytes() > MAX_KEPT;
        drop(collector);
        if is_large && !self.is_registered {
            self.is_registered = true;
            register_copy(&self.shared);
        }
        Ok(())
    }

    /// The whole body, unless the copy was evicted.
    pub(crate) fn done(self) -> Option<Bytes> {
        let copy = self.shared.locked().take();
        copy.map(Collector::done)
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, Option<Collector>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Shared {
    fn bytes(&self) -> usize {
        let copy = self.locked();
        copy.as_ref().map_or(0, |copy| copy.charge.bytes())
    }

    fn evict(&self, _: usize) -> usize {
        let copy = self.locked().take();
        copy.map_or(0, |copy| copy.charge.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_are_joined() {
        let sizes = [1_000, 70_000, LARGE, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK];
        for size in sizes {
            let mut collector = Collector::new(0, u64::MAX, 1);
            let mut want = Vec::new();
            for number in 0..5_u8 {
                let piece = vec![number; size];
                collector.push(&piece).unwrap();
                want.extend_from_slice(&piece);
            }
            assert!(collector.first.len() <= LARGE);
            assert!(collector.done() == want, "{size}");
        }
    }

    #[test]
    fn an_announced_body_has_one_buffer_unless_it_is_large() {
        for (announced, blocks) in [
            (LARGE - 1, 0),
            (LARGE, 1),
            (BLOCK, 1),
            (BLOCK + 1, 2),
            (3 * BLOCK, 3),
        ] {
            let mut collector = Collector::new(announced, u64::MAX, 1);
            let want: Vec<u8> = (0..announced).map(|n| (n % 251) as u8).collect();
            for piece in want.chunks(60_000) {
                collector.push(piece).unwrap();
            }
            assert_eq!(collector.blocks.len(), blocks, "{announced}");
            assert!(collector.done() == want, "{announced}");
        }
    }

    #[test]
    fn a_copy_that_was_evicted_is_not_stored() {
        let mut copy = StoreCopy::new(1 << 20);
        copy.push(&[1; 100_000]).unwrap();
        assert_eq!(copy.shared.bytes(), 200_000);
        let mut other = StoreCopy::new(1 << 20);
        other.push(&[1; 100_000]).unwrap();
        assert_eq!(copy.shared.evict(1), 200_000);
        assert_eq!(copy.shared.bytes(), 0);
        assert_eq!(copy.push(b"x"), Err(Overflow::Full));
        assert!(copy.done().is_none());
        assert_eq!(other.done().unwrap().len(), 100_000);
    }

    #[test]
    fn a_body_has_a_limit() {
        let mut collector = Collector::new(10, 10, 1);
        collector.push(b"0123456789").unwrap();
        assert_eq!(collector.push(b"x"), Err(Overflow::TooLarge));
    }
}
