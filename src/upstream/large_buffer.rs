//! A large buffer in memory of its own, which the system gets back at once when it is dropped.
//!
//! An allocator keeps freed memory for a while, and each thread keeps what is free between its own objects. After
//! hundreds of large bodies, that is as much again as the budget counts. A small container has no space for it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::MmapMut;

/// Buffers of at least this size are worth the calls to the system: about as long as it takes to copy them.
pub(crate) const LARGE: usize = 128 << 10;
/// The system limits the mappings of a process, usually to 65,530.
const MAX_MAPPED: usize = 16 << 10;

static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Bytes that are appended up to a fixed size. What is not filled takes no memory.
#[derive(Debug)]
pub(crate) struct LargeBuffer {
    memory: Memory,
    filled: usize,
}

#[derive(Debug)]
enum Memory {
    Mapped(Mapped),
    /// Where mapping is not possible, or too much is mapped already.
    Allocated(Vec<u8>),
}

#[derive(Debug)]
struct Mapped(MmapMut);

impl Mapped {
    fn new(size: usize) -> Option<Mapped> {
        if MAPPED.fetch_add(1, Ordering::Relaxed) >= MAX_MAPPED {
            MAPPED.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mapped = MmapMut::map_anon(size).map(Mapped);
        if mapped.is_err() {
            MAPPED.fetch_sub(1, Ordering::Relaxed);
        }
        mapped.ok()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        MAPPED.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LargeBuffer {
    /// A buffer with space for `size` bytes.
    pub(crate) fn new(size: usize) -> LargeBuffer {
        // The system maps at least a byte.
        let mapped = if size > 0 { Mapped::new(size) } else { None };
        let mapped = mapped.map(Memory::Mapped);
        LargeBuffer {
            memory: mapped.unwrap_or_else(|| Memory::Allocated(vec![0; size])),
            filled: 0,
        }
    }

    fn memory(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Mapped(mapped) => &mut mapped.0,
            Memory::Allocated(memory) => memory,
        }
    }

    /// Appends what fits, and returns the rest.
    pub(crate) fn push<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        let filled = self.filled;
        let room = self.memory().get_mut(filled..).unwrap_or_default();
        let (fits, rest) = piece.split_at(room.len().min(piece.len()));
        if let Some(room) = room.get_mut(..fits.len()) {
            room.copy_from_slice(fits);
        }
        self.filled += fits.len();
        rest
    }

    pub(crate) fn len(&self) -> usize {
        self.filled
    }

    /// Removes all bytes after the first `size`.
    pub(crate) fn shorten(&mut self, size: usize) {
        self.filled = self.filled.min(size);
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for LargeBuffer {
    fn as_ref(&self) -> &[u8] {
        let memory: &[u8] = match &self.memory {
            Memory::Mapped(mapped) => &mapped.0,
            Memory::Allocated(memory) => memory,
        };
        memory.get(..self.filled).unwrap_or_default()
    }
}

impl Write for LargeBuffer {
    /// Takes fewer bytes once the buffer is full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.filled;
        self.push(bytes);
        Ok(self.filled - before)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_takes_what_fits() {
        for mut buffer in [
            LargeBuffer::new(10),
            LargeBuffer {
                memory: Memory::Allocated(vec![0; 10]),
                filled: 0,
            },
        ] {
            assert_eq!(buffer.push(b"0123456"), b"");
            buffer.shorten(5);
            assert_eq!(buffer.push(b"abcdefg"), b"fg");
            assert_eq!((buffer.len(), buffer.push(b"x")), (10, &b"x"[..]));
            assert!(buffer.write_all(b"x").is_err());
            assert_eq!(buffer.into_bytes(), "01234abcde");
        }
        assert_eq!(LargeBuffer::new(0).push(b"x"), b"x");
    }
}
