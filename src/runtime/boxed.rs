//! Boxes futures without a copy.

use std::pin::Pin;

/// A box with the future that `make` returns, which is made inside the box.
///
/// `Box::pin` makes it on the stack and copies it, and the future of an endpoint's work has ten kilobytes.
#[inline(always)]
pub(crate) fn in_place<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let buffer = Box::new_uninit();
    Box::into_pin(Box::write(buffer, make()))
}
