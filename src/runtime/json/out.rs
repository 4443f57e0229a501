//! Where a writer puts its text.

use crate::upstream::large_buffer::LargeBuffer;

/// A buffer, or a counter that measures a text before it is written.
pub(crate) trait Out {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// The number of bytes so far.
    fn size(&self) -> usize;

    /// Removes all bytes after the first `size`.
    fn shorten(&mut self, size: usize);
}

impl Out for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn size(&self) -> usize {
        self.len()
    }

    fn shorten(&mut self, size: usize) {
        self.truncate(size);
    }
}

/// For a text whose size is known.
impl Out for LargeBuffer {
    fn put(&mut self, bytes: &[u8]) {
        let rest = self.push(bytes);
        debug_assert!(rest.is_empty());
    }

    fn size(&self) -> usize {
        self.len()
    }

    fn shorten(&mut self, size: usize) {
        LargeBuffer::shorten(self, size);
    }
}

/// Counts bytes.
#[derive(Debug, Default)]
pub(crate) struct Count(usize);

impl Out for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }

    fn size(&self) -> usize {
        self.0
    }

    fn shorten(&mut self, size: usize) {
        self.0 = self.0.min(size);
    }
}
