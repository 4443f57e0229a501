//! Processes a request: calls the backends, merges or streams their responses, under one deadline.
//!
//! Everything runs in the task of the request: if the client closes its connection, the future is dropped with every call.
//! Only shadow calls are separate tasks.
//!
//! | module | content |
//! |---|---|
//! | `client` | [`ClientCall`]: what the pipeline needs of a request, as owned values |
//! | `endpoint` | [`stream()`] and [`compose`]: from a request to an [`Outcome`] |
//! | `downstream` | [`Downstream`]: the client side; implemented by the server, and by tests in memory |
//! | `compose` | a composed endpoint: the calls, merged |
//! | `stream` | a streamed endpoint: one call, whose response is copied while it arrives |
//! | `prepare_stream`, `response_steps` | a streamed request up to its call; the steps that see its response |
//! | `client_head`, `copy`, `trailers` | the three parts of a streamed response |
//! | `websocket` | the handshake of a WebSocket |
//! | `parallel`, `sequential`, `fallback` | several backends: at once, one after the other, or until one succeeds |
//! | `backend` | one backend: builds the call, makes it, reads the response |
//! | `conditions` | which backends of an endpoint are called for a request |
//! | `race` | several equal calls at once |
//! | `pipe_steps` | scripts, expressions and schemas around the endpoint or around one call |
//! | `seed` | what the steps around a call see of the request |
//! | `backend_steps` | the steps around one call; each is ended exactly once |
//! | `fetch` | credentials and cache around one call |
//! | `response_cache` | the cache, and equal calls at the same time |
//! | `transport` | sends calls to backends: the upstream client, or a test |
//! | `time_limit` | the time limit of a group of calls |
//! | `merge` | merges the parts of a response |
//! | `finish` | static data, signature, encoding, the response to a failure |
//! | `unread` | data that nothing reads before they are written |
//! | `shadow` | calls whose responses are ignored |

mod backend;
mod backend_steps;
mod client;
mod client_head;
mod compose;
mod conditions;
mod copy;
mod downstream;
mod endpoint;
mod fallback;
mod fetch;
mod finish;
mod merge;
mod parallel;
mod pipe_steps;
mod prepare_stream;
mod race;
mod response_cache;
mod response_steps;
mod seed;
mod sequential;
mod shadow;
mod stream;
mod time_limit;
mod trailers;
mod transport;
mod unread;
mod websocket;

#[cfg(test)]
mod tests;

pub use client::ClientCall;
#[cfg(feature = "amqp")]
pub(crate) use compose::deliver;
pub use compose::run_with;
pub(crate) use downstream::Downstream;
pub use endpoint::Ending;
pub(crate) use endpoint::{Ended, Outcome, Request, compose, stream};
pub use transport::Upstream;
pub(crate) use unread::mark_unread;
pub(crate) use websocket::{declined, open_tunnel};
