//! One request and one response on one connection, as a stream.

mod again;
mod check;
mod end;
mod head;
mod long;
mod observed;
mod stream;

pub use check::has_surplus;
pub use observed::{handshake, write_context};
pub use stream::{Exchange, RequestBody};
