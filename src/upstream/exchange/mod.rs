//! One request and one answer on one connection, as a stream.

mod again;
mod check;
mod head;
mod stream;

pub use stream::{Exchange, RequestBody};
