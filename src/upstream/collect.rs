//! Reads whole bodies, within a limit for the body and the budget of the process.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use memmap2::MmapMut;

use super::budget::{Budget, Charge, SMALL, Store, register_copy};

/// Larger bodies are collected in [`Block`]s of this size. A single buffer that doubles would hold up to three times the
/// body while it grows, unknown to the budget.
const BLOCK: usize = 1 << 20;
/// A body of unknown length is collected in one buffer up to this size.
const MAX_GROWN: usize = 256 << 10;

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

    /// The memory that is charged for `length` bytes of a body.
    fn charged(length: usize, copies: usize) -> usize {
        charged(length, copies)
    }

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
    blocks: Vec<Block>,
    length: usize,
    charge: Charge,
    /// See [`Pieces::charged`].
    charged: fn(usize, usize) -> usize,
}

/// A part of a large body, in memory of its own that the system gets back at once when it is dropped.
///
/// An allocator keeps freed memory for a while. If many large bodies end at the same time, it would hold all of them
/// twice: in their parts, and as a whole.
#[derive(Debug)]
struct Block {
    memory: MmapMut,
    filled: usize,
}

impl Block {
    fn new() -> Result<Block, Overflow> {
        let memory = MmapMut::map_anon(BLOCK).map_err(|_| Overflow::Full)?;
        // What is not filled must not take memory: a large page would. Where there are none, this is an error.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::NoHugePage);
        Ok(Block { memory, filled: 0 })
    }

    /// Appends what fits, and returns the rest.
    fn push<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        let room = self.memory.get_mut(self.filled..).unwrap_or_default();
        let count = room.len().min(piece.len());
        let (fits, rest) = piece.split_at(count);
        if let Some(room) = room.get_mut(..count) {
            room.copy_from_slice(fits);
        }
        self.filled += count;
        rest
    }

    fn bytes(&self) -> &[u8] {
        self.memory.get(..self.filled).unwrap_or_default()
    }
}

/// The memory that is charged for `length` bytes, unless a body is charged otherwise.
fn charged(length: usize, copies: usize) -> usize {
    if length > SMALL {
        length.saturating_mul(copies)
    } else {
        0
    }
}

impl Collector {
    /// Collects at most `most` bytes, with initial space for `expected` of them, unless they are more than a block: an
    /// announced length is not yet received data. `copies` is the number of times that each byte is charged: more than
    /// once if something of the same size will be made from the body.
    pub(crate) fn new(expected: usize, most: u64, copies: usize) -> Collector {
        let (space, most_first) = if expected > BLOCK {
            (0, 0)
        } else {
            (expected, expected.max(MAX_GROWN))
        };
        Collector {
            most,
            copies,
            first: BytesMut::with_capacity(space),
            most_first,
            blocks: Vec::new(),
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
            let mut next = Block::new()?;
            rest = next.push(rest);
            self.blocks.push(next);
        }
        Ok(())
    }

    /// The whole body. Each block is freed as soon as it is copied.
    pub(crate) fn done(self) -> Bytes {
        if self.blocks.is_empty() {
            return self.charge.settle(self.first);
        }
        let mut whole = BytesMut::with_capacity(self.length);
        whole.extend_from_slice(&self.first);
        drop(self.first);
        for block in self.blocks {
            whole.extend_from_slice(block.bytes());
        }
        self.charge.settle(whole)
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
        for size in [1_000, 70_000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let mut collector = Collector::new(0, u64::MAX, 1);
            let mut want = Vec::new();
            for number in 0..5_u8 {
                let piece = vec![number; size];
                collector.push(&piece).unwrap();
                want.extend_from_slice(&piece);
            }
            assert!(collector.first.len() <= MAX_GROWN);
            assert!(collector.done() == want, "{size}");
        }
    }

    #[test]
    fn an_announced_body_has_one_buffer_unless_it_is_large() {
        for (announced, blocks) in [(BLOCK - 7, 0), (BLOCK, 0), (BLOCK + 1, 2), (3 * BLOCK, 3)] {
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
