//! One request and one response on one connection, as a stream.

mod again;
mod check;
mod end;
mod head;
mod long;
mod observed;
mod stream;
mod upload;

pub(crate) use check::has_surplus;
pub(crate) use observed::{handshake, write_context};
pub(crate) use stream::Exchange;
pub use stream::RequestBody;
