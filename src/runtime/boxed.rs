//! Boxes without a copy.

use std::pin::Pin;

/// A box with the future that `make` returns, which is made inside the box.
///
/// `Box::pin` makes it on the stack and copies it, and the future of an endpoint's work has ten kilobytes.
#[inline(always)]
pub(crate) fn in_place<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(boxed(make))
}

/// The same for a large value of another kind.
#[inline(always)]
pub(crate) fn boxed<T>(make: impl FnOnce() -> T) -> Box<T> {
    Box::write(Box::new_uninit(), make())
}
