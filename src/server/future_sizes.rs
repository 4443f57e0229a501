//! The sizes of futures, for tests.

/// An argument of a call that is not made.
pub(super) fn any<T>() -> T {
    unreachable!("the call is not made")
}

/// The size of the future that a call returns. The call is not made.
pub(super) fn size_of_future<F: Future>(_: impl FnOnce() -> F) -> usize {
    size_of::<F>()
}
