//! One request and one response on one connection, as a stream.

mod end;
mod long_head;
mod observed;
mod request_head;
mod resend;
mod response_head;
mod stream;
mod upload;

pub(crate) use observed::{context, handshake, write_context};
pub(crate) use response_head::has_surplus;
pub(crate) use stream::Exchange;
pub use stream::RequestBody;
