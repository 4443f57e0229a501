//! Where a writer puts its text, within the budget of the process.

use bytes::Bytes;

use super::value::Value;
use super::weight::charge_bytes;
use super::write::{Style, size_hint, write};
use crate::upstream::budget::{self, FREE, Full};
use crate::upstream::large_buffer::{LARGE, LargeBuffer};

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

/// A text that is not made yet. It can be written several times.
pub(crate) trait Unmade {
    fn write(&self, out: &mut impl Out);
}

/// Makes a text. It can be many times as large as its data: escapes of JSON and XML take up to six bytes for one. So it
/// is measured first: exactly its size is charged and allocated. Only a text with a short `hint` of its length is
/// written at once.
///
/// # Errors
/// The process holds too much already.
pub(crate) fn made(text: &impl Unmade, hint: usize) -> Result<Bytes, Full> {
    if hint <= FREE {
        let mut out = Vec::with_capacity(hint);
        text.write(&mut out);
        return Ok(budget::charged(Bytes::from(out)));
    }
    let mut count = Count::default();
    text.write(&mut count);
    let charge = charge_bytes(count.size())?;
    if count.size() >= LARGE {
        let mut out = LargeBuffer::new(count.size());
        text.write(&mut out);
        return Ok(charge.hold(out.into_bytes()));
    }
    let mut out = Vec::with_capacity(count.size());
    text.write(&mut out);
    Ok(charge.hold(Bytes::from(out)))
}

/// The JSON text of `value`, which is charged until its last copy is dropped.
///
/// # Errors
/// The process holds too much already.
pub(crate) fn charged_text(value: &Value, style: Style) -> Result<Bytes, Full> {
    made(&(value, style), size_hint(value))
}

impl Unmade for (&Value, Style) {
    fn write(&self, out: &mut impl Out) {
        write(out, self.0, self.1);
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
